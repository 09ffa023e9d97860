"""Pictures show what they say: their PNG files, read back pixel for pixel."""

import matplotlib
import numpy as np
import pytest
import torch
from conftest import METHODS
from matplotlib.image import imread

import common


@pytest.fixture(scope="module")
def drawn(method, data):
    """A model of each method in turn, its report and its figures by kind. Its unit 2 is dead."""
    model = method.train(data._replace(train_images=data.train_images[:600], train_labels=data.train_labels[:600]))
    model.name = "a-model_of-mine"
    model.encoder.weight[2], model.encoder.bias[2] = 0, -10
    report = common.evaluate(model, data.test_images[:199])
    return model, report, common.draw_pictures(model, report, data)


@pytest.fixture(scope="module")
def digits(data):
    return common.first_images(data.test_images, data.test_labels)


def pixels_of(figure, tmp_path):
    """The pixels [height, width, 3] in 0 to 255 of the PNG of a figure."""
    common.save_figure(figure, tmp_path / "x.png")
    return (255 * imread(tmp_path / "x.png")[:, :, :3]).round().astype(int)


def tile(pixels, row, column, gap, left=12, top=44):
    """Every second pixel each way, [28, 28, 3], of an image of a mosaic that begins `left`, `top` of the PNG."""
    y, x = (start + 2 * (gap + place * (28 + gap)) for start, place in ((top, row), (left, column)))
    return pixels[y : y + 56 : 2, x : x + 56 : 2]


def colours(values, name=None):
    """What a colour map, or that of ink, makes of values in [0, 1], [784], as pixels."""
    chosen = matplotlib.colormaps[name] if name else common.ink_colours()
    return (255 * chosen(np.asarray(values).reshape(28, 28))[:, :, :3]).round().astype(int)


def same(one, other):
    return np.abs(one - other).max() <= 6  # at most one of the 256 steps of a colour map apart


def test_there_are_six_kinds_and_each_says_whose_it_is(drawn):
    *_, figures = drawn
    assert list(figures) == ["loss", "test", "train", "features", "units", "parts"]
    for kind, figure in figures.items():
        title = figure.axes[0].get_title() if kind == "loss" else figure.texts[0].get_text()
        assert title.startswith("a-model_of-mine: "), kind


@pytest.mark.parametrize("kind", ["test", "train"])
def test_each_digit_stands_above_its_reconstruction(drawn, data, digits, tmp_path, kind):
    model, _, figures = drawn
    shown = digits if kind == "test" else common.first_images(data.train_images, data.train_labels)
    pixels = pixels_of(figures[kind], tmp_path)
    for row, images in enumerate((shown, model(shown)[0])):
        for column in range(10):
            assert same(tile(pixels, row, column, 2, left=102), colours(images[column], "gray_r"))
    assert [text.get_text() for text in figures[kind].axes[0].texts] == ["input", "output"]


def test_a_comparison_is_a_table_and_a_row_of_reconstructions_each(small, tmp_path, capsys):
    models = [METHODS["sparse_ksparse"].train(small, k=k, epochs=1) for k in (50, 2)]
    reports = [common.evaluate(model, small.test_images) for model in models]
    capsys.readouterr()
    path = common.compare(models, reports, small, tmp_path)
    heading, *table = (line.split() for line in capsys.readouterr().out.splitlines())
    assert " ".join(heading) == "k test loss test MSE MSE from 25 MSE from 50 active dead idle"
    for row, k, report in zip(table, ("50", "2"), reports, strict=True):
        losses = [f"{value:.5f}" for value in (report.loss, report.mse, report.kept[25], report.kept[50])]
        assert row == [k, *losses, f"{report.active:.1f}", str(report.dead), str(report.idle)]
    assert path.name.startswith("sparse_ksparse_k50_2_hidden64") and path.name.endswith("_comparison.png")
    pixels = (255 * imread(path)[:, :, :3]).round().astype(int)
    images = common.first_images(small.test_images, small.test_labels)
    for row, expected in enumerate((images, *(model(images)[0] for model in models))):
        assert all(same(tile(pixels, row, i, 2, left=102), colours(expected[i], "gray_r")) for i in range(10)), row


