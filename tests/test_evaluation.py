"""The report, against its definitions written out in numpy and float64."""

from pathlib import Path

import numpy as np
import pytest
import torch

import common


def double(tensor):
    return tensor.detach().numpy().astype(np.float64)


class Defined:
    """What a model does to the small test images, and its report by definition."""

    def __init__(self, model, small):
        self.model, self.images = model, double(small.test_images) / 255
        self.code, self.dictionary = double(model.encode(common.to_float(small.test_images))), double(model.dictionary)
        self.median_code = np.median(self.code, axis=0)
        self.norms = np.sqrt((self.dictionary**2).sum(axis=1))
        self.active = self.code > {"sparse_l1": 0, "sparse_kl": 0.5, "sparse_ksparse": 0}[model.method]

    def drawn(self, code):
        output = code @ self.dictionary + double(self.model.decoder.bias)
        return output.clip(0, 1) if self.model.method == "sparse_ksparse" else 1 / (1 + np.exp(-output))

    def kept(self, n):
        code = np.tile(self.median_code, (len(self.code), 1))
        for image, row in enumerate(self.code):
            for unit in sorted(range(len(row)), key=lambda j: -abs(row[j] - self.median_code[j]) * self.norms[j])[:n]:
                code[image, unit] = row[unit]
        return ((self.drawn(code) - self.images) ** 2).mean()

    def idle(self):
        amplitude = self.code.std(axis=0) * self.norms
        return sum((amplitude < np.sqrt((amplitude**2).mean()) / 10) & (self.code != 0).any(axis=0))

    def locality(self):
        living = self.dictionary[(self.code != 0).any(axis=0)]
        ink = -np.sort(-(living**2), axis=1)
        return np.median(ink[:, :39].sum(axis=1) / ink.sum(axis=1))

    def loss(self):
        output = self.code @ self.dictionary + double(self.model.decoder.bias)
        if self.model.method == "sparse_ksparse":
            return ((output - self.images) ** 2).mean()
        p = 1 / (1 + np.exp(-output))
        return -(self.images * np.log(p) + (1 - self.images) * np.log(1 - p)).mean()


def judge(model, small):
    return Defined(model, small), common.evaluate(model, small.test_images)


@pytest.fixture(scope="module")
def crippled(trained, small):
    """A model of each method in turn, whose first unit is dead; the next three hardly move, and one hardly draws."""
    model = type(trained)(**trained.config)
    model.load_state_dict(trained.state_dict())
    model.eval().requires_grad_(False)
    model.encoder.weight[:4] *= 1e-3
    model.dictionary[4] *= 1e-3
    model.encoder.bias[0] = -10
    return judge(model, small)


@pytest.fixture(scope="module", params=["as trained", "crippled"])
def judged(request, trained, small):
    """(Defined, Report) of a model of each method in turn."""
    return request.getfixturevalue("crippled") if request.param == "crippled" else judge(trained, small)


def test_losses(judged):
    defined, report = judged
    assert report.loss == pytest.approx(defined.loss(), rel=1e-5)
    assert report.mse == pytest.approx(((defined.drawn(defined.code) - defined.images) ** 2).mean(), rel=1e-5)


def test_the_floor_is_what_a_perfect_reconstruction_costs(judged):
    defined, report = judged
    x = defined.images.clip(1e-12, 1 - 1e-12)
    entropy = -(x * np.log(x) + (1 - x) * np.log(1 - x)).mean()
    if defined.model.loss_name == "BCE":
        assert report.floor == pytest.approx(entropy, abs=1e-6)
    else:
        assert report.floor is None


def test_kept(judged):
    defined, report = judged
    assert report.kept[25] == pytest.approx(defined.kept(25), rel=1e-4)
    assert report.kept[50] == pytest.approx(defined.kept(50), rel=1e-4)


