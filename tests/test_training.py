"""Training, evaluation and the probe."""

import pytest
import torch
from conftest import METHODS, small_config

import common


def test_training_lowers_the_loss(trained):
    _, _, info = trained
    for values in info.history:
        assert len(values) == 2 and values[1] < values[0]
    assert info.history.train_loss[1] >= info.history.train_reconstruction[1]


def test_same_seed_same_weights(trained, small):
    method, model, info = trained
    again = method.build(info.config)
    history = common.train(again, small, **{key: info.config[key] for key in common.TRAIN_KEYS})
    assert history == info.history
    for name, value in model.state_dict().items():
        assert torch.equal(value, again.state_dict()[name]), name


def test_bfloat16_products_repeat_too_and_stay_close(trained, small):
    method, _, info = trained
    config = {**{key: info.config[key] for key in common.TRAIN_KEYS}, "precision": "bfloat16"}
    runs = [common.train(method.build(info.config), small, **config) for _ in range(2)]
    assert runs[0] == runs[1]
    assert runs[0].test_loss[-1] == pytest.approx(info.history.test_loss[-1], rel=0.02)
    assert torch.get_float32_matmul_precision() == "highest"


def test_another_seed_gives_other_weights(trained, small):
    method, model, info = trained
    other = method.build(info.config)
    common.train(other, small, **{**{key: info.config[key] for key in common.TRAIN_KEYS}, "seed": 1})
    assert not torch.equal(model.encoder.weight, other.encoder.weight)


def test_train_loss_is_a_mean_over_images_not_batches(small):
    # With a learning rate of next to nothing every batch sees the same weights, so the mean over 600 images in
    # batches of 599 and 1 has to be the mean over all of them.
    method = METHODS["sparse_l1"]
    config = small_config(method, batch_size=599, lr=1e-30, epochs=1)
    model = method.build(config)
    history = common.train(model, small, **{key: config[key] for key in common.TRAIN_KEYS})
    assert history.train_reconstruction[0] == pytest.approx(common.test_loss(model, small.train_images), rel=1e-4)


def bce_by_torch(logits, images):
    """Value and gradient of torch's own binary cross-entropy on logits, in float64."""
    logits = logits.detach().double().requires_grad_()
    loss = torch.nn.functional.binary_cross_entropy_with_logits(logits, images.double())
    loss.backward()
    return loss.item(), logits.grad


@pytest.mark.parametrize("scale", [0.01, 1.0, 10.0, 60.0])
def test_binary_cross_entropy_is_torchs(scale, small):
    images = common.to_float(small.test_images)
    generator = torch.Generator().manual_seed(0)
    logits = (torch.randn(images.shape, generator=generator) * scale).requires_grad_()
    before = logits.detach().clone()
    loss = common.BinaryCrossEntropy.apply(logits, images)
    (3 * loss).backward()
    value, gradient = bce_by_torch(logits, images)
    assert loss.item() == pytest.approx(value, rel=1e-6)
    assert torch.allclose(logits.grad * images.numel(), 3 * gradient.float() * images.numel(), atol=1e-6)
    assert torch.equal(logits, before)


def test_binary_cross_entropy_of_a_good_reconstruction_loses_no_digits(data):
    # Nearly all logits are far below zero here, and their parts of the loss cancel.
    model, _ = common.load_pretrained("sparse_l1")
    images = common.to_float(data.test_images[:2000])
    with torch.no_grad():
        logits = model.output(model.encode(images))
        loss = common.BinaryCrossEntropy.apply(logits, images).item()
    assert loss == pytest.approx(bce_by_torch(logits, images)[0], rel=1e-6)


def test_binary_cross_entropy_at_the_ends():
    right = torch.tensor([[-1000.0, -90.0, 90.0, 1000.0]], requires_grad=True)
    loss = common.BinaryCrossEntropy.apply(right, torch.tensor([[0.0, 0.0, 1.0, 1.0]]))
    loss.backward()
    assert loss.item() == 0 and torch.allclose(right.grad, torch.zeros(1, 4))
    wrong = torch.tensor([[-1000.0, 1000.0]], requires_grad=True)
    loss = common.BinaryCrossEntropy.apply(wrong, torch.tensor([[1.0, 0.0]]))
    loss.backward()
    assert loss.item() == 1000 and wrong.grad.tolist() == [[-0.5, 0.5]]


def test_binary_cross_entropy_takes_tensors_as_torch_does():
    logits, images = torch.randn(784, 20).T.requires_grad_(), torch.rand(784, 20).T  # not contiguous
    loss = common.BinaryCrossEntropy.apply(logits, images)
    loss.backward()
    value, gradient = bce_by_torch(logits, images)
    assert loss.item() == pytest.approx(value, rel=1e-6) and torch.allclose(logits.grad, gradient.float())


