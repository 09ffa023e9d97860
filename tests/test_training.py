"""The training loop, what a method of one's own may change of it, and what it refuses."""

import functools
import io
import re
import sys

import pytest
import torch
import torch.nn.functional as F
from conftest import METHODS
from torch import nn

import common
from sparse_l1 import SparseL1

TINY = dict(hidden=8, epochs=2, batch_size=300, precision="float32")  # four steps of the small images


def train(cls, data, **changes):
    """A model of a class, trained in a moment."""
    model = cls(**{**TINY, **changes})
    common.train(model, data)
    return model


def same_weights(one, other):
    return all(map(torch.equal, one.state_dict().values(), other.state_dict().values()))


# The loop


def test_training_lowers_the_loss(trained):
    for losses in trained.history:
        assert len(losses) == 2 and losses[1] < losses[0]
    assert trained.history.train_loss[1] > trained.history.train_reconstruction[1]


@pytest.mark.usefixtures("all_threads")
def test_the_same_seed_gives_the_same_bits(method, small):
    """In float32, and in bfloat16, which is another training and stays close."""
    losses = []
    for precision in ("float32", "bfloat16"):
        model, again = (method.train(small, precision=precision, epochs=1) for _ in range(2))
        assert again.history == model.history and same_weights(again, model)
        losses.append(model.history.test_loss[-1])
    assert losses[0] != losses[1] == pytest.approx(losses[0], rel=0.02)
    assert not same_weights(model, method.train(small, precision=precision, epochs=1, seed=1))


def test_losses_are_means_over_images_and_not_over_batches(small):
    """With hardly a learning rate, batches of 3 and 2 images see the same weights."""
    five = small._replace(train_images=small.train_images[[0, 1, 1, 1, 1]], train_labels=None)
    model = train(SparseL1, five, batch_size=3, lr=1e-30, epochs=1)
    reconstruction_loss, penalty = common.losses_of(model, common.to_float(five.train_images), "float32")
    assert model.history.train_reconstruction[0] == pytest.approx(reconstruction_loss.item(), rel=1e-5)
    assert model.history.train_loss[0] == pytest.approx((reconstruction_loss + penalty).item(), rel=1e-5)


@pytest.fixture
def steps(monkeypatch):
    """Adam's settings of the encoder's weights, the dictionary's and all others, in each step that is taken."""
    steps, step = [], torch.optim.Adam.step

    def watched(optimizer):
        steps.append([{key: group[key] for key in ("lr", "betas", "weight_decay")} for group in optimizer.param_groups])
        return step(optimizer)

    monkeypatch.setattr(torch.optim.Adam, "step", watched)
    return steps


def test_the_rate_falls_over_the_last_fifth_and_the_decay_of_kl_over_all_of_it(small, steps):
    METHODS["sparse_kl"].train(small, epochs=5, batch_size=60, lr=1e-3, weight_decay=5.0)
    encoder, dictionary, others = zip(*steps, strict=True)
    rates = [group["lr"] for group in others]
    assert rates[:40] == [1e-3] * 40 and rates[40:] == pytest.approx([1e-4 * n for n in range(10, 0, -1)])
    assert [group["lr"] for group in dictionary] == rates
    assert [group["lr"] for group in encoder] == pytest.approx([12 * rate for rate in rates])
    assert [group["weight_decay"] for group in dictionary] == pytest.approx([n / 10 for n in range(50, 0, -1)])
    assert {group["weight_decay"] for group in encoder + others} == {0.0}


def test_plain_is_as_textbooks_have_it(method, small, steps, monkeypatch):
    """Torch's layers, pixels as they are, pictures of any norm, Adam as it comes at one rate, one k."""
    began, optimizer = {}, common.make_optimizer

    def watched(model):
        began.update({name: tensor.clone() for name, tensor in model.state_dict().items()})
        return optimizer(model)

    monkeypatch.setattr(common, "make_optimizer", watched)
    model = method.train(small, plain=True)
    lr = 1e-3 if method.name == "sparse_ksparse" else 9e-3
    assert steps == [[{"lr": lr, "betas": (0.9, 0.999), "weight_decay": 0.0}] * 3] * 12
    for name, layer in (("encoder", nn.Linear(784, 64)), ("decoder", nn.Linear(64, 784))):
        assert began[f"{name}.weight"].std() == pytest.approx(layer.weight.std().item(), rel=0.02)
        assert 0 < began[f"{name}.bias"].abs().max() <= layer.weight.abs().max() * 1.01
    assert (model.mean_image == 0).all() and model.dictionary.norm(dim=1).std() > 0.01
    assert model.tie == 0 and model.schedule(0.0) == model.schedule(1.0)


