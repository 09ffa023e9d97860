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
    """A model of each method in turn, the ten digits it was given, its report and its figures by kind. Its unit 2 is
    dead, and all units draw something of their own."""
    model = method.train(data._replace(train_images=data.train_images[:600], train_labels=data.train_labels[:600]))
    model.name = "a-model_of-mine"
    model.encoder.weight[2], model.encoder.bias[2] = 0, -10
    report = common.evaluate(model, data.test_images[:199])
    train_digits = common.first_images(data.train_images, data.train_labels)
    test_digits = common.first_images(data.test_images, data.test_labels)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(common, "write_numbers", watched_write_numbers)
        figures = common.draw_pictures(model, report, data)
    return model, report, train_digits, test_digits, figures


def watched_write_numbers(axes, numbers, write_numbers=common.write_numbers):
    """They are shapes, and no texts: so what they say is noted."""
    write_numbers(axes, numbers)
    axes.numbers = numbers


def pixels_of(figure, tmp_path):
    """The pixels [height, width, 3] in 0 to 255 of the PNG of a figure."""
    common.save_figure(figure, tmp_path / "x.png")
    return (255 * imread(tmp_path / "x.png")[:, :, :3]).round().astype(int)


def below_title(figure):
    """Where the pixels of a picture begin."""
    return 44 + 18 * figure.texts[0].get_text().count("\n")


def tile(pixels, left, top, row, column, gap, zoom):
    """One pixel for each of an image's, [28, 28, 3], of a mosaic that begins `left`, `top` of the PNG."""
    side = 28 * zoom + gap
    y, x = top + gap + row * side, left + gap + column * side
    return pixels[y : y + 28 * zoom : zoom, x : x + 28 * zoom : zoom]


def colours(values, name=None):
    """What a colour map, or that of ink, makes of values in [0, 1], [784] or less, as pixels."""
    chosen = matplotlib.colormaps[name] if name else common.ink_colours()
    return (255 * chosen(np.asarray(values).reshape(28, 28))[:, :, :3]).round().astype(int)


def same(one, other):
    return np.abs(one - other).max() <= 6  # at most one of the 256 steps of a colour map apart


def test_every_picture_says_whose_it_is(drawn):
    *_, figures = drawn
    assert sorted(figures) == ["features", "loss", "parts", "test", "train", "units"]
    for kind, figure in figures.items():
        titles = [text.get_text() for text in figure.texts] + [axes.get_title() for axes in figure.axes]
        assert any(title.startswith("a-model_of-mine") for title in titles), kind


@pytest.mark.parametrize("kind", ["test", "train"])
def test_each_digit_stands_above_its_reconstruction(drawn, tmp_path, kind):
    model, _, train_digits, test_digits, figures = drawn
    digits = test_digits if kind == "test" else train_digits
    pixels, outputs = pixels_of(figures[kind], tmp_path), model(digits)[0]
    for column in range(10):
        assert same(tile(pixels, 102, 44, 0, column, 4, 2), colours(digits[column], "gray_r"))
        assert same(tile(pixels, 102, 44, 1, column, 4, 2), colours(outputs[column], "gray_r"))
    labels = {text.get_text(): text.get_position()[1] for text in figures[kind].axes[0].texts}
    assert labels["input"] < labels["output"] < 120  # y grows downwards


def test_the_ten_digits_are_0_to_9(data):
    """Each is the first of its kind."""
    digits = common.first_images(data.test_images, data.test_labels)
    for digit in range(10):
        first = next(i for i, label in enumerate(data.test_labels.tolist()) if label == digit)
        assert torch.equal(digits[digit], common.to_float(data.test_images[first : first + 1])[0])


