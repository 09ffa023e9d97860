"""The training loop, its schedules and what it refuses."""

import functools
import io
import re
import sys

import pytest
import torch
from conftest import METHODS
from torch.utils._python_dispatch import TorchDispatchMode

import common


def test_training_lowers_the_loss(trained):
    model = trained
    for losses in model.history:
        assert len(losses) == 2 and losses[1] < losses[0]
    assert model.history.train_loss[1] > model.history.train_reconstruction[1]


@pytest.mark.usefixtures("all_threads")
def test_the_seed_decides_all(method, small):
    model = method.train(small)
    again = method.train(small)
    assert (again.config, again.history) == (model.config, model.history)
    assert all(map(torch.equal, model.state_dict().values(), again.state_dict().values()))
    other = method.train(small, seed=1)
    assert not torch.equal(model.encoder.weight, other.encoder.weight)


@pytest.mark.usefixtures("all_threads")
def test_bfloat16_repeats_too_and_stays_close(method, trained, small):
    histories = [method.train(small, precision="bfloat16").history for _ in range(2)]
    assert histories[0] == histories[1] != trained.history
    assert histories[0].test_loss[-1] == pytest.approx(trained.history.test_loss[-1], rel=0.02)


def test_train_loss_is_a_mean_over_images_not_batches(small):
    # With a learning rate of next to nothing every batch sees the same weights, so the mean over 600 images in
    # batches of 599 and 1 has to be the mean over all of them.
    model = METHODS["sparse_l1"].train(small, batch_size=599, lr=1e-30, epochs=1)
    reconstruction_loss, penalty = common.losses_of(model, common.to_float(small.train_images), "float32")
    assert model.history.train_reconstruction[0] == pytest.approx(reconstruction_loss.item(), rel=1e-4)
    assert model.history.train_loss[0] == pytest.approx((reconstruction_loss + penalty).item(), rel=1e-4)


def test_test_losses_are_those_of_the_model_as_it_is_used(method, small, monkeypatch):
    """In evaluation mode: with k as it is asked for."""
    modes, mean_loss = [], common.mean_loss

    def watched(model, *arguments):
        modes.append(model.training)
        return mean_loss(model, *arguments)

    monkeypatch.setattr(common, "mean_loss", watched)
    method.train(small)
    assert modes == [False] * 3  # before the training, and after each of two epochs


@pytest.fixture
def steps(monkeypatch):
    """Adam's settings of the encoder's weights, the dictionary's and the biases', in each step that is taken."""
    steps, step = [], torch.optim.Adam.step

    def watched(optimizer):
        steps.append([{key: group[key] for key in ("lr", "betas", "weight_decay")} for group in optimizer.param_groups])
        return step(optimizer)

    monkeypatch.setattr(torch.optim.Adam, "step", watched)
    return steps


def test_the_learning_rate_falls_over_the_last_fifth(small, steps):
    METHODS["sparse_kl"].train(small, epochs=5, batch_size=60, lr=1e-3)
    encoder, dictionary, biases = ([group["lr"] for group in groups] for groups in zip(*steps, strict=True))
    assert encoder == pytest.approx([12 * rate for rate in biases]) and dictionary == biases
    assert biases[:40] == [1e-3] * 40 and biases[40:] == pytest.approx([1e-4 * n for n in range(10, 0, -1)])


@pytest.mark.parametrize(("fade", "expected"), [(0.0, [8, 8, 8, 8]), (0.5, [8, 8, 8, 4]), (1.0, [8, 6, 4, 2])])
def test_the_decay_of_the_dictionary_fades(small, steps, fade, expected):
    METHODS["sparse_l1"].train(small, epochs=2, batch_size=300, weight_decay=8.0, fade=fade)
    encoder, dictionary, biases = ([group["weight_decay"] for group in groups] for groups in zip(*steps, strict=True))
    assert dictionary == expected and encoder == biases == [0] * 4


def test_plain_is_as_textbooks_have_it(method, small, steps, monkeypatch):
    """Torch's layers, pixels, pictures of any norm, Adam as it comes at one constant rate, one k, and no more."""
    began, set_start = {}, common.set_start

    def watched(model, images):
        set_start(model, images)
        began.update({name: tensor.clone() for name, tensor in model.state_dict().items()})

    monkeypatch.setattr(common, "set_start", watched)
    model = method.train(small, plain=True)
    lr = 1e-3 if method.name == "sparse_ksparse" else 9e-3  # the documents'
    assert steps == [[{"lr": lr, "betas": (0.9, 0.999), "weight_decay": 0.0}] * 3] * 12
    for name, layer in (("encoder", torch.nn.Linear(784, 64)), ("decoder", torch.nn.Linear(64, 784))):
        assert began[f"{name}.weight"].std() == pytest.approx(layer.weight.std().item(), rel=0.02)
        assert began[f"{name}.weight"].abs().max() == pytest.approx(layer.weight.abs().max().item(), rel=0.01)
        assert 0 < began[f"{name}.bias"].abs().max() <= layer.weight.abs().max() * 1.01
    assert (model.mean_image == 0).all() and model.dictionary.norm(dim=1).std() > 0.01
    assert model.tie == 0 and model.schedule(0.0) == model.schedule(1.0)
    assert model.config == method.build(plain=True).config and model.name.startswith(f"{method.name}_plain")