def test_k_falls_from_first_k_to_k_by_half_of_the_training():
    """Linearly; it never begins above hidden, or below k."""
    parts = (0, 0.25, 0.5, 1)
    for changes, expected in (
        (dict(k=4), [100, 52, 4, 4]),
        (dict(k=4, hidden=64), [64, 34, 4, 4]),
        (dict(k=200), [200] * 4),
    ):
        model = METHODS["sparse_ksparse"].cls(**changes)
        assert [model.schedule(part)["k"] for part in parts] == expected


def test_the_soft_tie_has_the_gradient_of_its_formula(method):
    model = method.build(tie=0.3)
    w, d = (torch.randn(64, 784, generator=torch.Generator().manual_seed(seed)).requires_grad_() for seed in (0, 1))
    best = ((w * d).sum(dim=1) / (d * d).sum(dim=1)).unsqueeze(1)
    scale = 1.0 if method.name == "sparse_ksparse" else best
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
    without, tied = (method.train(small, tie=tie) for tie in (0.0, 1e-3))
    likeness = [torch.cosine_similarity(model.encoder.weight, model.dictionary).median() for model in (without, tied)]
    assert likeness[1] > likeness[0] + 0.01


@pytest.mark.parametrize("at", range(3))
def test_each_loss_is_looked_at(at):
    """max(x, nan) is x: one NaN, in one of the three."""
    history = common.History([0.1], [0.1], [0.1])
    history[at][0] = float("nan")
    with pytest.raises(
        common.UserError, match=r"^training diverged in epoch 1 of 20: .*; try a smaller lr than 0.009$"
    ):
        common.require_not_diverged(history, 0.1, SparseL1(hidden=4))


def test_a_reconstruction_far_worse_than_none_is_divergence_and_a_large_penalty_is_not(small):
    with pytest.raises(common.UserError, match="training diverged"):
        train(METHODS["sparse_ksparse"].cls, small, k=5, lr=100.0)
    train(SparseL1, small, l1_weight=10.0)


# A method of one's own


class WarmUp(SparseL1):
    """λ grows, to twice what was asked for. What each loss was computed with is noted."""

    def __init__(self, **given):
        super().__init__(**given)
        self.seen = {True: [], False: []}

    def schedule(self, progress):
        return {"l1_weight": self.l1_weight * 2 * progress}

    def penalty(self, hidden, code):
        self.seen[self.training].append(self.l1_weight)
        return super().penalty(hidden, code)


def test_a_schedule_is_applied_before_each_step_and_at_its_end_for_each_test_loss(small, tmp_path):
    """And after loading; and the graph of losses shows just that."""
    model = train(WarmUp, small, l1_weight=0.25)
    assert model.seen == {True: [0, 0.125, 0.25, 0.375], False: [0.5] * 3}  # before the training and after each epoch
    assert model.config["l1_weight"] == 0.25 and model.l1_weight == 0.5
    assert model.history != train(SparseL1, small, l1_weight=0.5).history
    common.save_checkpoint(model, tmp_path / "x.pt")
    assert common.load_checkpoint(tmp_path / "x.pt", WarmUp).l1_weight == 0.5
    _, axes = common.plot_loss(model, common.evaluate(model, small.test_images)).axes
    drawn = dict(zip(*axes.lines[0].get_data(), strict=True))
    assert [drawn[epoch] for epoch in (0, 0.5, 1, 1.5, 2)] == pytest.approx([0, 0.125, 0.25, 0.375, 0.5])


