"""The methods: penalties and top-k by hand and by definition, what they start from, what they take and give."""

import copy
import math
import pickle

import numpy as np
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


def test_cross_entropy_passes_gradcheck():
    output = torch.linspace(-3, 3, 12, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(common.cross_entropy, (output, torch.linspace(0, 1, 12, dtype=torch.float64)))


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


@given(codes(0, 2.0**100), st.floats(0, 100))
def test_l1_is_finite_and_never_negative(code, weight):
    penalty = l1_penalty(code, weight)
    assert penalty.isfinite() and penalty >= 0
    assert (penalty == 0) == (weight * code.sum() == 0)


@given(st.floats(0.001, 0.999), st.floats(0.001, 0.999))
def test_kl_is_positive_away_from_rho(rho, mean):
    penalty = kl_penalty(torch.full((1, 1), mean, dtype=torch.float64).logit(), rho, 1.0).item()
    if abs(rho - mean) > 1e-5:
        assert penalty > 0
        assert penalty >= 2 * (rho - mean) ** 2 * (1 - 1e-6) - 1e-15  # Pinsker's inequality


@pytest.mark.parametrize("value", [-80.0, -30.0, -18.0, -14.0, 14.0, 18.0, 30.0, 80.0])
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


@pytest.mark.parametrize("bias", [-20.0, 20.0])
def test_kl_units_that_start_far_off_come_back(small, monkeypatch, bias):
    def initialise(model):
        torch.nn.init.normal_(model.encoder.weight, std=0.01)
        torch.nn.init.normal_(model.decoder.weight, std=0.01)
        model.encoder.bias.fill_(bias)

    monkeypatch.setattr(METHODS["sparse_kl"].cls, "initialise", initialise)
    model = METHODS["sparse_kl"].train(small, epochs=20, lr=0.1)
    means = common.encode_all(model, small.train_images).mean(dim=0)
    assert means.min() > 0.001 and means.max() < 0.999  # they were 2e-9 from 0, or from 1


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


def test_reconstructions_are_images(trained, small):
    reconstruction, code = trained(common.to_float(small.test_images))
    assert reconstruction.shape == (199, 784) and code.shape == (199, 64)
    assert reconstruction.min() >= 0 and reconstruction.max() <= 1 and code.min() >= 0


def test_l1_pictures_have_norm_1(small):
    model = METHODS["sparse_l1"].train(small)
    assert torch.allclose(model.dictionary.norm(dim=1), torch.ones(64), atol=1e-5)


def test_the_layers_are_those_that_everybody_expects(trained, small):
    """Four names, and a forward that calls them: a hook on a layer sees what the model computes."""
    model = copy.deepcopy(trained)
    assert [name for name, _ in model.named_parameters()] == [
        "encoder.weight", "encoder.bias", "decoder.weight", "decoder.bias"
    ]  # fmt: skip
    assert model.dictionary.data_ptr() == model.decoder.weight.data_ptr() and model.dictionary.shape == (64, 784)
    seen = {}
    model.encoder.register_forward_hook(lambda layer, given, output: seen.update(hidden=output))
    model.decoder.register_forward_hook(lambda layer, given, output: seen.update(code=given[0], output=output))
    reconstruction, code = model(common.to_float(small.test_images))
    assert torch.equal(model.activation(seen["hidden"]), code) and torch.equal(seen["code"], code)
    assert torch.equal(model.squash(seen["output"]), reconstruction)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_a_model_of_another_type_of_numbers(trained, small, dtype):
    model, images = trained, common.to_float(small.test_images)
    other = copy.deepcopy(model).to(dtype)
    reconstruction, code = other(images.to(dtype))
    assert reconstruction.dtype == code.dtype == dtype
    assert (reconstruction.float() - model(images)[0]).abs().mean() < (1e-6 if dtype == torch.float64 else 0.01)
    with pytest.raises(common.UserError, match=f"{dtype}.*, not torch.float32: see .to"):
        other(images)


def test_a_model_can_be_compiled_exported_mapped_and_copied(trained, small):
    model, images = trained, common.to_float(small.test_images[:7])
    expected = model(images)
    loaded = pickle.loads(pickle.dumps(copy.deepcopy(model)))
    for way, function in {
        "itself": loaded,
        "torch.compile": torch.compile(loaded, fullgraph=True, backend="eager"),
        "torch.export": torch.export.export(loaded, (images,)).module(),
        "torch.vmap": torch.vmap(loaded),
    }.items():
        for one, other in zip(function(images), expected, strict=True):
            assert torch.allclose(one, other, atol=1e-5), way


def test_a_model_can_be_trained_on(trained, small):
    model, images = copy.deepcopy(trained), common.to_float(small.test_images)
    model.requires_grad_()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    before = (model(images)[0] - images).square().mean()
    before.backward()
    optimizer.step()
    assert (model(images)[0] - images).square().mean() < before


NOT_IMAGES = {
    "a 28 x 28 array": (torch.zeros(28, 28), r"\[28, 28\].*view"),
    "numpy": (np.zeros((1, 784), np.float32), "ndarray.*as_tensor"),
    "a list": ([0.0] * 784, "list.*as_tensor"),
    "bytes": (torch.zeros(1, 784, dtype=torch.uint8), "uint8.*to_float"),
    "float64": (torch.zeros(1, 784, dtype=torch.float64), r"float64: see \.to\(torch\.float32\)"),
    "bytes as floats": (torch.full((1, 784), 255.0), "go up to 255: divide bytes by 255"),
    "a little above 1": (torch.full((1, 784), 1.0001), r"go up to 1.0001: see \.clamp"),
    "below 0": (torch.full((1, 784), -0.1), "go down to -0.1: was a mean subtracted"),
    "NaN": (torch.full((1, 784), math.nan), "NaN"),
}


@pytest.mark.parametrize("kind", NOT_IMAGES)
def test_encode_says_what_it_wants(tiny, kind):
    images, words = NOT_IMAGES[kind]
    with pytest.raises(ValueError, match=rf"tensor \[n, 784\] of torch.float32.*{words}") as error:
        tiny["sparse_l1"].encode(images)
    assert "\n" not in str(error.value)
