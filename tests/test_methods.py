"""Penalties and top-k, against values worked out by hand and against their definitions."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from sparse_kl import kl_penalty
from sparse_ksparse import top_k
from sparse_l1 import l1_penalty

settings.register_profile("quiet", deadline=None, max_examples=200, derandomize=True)
settings.load_profile("quiet")


def codes(low, high):
    shapes = st.tuples(st.integers(1, 6), st.integers(1, 12))
    numbers = st.floats(low, high, width=32, allow_subnormal=False)
    return arrays.arrays("float32", shapes, elements=numbers).map(torch.from_numpy)


def test_l1_by_hand():
    code = torch.tensor([[1.0, 0.0, 2.0], [0.5, 0.5, 0.0]])
    assert l1_penalty(code, 0.1).item() == pytest.approx(0.1 * (3.0 + 1.0) / 2)


def test_l1_sums_over_units_and_averages_over_images():
    code = torch.rand(5, 7)
    assert l1_penalty(torch.cat([code, code]), 1.0) == pytest.approx(l1_penalty(code, 1.0).item())
    assert l1_penalty(torch.cat([code, code], dim=1), 1.0) == pytest.approx(2 * l1_penalty(code, 1.0).item())


def test_kl_by_hand():
    # Means 0.2 and 0.5 against ρ = 0.1.
    code = torch.tensor([[0.1, 0.5], [0.3, 0.5]])
    first = 0.1 * math.log(0.1 / 0.2) + 0.9 * math.log(0.9 / 0.8)
    second = 0.1 * math.log(0.1 / 0.5) + 0.9 * math.log(0.9 / 0.5)
    assert kl_penalty(code, 0.1, 2.0).item() == pytest.approx(2 * (first + second), rel=1e-5)


def test_kl_has_rho_first():
    # KL(ρ ‖ ρ̂) grows without bound as a unit dies; KL(ρ̂ ‖ ρ) would stop at -log(1 - ρ) = 0.105.
    assert kl_penalty(torch.full((4, 1), 1e-6), 0.1, 1.0) > 1


def test_kl_gradient_pulls_towards_rho():
    code = torch.tensor([[0.01, 0.5]], requires_grad=True)
    kl_penalty(code, 0.1, 1.0).backward()
    assert code.grad[0, 0] < 0 < code.grad[0, 1]


def test_l1_is_float32_for_a_bfloat16_code():
    penalty = l1_penalty(torch.ones(1000, 301, dtype=torch.bfloat16), 1.0)
    assert penalty.dtype == torch.float32 and penalty.item() == 301  # which is no bfloat16 number


@given(codes(0, 2.0**100), st.floats(0, 100))
def test_l1_is_finite_and_never_negative(code, weight):
    penalty = l1_penalty(code, weight)
    assert penalty.isfinite() and penalty >= 0
    assert (penalty == 0) == (weight * code.sum() == 0)


@given(codes(0, 1), st.floats(0.001, 0.999))
def test_kl_is_finite_and_never_negative(code, rho):
    penalty = kl_penalty(code, rho, 1.0)
    assert penalty.isfinite() and penalty >= 0


@given(st.floats(0.001, 0.999), st.integers(1, 5), st.integers(1, 5))
def test_kl_is_zero_at_rho(rho, images, units):
    code = torch.full((images, units), rho, dtype=torch.float64)
    assert kl_penalty(code, rho, 1.0).item() == pytest.approx(0, abs=1e-12)


@given(st.floats(0.001, 0.999), st.floats(0.001, 0.999))
def test_kl_is_positive_away_from_rho(rho, mean):
    penalty = kl_penalty(torch.full((1, 1), mean, dtype=torch.float64), rho, 1.0).item()
    if abs(rho - mean) > 1e-5:
        assert penalty > 0
        assert penalty >= 2 * (rho - mean) ** 2 * (1 - 1e-6) - 1e-15  # Pinsker's inequality


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_kl_is_defined_at_the_ends(value):
    code = torch.full((3, 4), value, requires_grad=True)
    penalty = kl_penalty(code, 0.08, 1.0)
    penalty.backward()
    assert penalty.isfinite() and penalty > 1 and code.grad.isfinite().all()


@given(codes(0, 2.0**100), st.data())
def test_top_k_keeps_the_k_largest(code, draw):
    k = draw.draw(st.integers(1, code.shape[1]))
    kept = top_k(code, k)
    assert ((kept == code) | (kept == 0)).all()
    assert ((kept != 0).sum(dim=1) <= k).all()
    assert torch.equal(kept.sort(dim=1, descending=True).values[:, :k], code.sort(dim=1, descending=True).values[:, :k])


@given(codes(0, 1))
def test_top_k_of_everything_is_the_code_itself(code):
    assert torch.equal(top_k(code, code.shape[1]), code)


@pytest.mark.parametrize("value", [0.0, 3.0])
def test_top_k_keeps_exactly_k_of_equals(value):
    code = torch.full((5, 9), value, requires_grad=True)
    top_k(code, 4).sum().backward()
    assert (code.grad != 0).sum(dim=1).tolist() == [4] * 5


def test_top_k_passes_gradient_to_those_k_only():
    code = torch.tensor([[3.0, 1.0, 2.0, 0.5]], requires_grad=True)
    (top_k(code, 2) * torch.tensor([[10.0, 20.0, 30.0, 40.0]])).sum().backward()
    assert code.grad.tolist() == [[10.0, 0.0, 30.0, 0.0]]