@pytest.mark.parametrize("key", ["batch_size", "beta2", "hidden", "precision", "l1_wait"])
def test_what_is_read_once_or_unknown_cannot_be_scheduled(small, key):
    class Wrong(SparseL1):
        def schedule(self, progress):
            return {key: 0.5}

    with pytest.raises(common.UserError, match=f"^{key} cannot change in training"):
        train(Wrong, small)


class Threshold(SparseL1):
    """It has a parameter of its own."""

    def __init__(self, **given):
        super().__init__(**given)
        self.threshold = nn.Parameter(torch.zeros(self.hidden))

    def activation(self, hidden):
        return F.relu(hidden - self.threshold)


def test_a_parameter_of_ones_own_is_trained_and_saved(small, tmp_path):
    model = train(Threshold, small)
    assert model.threshold.abs().max() > 1e-3
    common.save_checkpoint(model, tmp_path / "x.pt")
    assert torch.equal(common.load_checkpoint(tmp_path / "x.pt", Threshold).threshold, model.threshold)


def test_a_parameter_made_too_late_is_found_before_the_training(small, steps):
    class Late(SparseL1):
        def initialise(self):
            super().initialise()
            self.threshold = nn.Parameter(torch.zeros(self.hidden))

    with pytest.raises(common.UserError, match="could not be loaded again.*made in __init__"):
        train(Late, small)
    assert steps == []


class Noisy(SparseL1):
    """Dropout in the code, noise on what the encoder sees."""

    def corrupt(self, images):
        assert self.training
        return images + 0.3 * torch.randn_like(images)

    def activation(self, hidden):
        return F.dropout(F.relu(hidden), 0.5, self.training)


def test_layers_of_ones_own_follow_the_seed_and_a_method_may_have_no_penalty(small):
    class Deeper(SparseL1):
        def __init__(self, **given):
            super().__init__(**given)
            self.more = nn.Linear(self.hidden, self.hidden)

        def activation(self, hidden):
            return F.relu(self.more(hidden))

        def penalty(self, hidden, code):
            return 0

    one, other = (train(Deeper, small) for _ in range(2))
    assert same_weights(one, other) and not same_weights(one, train(Deeper, small, seed=1))


def test_a_schedule_may_begin_late(small):
    class Late(SparseL1):
        def schedule(self, progress):
            return {} if progress < 0.5 else {"l1_weight": 0.0}

    figure = common.plot_loss(model := train(Late, small), common.evaluate(model, small.test_images))
    assert model.l1_weight == 0 and "l1_weight in training" in figure.axes[1].get_ylabel()


def test_dropout_and_noise_follow_the_seed_and_the_callers_random_numbers_go_on(small):
    model = Noisy(**TINY)
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    common.train(model, small)
    assert torch.equal(torch.rand(3), expected)
    assert same_weights(train(Noisy, small), model)
    assert not same_weights(train(Noisy, small, seed=1), model)


def test_only_the_encoder_sees_noise_and_only_in_training(small):
    class Blind(SparseL1):
        targets = []

        def corrupt(self, images):
            return images.fill_(0.5)  # in place, which leaves the loss's images alone

        def reconstruction_loss(self, output, images):
            self.targets.append(images)
            return super().reconstruction_loss(output, images)

        loss_name = "BCE"

    train(Blind, small, batch_size=600, epochs=1)
    before, batch, after = Blind.targets
    assert torch.equal(before, after) and torch.equal(after, common.to_float(small.test_images))
    assert batch.sum() == pytest.approx(common.to_float(small.train_images).sum().item(), rel=1e-5)  # in another order


def test_after_step_comes_once_before_the_first_step_and_after_each(small, steps):
    counts = []

    class Watched(SparseL1):
        def after_step(self):
            assert not torch.is_grad_enabled()
            counts.append(len(steps))

    train(Watched, small)
    assert counts == [0, 1, 2, 3, 4]


