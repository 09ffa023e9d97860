"""The textbook's methods beside ours: `python tests/studies/plain.py` draws outputs/plain_and_ours.png.

It trains L1, KL, k = 25 and k = 5 with --plain, two minutes on two cores, loads ours, and prints what each is worth.
The picture has what 128 units of each draw, evenly chosen from the most to the least often active.
"""

import argparse
import sys
from pathlib import Path

import torch
from matplotlib.figure import Figure

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import methods  # noqa: E402

import common  # noqa: E402

MODELS = {
    "L1": ("sparse_l1", {}),
    "KL": ("sparse_kl", {}),
    "k = 25": ("sparse_ksparse", {"k": 25}),
    "k = 5": ("sparse_ksparse", {"k": 5}),
}
COLUMNS, ROWS = 16, 8  # units shown of each model


def shown_units(report):
    """COLUMNS · ROWS units, evenly chosen from the most to the least often active."""
    return common.units_from_most_active(report, COLUMNS * ROWS)


@common.own_style()
def plot(pairs):
    """The picture, as a figure.

    Args:
        pairs: a dict from a name to two pairs of a model and its Report, the plain one and ours.
    """
    figure = Figure(figsize=(10, 2.95 * len(pairs)), layout="constrained")
    grid = figure.subplots(len(pairs), 2, squeeze=False)
    for row, (name, pair) in zip(grid, pairs.items(), strict=True):
        pictures = [model.dictionary[shown_units(report)] for model, report in pair]
        limit = torch.cat(pictures).abs().quantile(0.998).item()
        for axes, kind, (_, report), tiles in zip(row, ("plain", "ours"), pair, pictures, strict=True):
            pixels = common.mosaic(tiles, COLUMNS)
            axes.imshow(pixels, cmap=common.ink_colours(), vmin=-limit, vmax=limit, interpolation="none")
            is_dead = report.is_dead[shown_units(report)]
            common.cross_out(axes, is_dead.nonzero()[:, 0].tolist(), COLUMNS)
            axes.axis("off")
            units = len(report.frequency)
            title = f"{name}, {kind}: test MSE {report.mse:.4f}, {report.dead} of {units} units dead"
            axes.set_title(f"{title}, locality {report.locality:.2f}", size=9, loc="left", color=common.INK)
    return figure


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=methods.ROOT / "outputs" / "plain_and_ours.png")
    options = parser.parse_args()
    torch.set_flush_denormal(True)
    data = common.load_data()
    pairs = {}
    for name, (method, config) in MODELS.items():
        cls = methods.CLASSES[method]
        models = methods.train(method, data, plain=True, **config), common.load_pretrained(cls(**config).name)
        pairs[name] = [(model, common.evaluate(model, data.test_images)) for model in models]
        for kind, (model, report) in zip(("plain", "ours"), pairs[name], strict=True):
            figures = f"test loss {report.loss:.5f} ({model.loss_name}), test MSE {report.mse:.5f}"
            kept = ", ".join(f"MSE from {n} {error:.5f}" for n, error in report.kept.items())
            units = (
                f"{report.active:.1f} active, {report.dead} dead, {report.idle} idle, locality {report.locality:.2f}"
            )
            print(f"{name}, {kind}: {figures}, {kept}, {units}", flush=True)
    common.save_figure(plot(pairs), options.output)
    print(common.short_path(options.output))


if __name__ == "__main__":
    main()