def test_the_callers_process_is_afterwards_as_it_was(trained, small, method):
    """Its random numbers, and its mode, in which nothing can be trained; and the weights are the same in any mode."""
    torch.manual_seed(7)
    expected = torch.rand(3)
    modes = {"no_grad": torch.no_grad, "inference_mode": torch.inference_mode}
    for name, mode in modes.items():
        model = method.build()
        torch.manual_seed(7)
        with mode():
            history = common.train(model, small)
            assert not torch.is_grad_enabled() and torch.is_inference_mode_enabled() == (name == "inference_mode")
        assert torch.equal(torch.rand(3), expected), name
        assert history == trained.history, name
        assert torch.equal(model.encoder.weight, trained.encoder.weight), name


def test_a_model_made_in_inference_mode_is_left_alone(small):
    with torch.inference_mode():
        model = METHODS["sparse_l1"].build()
        before = model.encoder.weight.clone()
    with pytest.raises(common.UserError, match="made in torch.inference_mode"):
        common.train(model, small)
    assert torch.equal(model.encoder.weight, before)


class Waits(TorchDispatchMode):
    """Counts the operations for whose result a graphics card would have to be waited for."""

    count = 0

    def __torch_dispatch__(self, function, types, arguments=(), keywords=None):
        masks = [index for index in (*arguments[1:2],) if isinstance(index, list | tuple)]
        is_masked = any(getattr(index, "dtype", None) == torch.bool for mask in masks for index in mask)
        if is_masked or function.name() in ("aten::_local_scalar_dense", "aten::nonzero", "aten::masked_select"):
            self.count += 1
        return function(*arguments, **keywords or {})


def test_no_step_waits_for_a_graphics_card(method, small):
    """More steps in an epoch do not wait more often: for its two losses, and for the sizes of the last batch."""
    counts = []
    for batch_size in (300, 60):
        with Waits() as waits:
            method.train(small, epochs=1, batch_size=batch_size)
        counts.append(waits.count)
    assert counts[0] == counts[1]


@pytest.mark.parametrize("name", METHODS)
def test_weight_decay_fades_what_no_image_needs(name, small):
    """Pixels that no image lights: with decay the dictionary has less there, and without some."""
    unlit = small.train_images.amax(dim=0) == 0
    ink = [
        METHODS[name].train(small, epochs=10, weight_decay=decay).dictionary[:, unlit].square().mean().item()
        for decay in (0.0, 1e-3)
    ]
    assert 0 <= ink[1] < 0.5 * ink[0]