def test_units(judged):
    defined, report = judged
    assert double(report.code) == pytest.approx(defined.code, rel=1e-5, abs=1e-7)
    assert double(report.median_code) == pytest.approx(defined.median_code, rel=1e-5, abs=1e-7)
    assert report.active == pytest.approx(defined.active.sum(axis=1).mean(), rel=1e-6)
    is_dead = (defined.code == 0).all(axis=0)
    assert report.dead == is_dead.sum() and np.array_equal(report.is_dead, is_dead)
    assert report.idle == defined.idle()
    assert report.locality == pytest.approx(defined.locality(), rel=0.02)  # the median of an even number of units
    assert report.mean_code == pytest.approx(defined.code.mean(), rel=1e-5)
    assert double(report.frequency) == pytest.approx(defined.active.mean(axis=0), abs=1e-6)


def test_crippled_units_are_found(crippled):
    _, report = crippled
    assert report.frequency[0] == 0 and report.dead + report.idle >= 5


def test_few_images_and_none(trained, small):
    report = common.evaluate(trained, small.test_images[:1])
    assert report.code.shape == (1, 64)
    assert np.isfinite([report.loss, report.mse, report.locality]).all()
    assert report.kept == {} and "from 25" not in common.report_text(trained, report)  # its median is the image itself
    with pytest.raises(common.UserError, match="no images to evaluate"):
        common.evaluate(trained, small.test_images[:0])


def test_the_last_test_loss_of_the_history_is_the_reports(trained, small):
    assert common.evaluate(trained, small.test_images).loss == pytest.approx(trained.history.test_loss[-1], rel=1e-5)


def test_the_text_of_a_report(trained, small):
    """The model, what differs from its defaults, the figures, and the file if there is one."""
    report = common.evaluate(trained, small.test_images)
    floor = "" if report.floor is None else f", {report.loss - report.floor:.5f} above the floor {report.floor:.5f}"
    floor += "; on 199 images"
    changes = {"sparse_ksparse": "k 5, "}.get(trained.method, "") + "hidden 64, epochs 2, batch_size 100"
    lines = [
        f"model         {trained.name}, 784 -> 64 -> 784",
        f"trained with  {changes}, precision float32",
        f"test loss     {report.loss:.5f} {trained.loss_name}{floor}",
        f"test MSE      {report.mse:.5f} per pixel; {report.kept[25]:.5f} from 25 units an image; "
        f"{report.kept[50]:.5f} from 50 units an image",
        f"active units  {report.active:.1f} of 64 on an image (their code is above {trained.active_above:g})",
        f"dead units    {report.dead} (their code is 0 on all 199 images)",
        f"idle units    {report.idle} (not dead, but they draw next to nothing)",
    ]
    assert common.report_text(trained, report).split("\n") == lines
    lines.insert(1, "weights       /x.pt")
    assert common.report_text(trained, report, Path("/x.pt")).split("\n") == lines
    with pytest.raises(common.UserError, match="^this model is not trained yet"):
        common.report_text(type(trained)(), report)


def test_a_model_at_its_defaults_says_so(small):
    model = common.load_pretrained("sparse_kl")
    assert "\ntrained with  its defaults\n" in common.report_text(model, common.evaluate(model, small.test_images))


def test_without_a_dead_unit_nothing_changes(trained, small):
    """Whatever is called dead can be silenced; a sigmoid's units are not, however seldom they are active."""
    report = common.evaluate(trained, small.test_images)
    model = type(trained)(**trained.config)
    model.load_state_dict(trained.state_dict())
    model.requires_grad_(False).dictionary[report.is_dead] = 0
    assert common.evaluate(model, small.test_images).mse == report.mse
    assert trained.method != "sparse_kl" or report.dead == 0


@torch.no_grad()
def test_locality_is_that_of_living_units(trained, small):
    """Dead units are counted once, as dead: what their pictures look like is in no other figure."""
    if trained.method != "sparse_kl":
        model = type(trained)(**trained.config)
        model.load_state_dict(trained.state_dict())
        model.requires_grad_(False).encoder.bias[:40] = -100
        before = common.evaluate(model, small.test_images)
        model.dictionary[:40] = torch.eye(784)[:40]
        after = common.evaluate(model, small.test_images)
        assert after.dead >= 40 and after.locality == before.locality
