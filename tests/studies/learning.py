"""From noise to strokes: `python tests/studies/learning.py sparse_l1` draws outputs/learning.png.

It trains a method with --plain and as it is, and shows what the same twenty units draw at the start, after a quarter of
an epoch, and after 1, 3, 10 and all epochs. A unit is crossed out where it is dead. A minute on two
cores.
"""

import argparse
import copy
import math
import sys
from pathlib import Path

import torch
from matplotlib.figure import Figure

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import methods  # noqa: E402

import common  # noqa: E402

UNITS = 20


def watched(cls, moments):
    """A subclass that keeps a copy of its weights after so many steps, in a dict `kept`."""

    class Watched(cls):
        def __init__(self, **given):
            super().__init__(**given)
            self.steps, self.kept = -1, {}

        def after_step(self):  # once before the first step, and after each
            super().after_step()
            self.steps += 1
            if self.steps in moments:
                self.kept[self.steps] = copy.deepcopy(self.state_dict())

    return Watched


def learn(cls, data, **config):
    """(a list of moments in words, what twenty units draw then [moments, 20, 784], whether each is dead then
    [moments, 20], the Report then)."""
    model = cls(**config)
    per_epoch = math.ceil(len(data.train_images) / model.batch_size)
    moments = {0: "start", per_epoch // 4: "¼ epoch", per_epoch: "1 epoch"}
    moments |= {epochs * per_epoch: f"{epochs} epochs" for epochs in (3, 10, model.epochs)}
    model = watched(cls, moments)(**config)
    methods.trained(model, data)
    reports, pictures = [], []
    for weights in model.kept.values():
        model.load_state_dict(weights)
        reports.append(common.evaluate(model, data.test_images))
        pictures.append(model.dictionary.clone())
    units = common.units_from_most_active(reports[-1], UNITS)
    shown = torch.stack([dictionary[units] for dictionary in pictures])
    is_dead = torch.stack([report.is_dead[units] for report in reports])
    return list(moments.values()), shown, is_dead, reports


@common.own_style()
def plot(name, learned):
    """The picture, as a figure, from a dict of what `learn` returns by its name."""
    figure = Figure(figsize=(11.6, 3.9 * len(learned)), layout="constrained")
    for axes, (kind, (moments, shown, is_dead, reports)) in zip(
        figure.subplots(len(learned), 1), learned.items(), strict=True
    ):
        limits = shown.abs().flatten(1).quantile(0.998, dim=1)  # weights grow: each moment has colours of its own
        pixels = common.mosaic((shown / limits[:, None, None]).flatten(0, 1), UNITS)
        axes.imshow(pixels, cmap=common.ink_colours(), vmin=-1, vmax=1, interpolation="none")
        common.cross_out(axes, is_dead.flatten().nonzero()[:, 0].tolist(), UNITS)
        axes.set_yticks([15 + 29 * row for row in range(len(moments))], moments, color=common.INK)
        axes.set_xticks([])
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
        dead, of = reports[-1].dead, len(reports[-1].frequency)
        title = f"{name}, {kind}: test MSE {reports[-1].mse:.4f}, {dead} of {of} units dead"
        axes.set_title(title, size=11, loc="left", color=common.INK)
    return figure


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("method", nargs="?", default="sparse_l1", choices=methods.CLASSES)
    parser.add_argument("--output", type=Path, default=methods.ROOT / "outputs" / "learning.png")
    options = parser.parse_args()
    torch.set_flush_denormal(True)
    data, cls = common.load_data(), methods.CLASSES[options.method]
    learned = {"plain": learn(cls, data, plain=True), "ours": learn(cls, data)}
    for kind, (moments, _, _, reports) in learned.items():
        for moment, report in zip(moments, reports, strict=True):
            print(f"{kind:<6} {moment:<10} MSE {report.mse:.5f}, {report.active:.1f} active, {report.dead} dead")
    common.save_figure(plot(options.method, learned), options.output)
    print(common.short_path(options.output))


if __name__ == "__main__":
    main()