@pytest.mark.parametrize("epochs", [1, 2, 7])
def test_ksparse_reaches_k_at_half_of_the_training(epochs, small, monkeypatch):
    ks, cls = [], METHODS["sparse_ksparse"].cls
    after_step = cls.after_step

    def watched(model, progress):
        after_step(model, progress)
        ks.append(model.training_k)

    monkeypatch.setattr(cls, "after_step", watched)
    METHODS["sparse_ksparse"].train(small, epochs=epochs, batch_size=60, hidden=200)
    steps = 10 * epochs
    assert len(ks) == steps + 1 and ks[0] == 100 and ks == sorted(ks, reverse=True)
    assert ks[steps // 2 :] == [5] * (steps - steps // 2 + 1) and ks[steps // 4] > 5


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize("is_off", [False, True])
def test_the_bar_of_a_terminal(small, capsys, monkeypatch, is_off):
    """It moves with each step, fits into 80 columns, and tqdm's own switch turns it off."""
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr(common, "tqdm", functools.partial(common.tqdm, mininterval=0))
    monkeypatch.setenv("TQDM_DISABLE", "1" if is_off else "")
    METHODS["sparse_ksparse"].train(small, epochs=2, batch_size=60)
    shown = terminal.getvalue().replace("\n", "\r").split("\r")
    printed = capsys.readouterr().out.splitlines()
    assert printed[0].endswith(": training, 2 epochs of 10 steps") and len(printed) == (3 if is_off else 1)
    if is_off:
        assert shown == [""]
        return
    assert max(map(len, shown)) <= 80 and any(" 45% |" in line for line in shown)
    assert any(re.search(r"^epoch 2/2: 100% \|[█#]+\| .*, train 0\.\d{5}, test 0\.\d{5}$", line) for line in shown)


@pytest.mark.parametrize(("epochs", "lines"), [(1, 2), (20, 21), (50, 18), (61, 17)])
def test_the_last_line_of_progress_is_there(small, capsys, epochs, lines):
    METHODS["sparse_l1"].train(small, epochs=epochs, batch_size=600, hidden=4)
    progress = capsys.readouterr().out.splitlines()
    assert len(progress) == lines and f"epoch {epochs}/{epochs}, train loss 0." in progress[-1]


@pytest.mark.parametrize("at", [0, 1, 2])
def test_each_loss_is_checked_by_itself(small, monkeypatch, at):
    """max(x, nan) is x: one NaN, in one of the three losses."""
    losses = [float("nan") if at == index else 0.1 for index in (1, 0)]  # a penalty of NaN spoils the sum alone

    def losses_of(model, images, precision):
        nothing = sum(0 * parameter.sum() for parameter in model.parameters())
        return nothing + losses[0], nothing + losses[1]

    monkeypatch.setattr(common, "losses_of", losses_of)
    monkeypatch.setattr(common, "mean_loss", lambda *arguments: float("nan") if at == 2 else 0.1)
    with pytest.raises(common.UserError, match="diverged"):
        METHODS["sparse_l1"].train(small)


def test_a_large_penalty_is_not_divergence(small):
    METHODS["sparse_l1"].train(small, l1_weight=10.0)


def test_the_soft_tie_has_the_gradient_of_its_formula(method):
    model = method.build(tie=0.3)
    w, d = (torch.randn(64, 784, generator=torch.Generator().manual_seed(seed)).requires_grad_() for seed in (0, 1))
    scale = 1.0
    if model.method != "sparse_ksparse":  # whatever fits best
        scale = ((w * d).sum(dim=1) / (d * d).sum(dim=1)).unsqueeze(1)
    (0.3 * (w - scale * d).square().sum()).backward()

    with torch.no_grad():
        model.encoder.weight.copy_(w)
        model.dictionary.copy_(d)
    for layer in (model.encoder, model.decoder):
        layer.weight.grad = torch.ones_like(layer.weight)
    common.add_tie_gradient(model)
    assert torch.allclose(model.encoder.weight.grad, 1 + w.grad, atol=1e-4)
    assert torch.allclose(model.decoder.weight.grad, 1 + d.grad.T, atol=1e-4)


def test_the_soft_tie_makes_a_unit_look_for_what_it_draws(method, small):
    def likeness(tie):
        model = method.train(small, epochs=10, tie=tie)
        return torch.cosine_similarity(model.encoder.weight, model.dictionary).median()

    assert likeness(3e-5) > likeness(0.0)


def test_a_trained_model_is_left_alone(trained, small):
    model = trained
    before = {name: values.clone() for name, values in model.state_dict().items()}
    with pytest.raises(common.UserError, match=r"this model is trained.*: make a new one, \w+\(...\)$"):
        common.train(model, small)
    assert all(torch.equal(values, before[name]) for name, values in model.state_dict().items())


def test_a_model_in_double_precision_is_left_alone(small):
    model = METHODS["sparse_l1"].build().double()
    before = model.encoder.weight.clone()
    with pytest.raises(common.UserError, match="float32 model, not torch.float64"):
        common.train(model, small)
    assert torch.equal(model.encoder.weight, before)


REFUSED = {
    "frozen": (lambda model: model.encoder.requires_grad_(False), "are frozen: make a new one"),
    "changed": (
        lambda model: setattr(model, "l1_weight", 1.0),
        "l1_weight was changed after the model was made: make a",
    ),
    "of other data": (
        lambda model: None,
        r"one of MNIST, and these images are of 'mine': give the model dataset='mine'",
    ),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_cannot_be_trained_is_left_alone(small, what):
    spoil, words = REFUSED[what]
    model = METHODS["sparse_l1"].build()
    spoil(model)
    before = {name: values.clone() for name, values in model.state_dict().items()}
    with pytest.raises(common.UserError, match=words):
        common.train(model, small._replace(name="mine" if what == "of other data" else "MNIST"))
    assert all(torch.equal(values, before[name]) for name, values in model.state_dict().items())


def test_a_model_of_other_data_says_so(small):
    model = METHODS["sparse_l1"].train(small._replace(name="mine"), dataset="mine")
    assert model.name.endswith("_datasetmine") and model.config["dataset"] == "mine"