def test_binary_cross_entropy_of_bfloat16_logits():
    logits = (torch.randn(50, 784, generator=torch.Generator().manual_seed(0)) * 5).bfloat16().requires_grad_()
    images = torch.rand(50, 784, generator=torch.Generator().manual_seed(1))
    loss = common.BinaryCrossEntropy.apply(logits, images)
    loss.backward()
    value, gradient = bce_by_torch(logits, images)
    assert loss.dtype == torch.float32 and loss.item() == pytest.approx(value, rel=1e-6)
    assert torch.allclose(logits.grad.double(), gradient, rtol=2**-7, atol=0)


def test_bfloat16_is_that_of_the_output_too_where_the_method_allows(method, small, monkeypatch):
    model = method.build(small_config(method))
    model.initialise(small.train_images)
    kinds = []
    loss = model.reconstruction_loss
    monkeypatch.setattr(model, "reconstruction_loss", lambda output, x: kinds.append(output.dtype) or loss(output, x))
    batches, optimizer = common.Batches(small.train_images, 300), common.make_optimizer(model, 1e-3)
    for precision in ("float32", "bfloat16"):
        common.train_epoch(model, batches, optimizer, precision)
    assert kinds == [torch.float32] * 2 + [torch.bfloat16 if model.bfloat16_code else torch.float32] * 2
    assert model.bfloat16_code == (method is not METHODS["sparse_ksparse"])


@pytest.mark.parametrize("k, fetched", [(4, True), (5, False)])
def test_ksparse_trains_with_the_same_numbers_whichever_way_it_decodes(k, fetched, small, monkeypatch):
    method, calls = METHODS["sparse_ksparse"], []
    embedding_bag = torch.nn.functional.embedding_bag
    monkeypatch.setattr(
        torch.nn.functional, "embedding_bag", lambda *args, **more: calls.append(1) or embedding_bag(*args, **more)
    )
    model = method.build(small_config(method, hidden=256, k=k, l1_weight=1e-3)).train()
    model.initialise(small.train_images)
    images = common.to_float(small.train_images[:50])
    results = []
    for plain in (True, False):
        model.zero_grad()
        code = model.encode(images)
        output, code = (model.output(code), code) if plain else model.training_pass(images)
        penalty = model.penalty(code)
        (model.reconstruction_loss(output, images) + penalty).backward()
        results.append((output, penalty, *(parameter.grad for parameter in model.parameters())))
    assert bool(calls) == fetched
    for one, other in zip(*results, strict=True):
        assert torch.allclose(one, other, rtol=1e-4, atol=1e-7)


def test_ksparse_repeats_with_fetched_rows_too(small):
    method = METHODS["sparse_ksparse"]
    config = small_config(method, hidden=256, k=3)
    arguments = {key: config[key] for key in common.TRAIN_KEYS}
    models = [method.build(config) for _ in range(2)]
    assert common.train(models[0], small, **arguments) == common.train(models[1], small, **arguments)
    assert torch.equal(models[0].dictionary, models[1].dictionary)


def test_ksparse_lifts_units_that_no_image_lights(small):
    method = METHODS["sparse_ksparse"]
    for k in (1, 20):  # with fetched rows, and without
        model = method.build(small_config(method, k=k)).train()
        model.initialise(small.train_images)
        model.encoder.bias.data[:30] = -1000
        model.start_epoch(0.0)
        model.active_k = k
        for batch in common.Batches(small.train_images, 100):
            model.training_pass(batch)
        lit = (model.eval().encode(common.to_float(small.train_images)) > 0).any(dim=0)
        assert torch.equal(model.fired > 0, lit) and not lit[:30].any() and lit.any()
        before = model.encoder.bias.detach().clone()
        model.start_epoch(0.5)
        assert torch.equal(model.encoder.bias - before, (~lit).float()) and not model.fired.any()


def test_tensors_in_and_out(trained, small):
    _, model, _ = trained
    images = common.to_float(small.test_images[:7])
    reconstruction, code = model(images)
    assert reconstruction.shape == (7, 784) and code.shape == (7, 64)
    assert reconstruction.min() >= 0 and reconstruction.max() <= 1
    assert torch.equal(model.encode(images), code) and torch.equal(model.decode(code), reconstruction)


def test_nothing_is_dead_at_the_start(method, data):
    torch.manual_seed(0)
    model = method.build({**method.defaults, **({"k": 100} if method is METHODS["sparse_ksparse"] else {})})
    model.initialise(data.train_images)  # k = 25 starts with 100 units too
    code = model.encode(common.to_float(data.test_images[:2000]))
    assert (code > code.mean(dim=0) * 1.01).any(dim=0).all()  # every unit has images on which it does more than usual
    if method is METHODS["sparse_kl"]:
        assert code.mean().item() == pytest.approx(0.08, abs=0.03)  # ρ, but for the sigmoid's curvature
        assert code.mean(dim=0).std() < 0.05


def test_the_start_draws_the_mean_image(method, small):
    model = method.build(small_config(method))
    model.initialise(small.train_images)
    nothing = torch.zeros(1, 64)
    drawn = model.decode(nothing)[0]
    assert torch.allclose(drawn, common.to_float(small.train_images).mean(dim=0), atol=2e-3)