def test_features_are_the_dictionary_the_most_active_first_and_dead_units_are_crossed_out(drawn, tmp_path):
    model, report, figures = drawn
    pixels = pixels_of(figures["features"], tmp_path)
    units = sorted(range(64), key=lambda unit: -report.frequency[unit])  # a stable order
    limit = np.quantile(model.dictionary.abs().numpy(), 0.998)
    assert report.frequency[units[-1]] == 0
    for place, unit in enumerate(units):
        shown = tile(pixels, *divmod(place, 20), 1)
        if not report.is_dead[unit]:
            assert same(shown, colours(model.dictionary[unit] / (2 * limit) + 0.5)), unit
        else:
            assert shown[range(28), range(28)].mean() < 130 and shown[range(28), range(27, -1, -1)].mean() < 130


def test_of_many_units_160_are_shown_from_the_most_to_the_least_active(small, tmp_path):
    model = METHODS["sparse_l1"].train(small, hidden=200)
    report = common.evaluate(model, small.test_images)
    report.frequency = torch.arange(200, 0, -1) / 200
    figure = common.plot_features(model, report)
    assert "what 160 of 200 units draw" in figure.texts[0].get_text()
    pixels, limit = pixels_of(figure, tmp_path), np.quantile(model.dictionary.abs().numpy(), 0.998)
    for place in (0, 80, 159):
        unit = round(place * 199 / 159)
        expected = colours(model.dictionary[unit] / (2 * limit) + 0.5)
        assert np.abs(tile(pixels, *divmod(place, 20), 1) - expected).mean() < 6, unit


def test_parts_are_an_equation(drawn, digits, tmp_path):
    """Image, reconstruction, average, main units, rest: squash(average + units + rest) is the reconstruction."""
    model, report, figures = drawn
    pixels, (reconstruction, code) = pixels_of(figures["parts"], tmp_path), model(digits)
    average = report.median_code @ model.dictionary + model.decoder.bias
    added = (code - report.median_code)[..., None] * model.dictionary  # [10, 64, 784]
    strength, order = added.norm(dim=2).sort(dim=1, descending=True)
    n = 5 if model.method == "sparse_ksparse" else 10
    assert f"its {n} main units + the rest" in figures["parts"].texts[0].get_text()
    assert ("sigmoid(" in figures["parts"].texts[0].get_text()) == (model.method != "sparse_ksparse")
    main = torch.stack([added[row, order[row, :n]] for row in range(10)])
    rest = torch.stack([added[row, order[row, n:]].sum(dim=0) for row in range(10)])
    assert torch.allclose(model.squash(average + main.sum(dim=1) + rest), reconstruction, atol=1e-4)
    limit = main.abs().max()
    for row in range(10):
        for column, image in enumerate((digits[row], reconstruction[row], model.squash(average))):
            assert same(tile(pixels, row, column, 4), colours(image, "gray_r")), (row, column)
        for column, ink in enumerate((*main[row], rest[row]), start=3):
            is_tied = 3 < column + 1 < n + 3 and (strength[row, :n].diff().abs() < 1e-5).any()
            assert is_tied or same(tile(pixels, row, column, 4), colours(ink / limit + 0.5)), (row, column)


