"""The studies: the linear probe, curves of the error with few units, departures, plain beside ours, the best code."""

import pickle
import sys
from types import SimpleNamespace

import ablation
import batches
import learning
import limit
import methods
import numpy as np
import originals
import plain
import probe
import pytest
import sparsity
import torch
import unseen
from conftest import METHODS

import common
from sparse_l1 import SparseL1


def readable(n, generator):
    """Images of noise in which one bright pixel is the label."""
    labels = torch.randint(10, (n,), generator=generator)
    images = torch.randint(40, (n, 784), generator=generator, dtype=torch.uint8)
    images[torch.arange(n), labels * 7] = 255
    return images, labels


def test_the_probe_reads_what_can_be_read_and_nothing_else():
    generator = torch.Generator().manual_seed(0)
    data = common.Data(*readable(1200, generator), *readable(2000, generator))
    result = probe.probe([torch.zeros_like, lambda images: images], data)
    assert result.error == result.validation_error == 0 and result.choice == 1
    shuffled = data._replace(test_labels=data.test_labels[torch.randperm(2000, generator=generator)])
    assert 85 < probe.probe([lambda images: images], shuffled).error < 95


def test_logistic_regression_is_at_the_minimum():
    generator = torch.Generator().manual_seed(0)
    code = torch.randn(300, 5, generator=generator)
    labels = (code[:, :3].argmax(dim=1) + torch.randint(2, (300,), generator=generator)) % 10
    weights = probe.logistic_regression(code, labels, 0.01).double().requires_grad_()
    logits = code.double() @ weights[:, :-1].T + weights[:, -1]
    loss = torch.nn.functional.cross_entropy(logits, labels) + 0.01 * weights[:, :-1].square().sum()
    loss.backward()
    assert weights.grad.norm() < 1e-4


def test_the_probe_encodes_with_several_times_k_units(small):
    model = METHODS["sparse_ksparse"].train(small)
    model.encoder.bias.fill_(10.0)  # enough units to choose from
    images = common.to_float(small.test_images)
    counts = [{*(encode(images) > 0).sum(dim=1).tolist()} for encode in probe.encoders_of(model)]
    assert counts == [{min(times * 5, 64)} for times in probe.TIMES_K] and model.k == 5


def test_pca_is_the_best_linear_code(small):
    """No code of n numbers that is linear both ways does better on its own images: Eckart, Young and Mirsky."""
    images = small.train_images.numpy() / 255
    centred = images - images.mean(axis=0)
    left, scale, right = np.linalg.svd(centred, full_matrices=False)
    curve = dict(sparsity.pca_curve(small.train_images, small.train_images, (1, 12, 100)))
    for n, error in curve.items():
        best = images.mean(axis=0) + left[:, :n] * scale[:n] @ right[:n]
        assert error == pytest.approx(((best.clip(0, 1) - images) ** 2).mean(), rel=1e-3)


def test_a_curve_ends_at_the_whole_model(trained, small):
    model = trained
    report = common.evaluate(model, small.test_images)
    curve = sparsity.kept_curve(model, small.test_images)
    assert curve[-1][1] == pytest.approx(report.mse, rel=1e-4) and curve[-1][0] <= 64
    assert dict(curve).get(25, report.kept[25]) == pytest.approx(report.kept[25], rel=1e-4)
    assert [n for n, _ in curve] == sorted({n for n, _ in curve})


def test_the_picture_is_drawn(tmp_path):
    curve = [(1, 0.05), (10, 0.01), (25, 0.005)]
    figure = sparsity.plot(
        dict.fromkeys(sparsity.SHIPPED, curve), {"sparse_l1": curve, "sparse_kl": curve}, {"sparse_l1": curve}, curve
    )
    common.save_figure(figure, tmp_path / "sparsity.png")
    assert (tmp_path / "sparsity.png").read_bytes().startswith(b"\x89PNG")


def test_plain_models_are_drawn_beside_ours(small, tmp_path):
    ours = METHODS["sparse_l1"].train(small, hidden=20)
    pair = [(ours, common.evaluate(ours, small.test_images))] * 2
    pair[0][1].is_dead[3] = True
    figure = plain.plot({"L1": pair, "KL": pair})
    common.save_figure(figure, tmp_path / "plain.png")
    crosses = [len(axes.lines) for axes in figure.axes]
    assert crosses == [2 * (plain.shown_units(pair[0][1]) == 3).sum()] * 4 and crosses[0] > 0


def test_pursuit_in_an_orthonormal_dictionary_takes_the_largest():
    generator = torch.Generator().manual_seed(0)
    dictionary = torch.linalg.qr(torch.randn(784, 40, generator=generator, dtype=torch.float64)).Q.T
    wanted = torch.randn(9, 40, generator=generator, dtype=torch.float64)
    for positive in (False, True):
        sizes = wanted if positive else wanted.abs()
        units, code = limit.pursue(wanted @ dictionary, dictionary, 5, positive)
        assert torch.equal(units, sizes.topk(5).indices)
        assert torch.allclose(code, wanted.gather(1, units), atol=1e-6)


def test_the_best_code_of_given_units_cannot_be_bettered():
    """What is left is at right angles to every picture, or the unit is at 0 and would have to go below."""
    generator = torch.Generator().manual_seed(0)
    dictionary = torch.randn(12, 784, generator=generator, dtype=torch.float64).abs()
    targets = torch.randn(7, 784, generator=generator, dtype=torch.float64)
    units = torch.stack([torch.randperm(12, generator=generator)[:6] for _ in range(7)])
    for positive in (False, True):
        code = limit.best_code(dictionary @ dictionary.T, targets @ dictionary.T, units, positive)
        left = targets - (code[:, :, None] * dictionary[units]).sum(dim=1)
        slope = (dictionary[units] * left[:, None]).sum(dim=2)
        assert (slope[code != 0].abs() < 0.01).all()
        assert not positive or ((code >= 0).all() and (code == 0).any() and (slope[code == 0] < 0.01).all())