def test_a_loss_of_ones_own_has_a_name_and_no_floor(small):
    def loss(self, output, images):
        return F.mse_loss(self.squash(output), images)

    mixed = type("Mixed", (), {"reconstruction_loss": loss})
    for bases, parts in (((SparseL1,), {"reconstruction_loss": loss}), ((mixed, SparseL1), {})):
        with pytest.raises(
            common.UserError, match="^Mean has a reconstruction loss of its own, and no loss_name for it$"
        ):
            type("Mean", bases, parts)()
    for name in ("MSE", "BCE"):  # also under the name of another
        mean = type("Mean", (SparseL1,), {"reconstruction_loss": loss, "loss_name": name})
        model = train(mean, small)
        report = common.evaluate(model, small.test_images)
        assert report.floor is None and report.loss == pytest.approx(report.mse) == model.history.test_loss[-1]
        text = common.report_text(model, report)
        assert f"{report.loss:.5f} {name}; on 199 images\n" in text and "floor" not in text


def test_only_one_hyperparameter_can_be_compared():
    two = {key: common.at_least_0(1, "x", is_compared=True) for key in ("one", "other")}
    with pytest.raises(common.UserError, match="only one hyperparameter can be the compared one, not one, other"):
        type("Two", (SparseL1,), {"hyperparameters": common.hyperparameters(two)})()


def test_what_a_method_lacks_is_said_in_one_line():
    empty = {"method": "sparse_bad", "hyperparameters": common.hyperparameters({})}
    with pytest.raises(common.UserError, match="^Bad lacks initialise, activation, penalty: see the docstring of"):
        type("Bad", (common.Autoencoder,), empty)()
    with pytest.raises(common.UserError, match="^Bad lacks the name of its method: see the docstring of"):
        type("Bad", (SparseL1,), {"method": None})()


def test_a_penalty_is_one_number(small):
    many = type("Many", (SparseL1,), {"penalty": lambda self, hidden, code: code.sum(dim=1)})
    with pytest.raises(common.UserError, match=r"^penalty has to give one number, a mean over images, not \[199\]$"):
        train(many, small)


# What is refused, and what is said

REFUSED = {
    "frozen": lambda model, data: model.encoder.requires_grad_(False),
    "changed": lambda model, data: setattr(model, "l1_weight", 1.0),
    "in double precision": lambda model, data: model.double(),
    "trained": lambda model, data: setattr(model, "history", common.History([1], [1], [1])),
    "of other data": lambda model, data: data.update(name="mine"),
    "floats": lambda model, data: data.update(train_images=data["train_images"] / 255),
    "28 x 28": lambda model, data: data.update(test_images=data["test_images"].view(-1, 28, 28)),
    "no images": lambda model, data: data.update(train_images=data["train_images"][:0]),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_cannot_be_trained_is_left_alone(small, what):
    model, data = SparseL1(**TINY), small._asdict()
    REFUSED[what](model, data)
    before = {name: values.clone() for name, values in model.state_dict().items()}
    words = (
        "train takes a new model of float32, as|train takes images as bytes|these images are of mine: give it dataset="
    )
    with pytest.raises(common.UserError, match=words):
        common.train(model, common.Data(**data))
    assert all(torch.equal(values, before[name]) for name, values in model.state_dict().items())


def test_progress_is_a_line_an_epoch(small, capsys):
    model = train(SparseL1, small)
    first, *epochs = capsys.readouterr().out.splitlines()
    assert first == f"{model.name}: training, 2 epochs of 2 steps"
    assert epochs == [
        f"epoch {epoch + 1}/2: train loss {train:.5f}, test loss {test:.5f}"
        for epoch, (train, _, test) in enumerate(zip(*model.history, strict=True))
    ]


def test_the_bar_of_a_terminal_moves_with_each_step_and_fits_into_80_columns(small, capsys, monkeypatch):
    terminal = io.StringIO()
    terminal.isatty = lambda: True
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr(common, "tqdm", functools.partial(common.tqdm, mininterval=0))
    train(SparseL1, small, batch_size=60)
    shown = terminal.getvalue().replace("\n", "\r").split("\r")
    assert max(map(len, shown)) <= 80 and any(" 45% |" in line for line in shown)
    assert any(re.search(r"^epoch 2/2: 100% \|[█#]+\| .*, train 0\.\d{5}, test 0\.\d{5}$", line) for line in shown)
    assert len(capsys.readouterr().out.splitlines()) == 1