def test_units_and_the_images_that_light_them(drawn, data, tmp_path):
    """A dozen rows, from the most to the least active unit: what it draws, what it looks for, and its images, where red
    is ink that it draws and blue what it clears."""
    model, report, figures = drawn
    pixels, texts = pixels_of(figures["units"], tmp_path), [text.get_text() for text in figures["units"].axes[0].texts]
    by_activity = sorted(range(64), key=lambda unit: -report.frequency[unit])
    shown = [by_activity[round(row * 63 / 11)] for row in range(12)]
    assert [text for text in texts if text.startswith("unit ")] == [f"unit {unit}" for unit in shown]
    assert f"on {100 * report.frequency[shown[0]]:.2g} %" in texts
    images, seen = common.to_float(data.test_images), set()
    for row, unit in enumerate(shown):
        for column, weights in enumerate((model.dictionary[unit], model.encoder.weight[unit])):
            expected = colours(weights / weights.abs().max().clamp(min=1e-12) / 2 + 0.5)
            assert same(tile(pixels, row, column, 8, 96, 62), expected), (unit, column)
        share = model.dictionary[unit] / model.dictionary[unit].abs().max()
        codes, strongest = report.code[:, unit].topk(12)
        for column, (code, image) in enumerate(zip(codes, images[strongest], strict=True), start=2):
            red, green, blue = tile(pixels, row, column, 8, 96, 62).reshape(784, 3).T
            if code <= model.active_above:
                assert red.min() == green.min() == blue.min() == 255
                continue
            for kind, mask, is_right in (
                ("drawn", (image > 0.9) & (share > 0.5), red - blue > 100),
                ("at rest", (image > 0.9) & (share.abs() < 0.01), abs(red - blue) < 60),
                ("cleared", (image == 0) & (share < -0.5), blue - red > 20),
            ):
                assert is_right[mask].all(), (kind, unit)
                seen |= {kind} if mask.any() else set()
    assert seen == {"drawn", "at rest", "cleared"}


def test_the_graph_of_losses_has_history_floor_and_schedule(drawn):
    model, report, figures = drawn
    axes, *schedules = figures["loss"].axes
    lines = {line.get_label(): list(line.get_ydata()) for line in axes.lines}
    assert lines["train loss, with penalty (while learning)"] == model.history.train_loss
    assert lines["train loss without penalty (while learning)"] == model.history.train_reconstruction
    assert lines[f"test loss: {report.loss:.5f} in the end"] == model.history.test_loss
    floor = [f"floor {report.floor:.5f}: the pixels' entropy"] if report.floor else []
    assert list(lines)[3:] == floor and axes.get_ylabel() == f"{model.loss_name} per pixel"
    scheduled = {
        "sparse_l1": [],
        "sparse_kl": ["weight_decay in training (right axis): from 3e-06 to 0 by epoch 2; 0 in each test"],
        "sparse_ksparse": ["k in training (right axis): from 64 to 5 by epoch 1; 5 in each test"],
    }[model.method]
    assert [axes.lines[0].get_label() for axes in schedules] == scheduled
    drawn_lines = [line for part in figures["loss"].axes for line in part.lines]
    assert [text.get_text() for text in figures["loss"].legends[0].get_texts()] == [*lines, *scheduled]
    looks = [(str(line._dash_pattern), line.get_linewidth()) for line in drawn_lines]
    assert len(set(looks)) == len(looks)  # none is told by its colour alone


def test_ink_can_be_told_in_grey():
    """The more of it a unit adds, the darker; the more it takes away, the brighter."""
    red, green, blue, _ = common.ink_colours()(np.linspace(0, 1, 41)).T
    assert (np.diff(0.299 * red + 0.587 * green + 0.114 * blue) < -0.003).all()


@pytest.mark.parametrize("lacking", ["two digits", "all labels"])
def test_pictures_without_some_labels(tiny, small, tmp_path, lacking):
    """The grids have the first image of each digit that there is, or the first ten."""
    chosen = small.test_labels % 5 != 1
    images, labels = small.test_images[chosen], small.test_labels[chosen]
    places = [labels.tolist().index(digit) for digit in (0, 2, 3, 4, 5, 7, 8, 9)]
    if lacking == "all labels":
        labels, places = None, range(10)
    figures = common.draw_pictures(
        tiny["sparse_kl"], common.evaluate(tiny["sparse_kl"], images), common.Data(images, labels, images, labels)
    )
    pixels = pixels_of(figures["test"], tmp_path)
    for column, place in enumerate(places):
        assert same(tile(pixels, 0, column, 2, left=102), colours(images[place] / 255, "gray_r"))
    assert len(figures["parts"].axes[0].images[0].get_array()) == 4 + 32 * len(places)


def test_pictures_of_a_model_with_one_unit_that_is_dead(small):
    model = METHODS["sparse_l1"].train(small, hidden=1)
    model.encoder.bias.fill_(-100.0)
    assert len(common.draw_pictures(model, common.evaluate(model, small.test_images), small)) == 6
