"""The methods: penalties and top-k by hand and by definition, what they start from, what they take and give."""

import copy
import math

import pytest
import torch
import torch.nn.functional as F
from conftest import METHODS
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

import common
from sparse_kl import kl_penalty
from sparse_ksparse import top_k
from sparse_l1 import l1_penalty


def codes(low, high):
    shapes = st.tuples(st.integers(1, 6), st.integers(1, 12))
    numbers = st.floats(low, high, width=32, allow_subnormal=False)
    return arrays.arrays("float32", shapes, elements=numbers).map(torch.from_numpy)


@pytest.mark.parametrize("scale", [1, 30, 3000])
def test_cross_entropy_and_its_gradient_are_those_of_torch(scale):
    generator = torch.Generator().manual_seed(0)
    output = scale * torch.randn(20, 784, generator=generator)
    images = torch.randint(256, (20, 784), generator=generator) / 255
    ours, theirs = (output.clone().requires_grad_() for _ in range(2))
    loss = common.cross_entropy(ours, images)
    expected = torch.nn.functional.binary_cross_entropy_with_logits(theirs, images)
    (3 * loss).backward()
    (3 * expected).backward()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    assert torch.allclose(ours.grad, theirs.grad, rtol=1e-5, atol=1e-9)


def test_cross_entropy_wants_one_shape():
    with pytest.raises(common.UserError, match="shapes differ"):
        common.cross_entropy(torch.zeros(2, 784), torch.zeros(784))


def test_l1_by_hand():
    code = torch.tensor([[1.0, 0.0, 2.0], [0.5, 0.5, 0.0]])
    assert l1_penalty(code, 0.1).item() == pytest.approx(0.1 * (3.0 + 1.0) / 2)
    for name in ("sparse_l1", "sparse_ksparse"):
        model = METHODS[name].build(l1_weight=0.1)
        assert model.penalty(None, code).item() == pytest.approx(0.1 * (3.0 + 1.0) / 2)


def test_kl_by_hand():
    # Means 0.2 and 0.5 against ρ = 0.1.
    hidden = torch.tensor([[0.1, 0.5], [0.3, 0.5]]).logit()
    first = 0.1 * math.log(0.1 / 0.2) + 0.9 * math.log(0.9 / 0.8)
    second = 0.1 * math.log(0.1 / 0.5) + 0.9 * math.log(0.9 / 0.5)
    assert kl_penalty(hidden, 0.1, 2.0).item() == pytest.approx(2 * (first + second), rel=1e-5)


def test_kl_has_rho_first():
    # KL(ρ ‖ ρ̂) grows without bound as a unit dies; KL(ρ̂ ‖ ρ) would stop at -log(1 - ρ) = 0.105.
    assert kl_penalty(torch.full((4, 1), 1e-6).logit(), 0.1, 1.0) > 1


@pytest.mark.parametrize("value", [-80.0, -18.0, 18.0, 80.0])
def test_kl_pulls_a_unit_back_from_the_ends(value):
    """However far it is off, or on, for all images: with the exact gradient, computed from logarithms in float64."""
    hidden = torch.full((3, 1), value, requires_grad=True)
    kl_penalty(hidden, 0.08, 1.0).backward()
    exact = torch.full((3, 1), value, dtype=torch.float64, requires_grad=True)
    log_on, log_off = (F.logsigmoid(sign * exact).logsumexp(0) - math.log(3) for sign in (1, -1))
    (0.08 * (math.log(0.08) - log_on) + 0.92 * (math.log(0.92) - log_off)).sum().backward()
    assert hidden.grad.flatten().tolist() == pytest.approx(exact.grad.flatten().tolist(), rel=1e-4)
    assert (hidden.grad < -0.01 if value < 0 else hidden.grad > 0.01).all()


@pytest.mark.parametrize("value", [-math.inf, -200.0, 200.0, math.inf])
def test_kl_is_defined_beyond_the_ends(value):
    hidden = torch.full((3, 4), value, requires_grad=True)
    penalty = kl_penalty(hidden, 0.08, 1.0)
    penalty.backward()
    assert penalty.isfinite() and penalty > 1 and hidden.grad.isfinite().all()


@given(codes(0, 2.0**100), st.data())
def test_top_k_keeps_the_k_largest(code, draw):
    k = draw.draw(st.integers(1, code.shape[1]))
    kept = top_k(code, k)
    assert ((kept == code) | (kept == 0)).all()
    assert ((kept != 0).sum(dim=1) <= k).all()
    assert torch.equal(kept.sort(dim=1, descending=True).values[:, :k], code.sort(dim=1, descending=True).values[:, :k])


@pytest.mark.parametrize("value", [0.0, 3.0])
def test_top_k_keeps_exactly_k_of_equals(value):
    code = torch.full((5, 9), value, requires_grad=True)
    top_k(code, 4).sum().backward()
    assert (code.grad != 0).sum(dim=1).tolist() == [4] * 5


def test_top_k_passes_gradient_to_those_k_only():
    code = torch.tensor([[3.0, 1.0, 2.0, 0.5]], requires_grad=True)
    (top_k(code, 2) * torch.tensor([[10.0, 20.0, 30.0, 40.0]])).sum().backward()
    assert code.grad.tolist() == [[10.0, 0.0, 30.0, 0.0]]


def test_the_start_draws_the_mean_image(method, small):
    """With every unit where it rests: at 0, or for a sigmoid at ρ."""
    model = method.build()
    with torch.no_grad():
        model.mean_image.copy_(common.to_float(small.train_images).mean(dim=0))
        model.initialise()
        drawn = model.decode(torch.full((1, 64), getattr(model, "rho", 0.0)))[0]
    assert torch.allclose(drawn, model.mean_image, atol=2e-3)


def test_a_model_is_two_linear_layers(trained, small):
    """Nobody has to know more to use it elsewhere; and a reconstruction is an image."""
    images = common.to_float(small.test_images)
    reconstruction, code = trained(images)
    hidden = (images - trained.mean_image) @ trained.encoder.weight.T + trained.encoder.bias
    output = code @ trained.dictionary + trained.decoder.bias
    assert code.shape == (199, 64) and code.min() >= 0
    assert torch.allclose(trained.activation(hidden), code, atol=1e-4)
    assert torch.allclose(trained.squash(output), reconstruction, atol=1e-4)
    assert reconstruction.min() >= 0 and reconstruction.max() <= 1


def test_l1_pictures_have_norm_1(small):
    model = METHODS["sparse_l1"].train(small)
    assert torch.allclose(model.dictionary.norm(dim=1), torch.ones(64), atol=1e-5)


def test_encode_takes_images_and_says_so(tiny):
    """In the model's own type of numbers."""
    model, images = tiny["sparse_l1"], torch.rand(2, 784)
    words = r"^encode takes images \[n, 784\] in \[0, 1\], torch.float32, 0 being the background: see common.to_float$"
    flat, bytes, floats = images.view(2, 28, 28), images.mul(255).byte(), 255 * images
    for wrong in (flat, bytes, floats, images.double(), images - 0.1, torch.full_like(images, math.nan)):
        with pytest.raises(common.UserError, match=words):
            model.encode(wrong)
    double = copy.deepcopy(model).double()(images.double())
    assert all(torch.allclose(other.float(), one, atol=1e-5) for other, one in zip(double, model(images), strict=True))