def test_principal_components(small):
    mean, components = common.principal_components(small.train_images)
    images = common.to_float(small.train_images)
    assert torch.allclose(mean, images.mean(dim=0), atol=1e-6)
    assert torch.allclose(components @ components.T, torch.eye(784), atol=1e-4)
    variances = ((images - mean) @ components.T).var(dim=0)
    expected = torch.linalg.svdvals(images - mean)[:20].square() / 599
    assert torch.allclose(variances[:20], expected, rtol=1e-3)


def test_evaluate_by_definition(trained, small):
    _, model, _ = trained
    report = common.evaluate(model, small.test_images, small.test_labels)
    images = common.to_float(small.test_images)
    with torch.no_grad():
        reconstruction, code = model(images)
    active = code > model.active_above
    assert report.loss == pytest.approx(common.test_loss(model, small.test_images))
    assert report.mse == pytest.approx(torch.nn.functional.mse_loss(reconstruction, images).item(), rel=1e-5)
    if model.loss_name == "BCE":
        bce = torch.nn.functional.binary_cross_entropy(reconstruction, images).item()
        assert report.loss == pytest.approx(bce, rel=1e-5) and report.loss > report.floor > 0
    assert report.active == pytest.approx(active.sum(dim=1).double().mean().item(), rel=1e-6)
    assert report.dead == (~active.any(dim=0)).sum().item()
    assert report.mean_code == pytest.approx(code.mean().item(), rel=1e-5)
    for digit in range(10):
        expected = code[small.test_labels == digit].mean(dim=0)
        assert torch.allclose(report.class_means[digit], expected, atol=1e-6)


def test_ksparse_has_k_active_units_and_lowers_k_over_the_first_half():
    method = METHODS["sparse_ksparse"]
    model = method.build(small_config(method, hidden=1000, k=5))
    ks = []
    for epoch in range(10):
        model.start_epoch(epoch / 10)
        ks.append(model.active_k)
    assert ks[0] == 100 and ks == sorted(ks, reverse=True) and ks[5:] == [5] * 5 and ks[4] > 5


def test_ksparse_is_tied(small):
    method = METHODS["sparse_ksparse"]
    model = method.build(small_config(method))
    assert model.dictionary is model.encoder.weight
    assert sum(parameter.numel() for parameter in model.parameters()) == 64 * 784 + 64 + 784


def test_ksparse_probe_code_keeps_more_units(small):
    method = METHODS["sparse_ksparse"]
    model = method.build(small_config(method, k=5))
    model.initialise(small.train_images)
    model.encoder.bias.data.fill_(1.0)  # enough positive units to choose from
    images = common.to_float(small.test_images)
    narrow, wide = (model.probe_code(images, width) for width in (1, 3))
    assert ((narrow > 0).sum(dim=1) == 5).all() and ((wide > 0).sum(dim=1) == 15).all()
    assert torch.equal(narrow, model.encode(images)) and torch.equal(wide[narrow > 0], narrow[narrow > 0])
    assert (model.probe_code(images, 1000) > 0).sum(dim=1).max() <= 64


def separable(n, generator):
    labels = torch.randint(10, (n,), generator=generator)
    images = torch.randint(40, (n, 784), generator=generator, dtype=torch.uint8)
    images[torch.arange(n), labels * 7] = 255
    return images, labels


def test_probe_reads_what_can_be_read():
    generator = torch.Generator().manual_seed(0)
    data = common.Data(*separable(1200, generator), *separable(400, generator))
    result = common.probe(lambda images, width: images, data)
    assert result.error == 0 and result.validation_error == 0


def test_probe_finds_nothing_in_shuffled_labels():
    generator = torch.Generator().manual_seed(0)
    data = common.Data(*separable(1200, generator), *separable(2000, generator))
    data = data._replace(test_labels=data.test_labels[torch.randperm(2000, generator=generator)])
    assert 85 < common.probe(lambda images, width: images, data).error < 95


def test_logistic_regression_is_at_the_minimum():
    generator = torch.Generator().manual_seed(0)
    code = torch.randn(300, 5, generator=generator)
    labels = (code[:, :3].argmax(dim=1) + torch.randint(2, (300,), generator=generator)) % 10
    weights = common.logistic_regression(code, labels, 0.01).double().requires_grad_()
    logits = code.double() @ weights[:, :-1].T + weights[:, -1]
    loss = torch.nn.functional.cross_entropy(logits, labels) + 0.01 * weights[:, :-1].square().sum()
    loss.backward()
    assert weights.grad.norm() < 1e-4


def test_error_percent():
    weights = torch.zeros(10, 3)
    weights[1, 0], weights[2, 1] = 1.0, 1.0
    code = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0], [0.0, 1.0]])
    assert common.error_percent(weights, code, torch.tensor([1, 2, 1, 1])) == 25.0