def test_each_departure_is_taken_back_by_itself(method):
    """And all of them together are --plain."""
    found = ablation.departures(method.cls)
    assert len(found) >= 9 and found["ours"] == (method.cls, {}) and found["plain"] == (method.cls, {"plain": True})
    together = {}
    for variant, changes in found.values():
        assert issubclass(variant, method.cls) and len(changes) <= 2
        variant(**changes)
        if len(changes) == 1:
            together |= changes
    del together["plain"]
    together.pop("l1_weight", None)  # which the document has, and the paper has not
    if method.name == "sparse_ksparse":
        assert ablation.GeometricFall(k=4).schedule(0.25) == {"k": 20}
    if method.name == "sparse_kl":
        together["weight_decay"] = 0.0  # a third of it was one, too
    assert method.cls(**together).config | {"plain": True} == method.cls(plain=True).config


def test_the_agreement_is_that_of_living_units(small, monkeypatch):
    model = METHODS["sparse_l1"].train(small)
    model.encoder.bias[:40] = -1e3
    model.dictionary.copy_(model.encoder.weight)
    model.dictionary[:40] *= -1
    monkeypatch.setattr(methods, "trained", lambda *_: model)
    monkeypatch.setattr(probe, "probe", lambda *_: SimpleNamespace(error=1.0))
    assert ablation.figures(SparseL1, {}, small)["agreement"] == pytest.approx(1)


def test_units_are_seen_at_their_moments(small):
    steps = []

    class Noted(SparseL1):
        def after_step(self):
            super().after_step()
            steps.append(self.dictionary.clone())
            if len(steps) == 15:
                self.encoder.bias[3] = -1e3  # dead from here on

    moments, shown, is_dead, reports = learning.learn(Noted, small, hidden=64, epochs=12, batch_size=100)
    units = common.units_from_most_active(reports[-1], learning.UNITS)
    assert moments == ["start", "¼ epoch", "1 epoch", "3 epochs", "10 epochs", "12 epochs"]
    assert torch.equal(shown, torch.stack([steps[step][units] for step in (0, 1, 6, 18, 60, 72)]))
    assert units[-1] == 3 and is_dead[:, -1].tolist() == [False, False, False, True, True, True]


def test_unseen_images_are_not_trained_on(data, monkeypatch):
    fitted, judged = [], []
    report = SimpleNamespace(loss=1.0, mse=1.0, kept={25: 1.0})
    monkeypatch.setattr(torch, "set_flush_denormal", lambda *_: None)
    monkeypatch.setattr(sys, "argv", ["unseen.py"])
    monkeypatch.setattr(methods, "SHIPPED", ["sparse_l1"])
    monkeypatch.setattr(methods, "trained", lambda model, data: fitted.append(data.train_images) or model)
    monkeypatch.setattr(common, "evaluate", lambda model, images: judged.append(images) or report)
    unseen.main()
    assert torch.equal(torch.cat([fitted[0], judged[0]]), data.train_images)
    assert torch.equal(judged[1], data.test_images) and len(judged[0]) == 10_000


def test_the_penalty_of_a_batch_is_that_of_the_training(small):
    model = METHODS["sparse_kl"].train(small)
    images = common.to_float(small.test_images)
    penalties = [common.losses_of(model, part, "float32")[1].item() for part in (images[:100], images[100:])]
    assert batches.penalty_of(model, small.test_images, 100) == pytest.approx(sum(penalties) / 2, rel=1e-5)


THEIRS = """
print("training")
answer = input("k?")
lr = 1e-3
class K_SparseAutoencoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Sequential(nn.Linear(2, 3), nn.ReLU())
def training(network):
    return lr * 2
training(None).save("x")
"""


def test_of_the_originals_only_definitions_are_executed(tmp_path, capsys):
    (tmp_path / "main.py").write_text(THEIRS)
    theirs = originals.definitions(tmp_path / "main.py")
    assert theirs["lr"] == 1e-3 and theirs["training"](None) == 2e-3 and theirs["K_SparseAutoencoder"]().layer
    assert "answer" not in theirs and capsys.readouterr().out == ""


class Bomb:
    """A pickle that would do something when it is read."""

    def __reduce__(self):
        return exec, ("raise SystemExit",)


def test_a_pickled_network_of_theirs_cannot_do_anything(tmp_path):
    torch.save({"network": Bomb()}, tmp_path / "K_SAE_model.pth")
    with pytest.raises(pickle.UnpicklingError, match="exec"):
        originals.load_pickled(tmp_path / "K_SAE_model.pth", Bomb)


def test_without_a_clone_it_says_where_they_are(tmp_path):
    for folders in ([], [tmp_path]):
        with pytest.raises(SystemExit, match="IvLabs/Variational-DL and https://github.com/Khdave02/Autoencoders"):
            originals.find(folders)


def test_units_of_theirs_are_ranked_by_what_switching_them_off_changes(small):
    """With a linear decoder that is the size of the contribution, and so our own curve."""
    model = METHODS["sparse_ksparse"].train(small)
    images = common.to_float(small.test_images).view(-1, 1, 28, 28)
    linear = SimpleNamespace(
        encode=lambda images, k: model.encode(images.view(-1, 784)),
        decode=lambda code: model.decoder(code).view(-1, 1, 28, 28),
    )
    model.squash = lambda output: output
    curve = dict(sparsity.kept_curve(model, small.test_images, (1, 2, 3)))
    for n, error in originals.kept_curve(linear, images, (1, 2, 3)):
        assert error == pytest.approx(curve[n], rel=1e-4)