def test_rows_of_a_comparison_stand_in_their_order(drawn, tmp_path):
    *_, digits, _ = drawn
    rows = [("input", digits), ("k = 5", digits.flip(0)), ("k = 25", 1 - digits)]
    pixels = pixels_of(common.plot_rows(rows, "three rows"), tmp_path)
    for row, (_, images) in enumerate(rows):
        for column in (0, 9):
            assert same(tile(pixels, 102, 44, row, column, 4, 2), colours(images[column], "gray_r"))


def test_features_are_the_dictionary_the_most_active_first(drawn, tmp_path):
    model, report, *_, figures = drawn
    pixels = pixels_of(figures["features"], tmp_path)
    units = sorted(range(64), key=lambda unit: -report.frequency[unit])  # a stable order
    limit = np.quantile(model.dictionary[units].abs().flatten()[::5].numpy(), 0.998)
    for place, unit in enumerate(units):
        if report.frequency[unit] > 0:
            shown = tile(pixels, 12, below_title(figures["features"]), place // 32, place % 32, 1, 1)
            assert same(shown, colours(model.dictionary[unit] / (2 * limit) + 0.5)), unit


def test_a_dead_unit_is_crossed_out(drawn, tmp_path):
    _, report, *_, figures = drawn
    pixels, dead = pixels_of(figures["features"], tmp_path), int((report.frequency == 0).sum())
    (crosses,) = figures["features"].axes[0].lines
    assert dead >= 1 and np.isnan(crosses.get_xdata().astype(float)).sum() == 2 * dead
    last = tile(pixels, 12, below_title(figures["features"]), 63 // 32, 63 % 32, 1, 1)  # the rarest is the last
    diagonal, other = last[range(28), range(28)], last[range(28), range(27, -1, -1)]
    assert diagonal.max(axis=1).mean() < 100 and other.max(axis=1).mean() < 100  # dark


def test_parts_show_the_units_that_carry_each_digit(drawn, tmp_path):
    model, report, _, digits, figures = drawn
    pixels, (reconstruction, code) = pixels_of(figures["parts"], tmp_path), model(digits)
    added = (code - report.median_code)[..., None] * model.dictionary  # [10, 64, 784]
    numbers = {(x, y): int(text) for x, y, text in figures["parts"].axes[0].numbers}
    n = len(numbers) // 10
    shown = [[numbers[(column + 2.5) * 35 + 3.5, row * 35 + 6] for column in range(n)] for row in range(10)]
    limit = max(added[row, shown[row]].abs().max() for row in range(10)) / 2
    top = below_title(figures["parts"])
    for row in range(10):
        strength = added[row].norm(dim=1)
        assert strength[shown[row]].tolist() == pytest.approx(strength.topk(n).values.tolist(), rel=1e-4)
        assert same(tile(pixels, 12, top, row, 0, 14, 2), colours(digits[row], "gray_r"))
        assert same(tile(pixels, 12, top, row, 1, 14, 2), colours(reconstruction[row], "gray_r"))
        for column, unit in enumerate(shown[row]):
            tinted = colours(added[row, unit] / (2 * limit) + 0.5)
            assert same(tile(pixels, 12, top, row, column + 2, 14, 2), tinted), (row, unit)
        total = added[row, shown[row]].sum(dim=0)
        assert same(tile(pixels, 12, top, row, n + 2, 14, 2), colours(total / (2 * limit) + 0.5))


def test_units_and_the_images_that_light_them(drawn, data, tmp_path):
    model, report, *_, figures = drawn
    figure = figures["units"]
    pixels, top = pixels_of(figure, tmp_path), 62 + 18 * figure.texts[0].get_text().count("\n")
    texts = [text.get_text() for text in figure.axes[0].texts]
    codes = {(x, y): text for x, y, text in figure.axes[0].numbers}
    shown = [int(text.removeprefix("unit ")) for text in texts if text.startswith("unit ")]
    by_activity = sorted(range(64), key=lambda unit: (-report.frequency[unit], unit))
    assert shown == [by_activity[round(row * 63 / 23)] for row in range(24)]
    assert f"on {100 * report.frequency[shown[0]]:.1f} %" in texts
    images, white, seen = common.to_float(data.test_images), 255, set()
    for row, unit in enumerate(shown):
        for column, weights in ((0, model.dictionary[unit]), (1, model.encoder.weight[unit])):
            expected = colours(weights / weights.abs().max().clamp(min=1e-12) / 2 + 0.5)
            assert same(tile(pixels, 96, top, row, column, 16, 2), expected)
        share = model.dictionary[unit] / model.dictionary[unit].abs().max()
        strongest = report.code[:, unit].topk(12)
        for column, (code, image) in enumerate(zip(*map(torch.Tensor.tolist, strongest), strict=True), start=2):
            found = tile(pixels, 96, top, row, column, 16, 2).reshape(784, 3)
            if code <= model.active_above:
                assert (found == white).all() and (column * 36 + 22, row * 36 + 6.5) not in codes
                continue
            red, _, blue = found.T
            is_drawn = (images[image] > 0.9) & (share > 0.5)
            is_rest = (images[image] > 0.9) & (share.abs() < 0.01)
            is_cleared = (images[image] == 0) & (share < -0.5)
            if is_drawn.any():
                seen.add("drawn")
                assert (red - blue)[is_drawn].min() > 100
            if is_rest.any():
                seen.add("at rest")
                assert np.ptp(found[is_rest], axis=1).max() < 60
            if is_cleared.any():
                seen.add("cleared")
                assert (blue - red)[is_cleared].min() > 20
            assert codes[column * 36 + 22, row * 36 + 6.5] == f"{code:#.3g}"
    assert seen == {"drawn", "at rest", "cleared"}


def test_numbers_stand_in_the_middle(tmp_path):
    pixels = np.zeros((40, 200), np.float32)
    figure, axes = common.new_mosaic_figure(pixels, "", (2, 2), cmap="gray_r", vmin=0, vmax=1)
    common.write_numbers(axes, [(50, 20, "1234"), (150, 30, "8")])
    shown = pixels_of(figure, tmp_path)[44:-12, 12:-12, 0]
    for x, y, half in (50, 20, 50), (150, 30, 50):
        rows, columns = np.nonzero(shown[:, 2 * (x - half) : 2 * (x + half)] < 200)
        assert abs(columns.mean() - 2 * half) < 2 and -1 <= 2 * y - rows.max() <= 2 and 6 <= np.ptp(rows) <= 10


def test_the_loss_graph_has_the_losses(drawn):
    model, report, *_, figures = drawn
    axes = figures["loss"].axes[0]
    lines = {line.get_label(): list(line.get_ydata()) for line in axes.lines}
    assert lines["train loss, with penalty (while learning)"] == model.history.train_loss
    assert lines["train loss without penalty (while learning)"] == model.history.train_reconstruction
    assert lines[f"test loss: {report.loss:.5f} in the end"] == model.history.test_loss
    mse = lines[f"test MSE, of the reconstruction in [0, 1]: {report.mse:.5f} in the end"]
    floors = [label for label in lines if label.startswith("floor")]
    assert len(floors) == (1 if model.loss_name == "BCE" else 0) and mse == ([] if floors else [report.mse])
    assert model.loss_name in axes.get_ylabel()
    legend = [text.get_text() for text in figures["loss"].legends[0].get_texts()]
    assert legend[: len(lines)] == list(lines)


def test_no_line_of_a_graph_is_told_by_its_colour_alone(drawn):
    *_, figures = drawn
    lines = [line for axes in figures["loss"].axes for line in axes.lines if line.get_label()[0] != "_"]
    looks = [(str(line._dash_pattern), line.get_marker(), line.get_linewidth()) for line in lines]
    assert len(set(looks)) == len(looks)


def test_ink_can_be_told_in_grey():
    """The more of it a unit adds, the darker; the more it takes away, the brighter."""
    red, green, blue, _ = common.ink_colours()(np.linspace(0, 1, 41)).T
    grey = 0.299 * red + 0.587 * green + 0.114 * blue
    assert (np.diff(grey) < -0.003).all()


@pytest.fixture(scope="module")
def figures(small):
    """The figures of one model: of all methods they are drawn by the same functions."""
    model = METHODS["sparse_l1"].train(small, hidden=256)
    report = common.evaluate(model, small.test_images)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(common, "ROWS", 6)
        return common.draw_pictures(model, report, small)


@pytest.mark.parametrize("kind", ["features", "units", "parts", "test"])
def test_a_picture_is_right_at_any_size(figures, tmp_path, kind):
    """Saved by somebody at three times as many pixels, each part is where it was."""
    small = pixels_of(figures[kind], tmp_path)
    figures[kind].savefig(tmp_path / "large.png", dpi=3 * common.DPI)
    large = (255 * imread(tmp_path / "large.png")[1::3, 1::3, :3]).round().astype(int)
    assert large.shape == small.shape
    is_alike = np.abs(large - small).max(axis=2) <= 12
    assert is_alike.mean() > 0.95  # the rest are the edges of letters and lines


@pytest.mark.parametrize(("form", "beginning"), [("pdf", b"%PDF"), ("svg", b"<?xml")])
def test_other_forms(figures, tmp_path, form, beginning):
    for kind, figure in figures.items():
        common.save_figure(figure, tmp_path / f"{kind}.{form}")
        assert (tmp_path / f"{kind}.{form}").read_bytes().startswith(beginning)


def test_the_loss_graph_says_how_k_changed(drawn, data):
    *_, figures = drawn
    assert len(figures["loss"].axes) == (2 if drawn[0].method == "sparse_ksparse" else 1)
    if drawn[0].method == "sparse_ksparse":
        (line,) = figures["loss"].axes[1].lines
        x, k = line.get_data()
        assert (k[0], k[-1], x[-1]) == (64, 5, 2) and (k[x >= 1] == 5).all() and k[x == 0.5] == round((64 * 5) ** 0.5)
        assert line.get_label() == "k in training (right axis): from 64 to 5 by epoch 1; 5 in each test"
        assert figures["loss"].axes[0].get_xlim() == (0, 2)  # all of it is in sight


def test_a_k_that_does_not_change_is_not_drawn(small):
    model = METHODS["sparse_ksparse"].train(small, k=64)
    report = common.evaluate(model, small.test_images)
    assert len(common.plot_loss(model, report).axes) == 1


@pytest.mark.parametrize("lacking", ["two digits", "all labels"])
def test_pictures_without_some_labels(tiny, small, tmp_path, lacking):
    """The grids have the first image of each digit that there is, or the first ten; the rest is drawn."""
    model = tiny["sparse_kl"]
    chosen = small.test_labels % 5 != 1
    images, labels = small.test_images[chosen], small.test_labels[chosen]
    if lacking == "all labels":
        labels = None
    some = common.Data(images, labels, images, labels)
    report = common.evaluate(model, images)
    figures = common.draw_pictures(model, report, some)
    shown = common.first_images(images, labels)
    assert len(shown) == (10 if labels is None else 8)
    pixels, top = pixels_of(figures["test"], tmp_path), below_title(figures["test"])
    for column, image in enumerate(shown):
        assert same(tile(pixels, 102, top, 0, column, 4, 2), colours(image, "gray_r"))
    if labels is None:
        assert torch.equal(shown, common.to_float(images[:10]))


def test_pictures_of_an_extreme_model(data):
    """One unit, and one that is always at rest."""
    model = METHODS["sparse_l1"].build(hidden=1, epochs=1).requires_grad_(False).eval()
    model.encoder.bias.fill_(-100.0)
    model.history = common.History([0.1], [0.1], [0.1])
    report = common.evaluate(model, data.test_images[:99])
    assert len(common.draw_pictures(model, report, data)) == 6
