"""What each penalty buys: test MSE against active units per image, at equal hidden size and epochs.

Run `python tests/frontier.py`; it trains 19 models (about three minutes on two cores), prints a line for each
and writes outputs/frontier.png.
"""

import argparse
import sys
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from matplotlib.figure import Figure  # noqa: E402

import common  # noqa: E402
import sparse_kl  # noqa: E402
import sparse_ksparse  # noqa: E402
import sparse_l1  # noqa: E402

# The values of each curve; the other hyperparameters are the script's defaults.
CURVES = {
    "k-sparse: k": (sparse_ksparse.METHOD, "k", (2, 5, 10, 25, 50, 100)),
    "L1: λ": (sparse_l1.METHOD, "l1_weight", (4e-5, 1e-4, 4e-4, 1e-3, 4e-3)),
    "KL: ρ at β = 0.005": (sparse_kl.METHOD, "rho", (0.01, 0.03, 0.08, 0.2)),
    "KL: β at ρ = 0.08": (sparse_kl.METHOD, "beta", (0, 5e-4, 5e-3, 5e-2)),
}
COLOURS = {"k-sparse": "#c2410c", "L1": "#1d4ed8", "KL": "#15803d"}


def train_curve(method, option, values, data, hidden, epochs):
    """Train a model for each value of one option: a list of (value, Report, MSE from the active units alone)."""
    points = []
    for value in values:
        config = {**method.defaults, "seed": 0, "hidden": hidden, "epochs": epochs, option: value}
        config["precision"] = common.fastest_precision(torch.device("cpu"))
        model = method.build(config)
        label = f"{method.name} {option} {value:g}"
        common.train(model, data, label=label, **{key: config[key] for key in common.TRAIN_KEYS})
        points.append((value, *measure(model, data)))
        _, report, alone = points[-1]
        print(f"{label:<30} active {report.active:7.2f}  MSE {report.mse:.5f}  from the active alone {alone:.5f}")
    return points


@torch.no_grad()
def measure(model, data):
    """(Report, test MSE when every unit that does not count as active is set to its mean over the test images)."""
    report = common.evaluate(model, data.test_images, data.test_labels)
    counts = torch.bincount(data.test_labels, minlength=10).float()
    mean = counts @ report.class_means / counts.sum() if model.active_above else torch.zeros(1)
    error = 0.0
    for images in common.Batches(data.test_images, 1000):
        code = model.encode(images)
        kept = torch.where(code > model.active_above, code, mean)
        error += (model.decode(kept) - images).square().mean(dim=1).sum().item()
    return report, error / len(data.test_images)


@torch.no_grad()
def pca_curve(data, components):
    """Test MSE of the best linear code with n components, fitted to the training images: a list of (n, MSE)."""
    mean, directions = common.principal_components(data.train_images)
    points = []
    for n in components:
        basis, error = directions[:n], 0.0
        for images in common.Batches(data.test_images, 1000):
            reconstruction = (mean + (images - mean) @ basis.T @ basis).clamp(0, 1)
            error += (reconstruction - images).square().mean(dim=1).sum().item()
        points.append((n, error / len(data.test_images)))
    return points


def shipped(data):
    """(name, Report) of every model in checkpoints/."""
    for path in sorted((ROOT / "checkpoints").glob("*.pt")):
        model, info = common.load_pretrained(path.stem)
        yield info.name, common.evaluate(model, data.test_images, data.test_labels)


def plot(curves, pca, shipped_models, hidden, epochs):
    """The picture, as a figure."""
    figure = Figure(figsize=(8.6, 5.6), layout="constrained")
    axes = figure.add_subplot()
    axes.plot(*zip(*pca, strict=True), color=common.QUIET, ls="--", lw=1.2, label="PCA: n components (dense reference)")
    for label, points in curves.items():
        colour = COLOURS[label.split(":")[0]]
        style = ":" if "β at" in label else "-"
        x, y = zip(*((report.active, report.mse) for _, report, _ in points), strict=True)
        axes.plot(x, y, color=colour, ls=style, marker="o", ms=4, label=label)
        for value, report, alone in points:
            offset = (4, -10) if label.startswith("L1") or "β at" in label else (4, 4)  # curves that meet another
            axes.annotate(
                f"{value:g}", (report.active, report.mse), offset, textcoords="offset points", size=7, color=colour
            )
            if alone > report.mse * 1.01:  # the code below 0.5 that the count leaves out
                axes.plot([report.active] * 2, [report.mse, alone], color=colour, lw=0.6, alpha=0.6)
                axes.plot(report.active, alone, color=colour, marker="_", ms=7, alpha=0.8)
    for number, (name, report) in enumerate(shipped_models):
        colour = COLOURS["k-sparse" if "ksparse" in name else "L1" if "l1" in name else "KL"]
        label = None if number else "shipped models (k-sparse: 1000 units, more epochs)"
        axes.plot(report.active, report.mse, color=colour, marker="*", ms=13, mec="black", mew=0.7, ls="", label=label)
    axes.plot(
        [], [], color=COLOURS["KL"], marker="_", ms=7, lw=0.6, label="KL with its units below 0.5 held at their means"
    )
    axes.set(xscale="log", yscale="log", xlabel="active units per image (mean)", ylabel="test MSE per pixel")
    axes.set_title(f"What each penalty buys: {hidden} units, {epochs} epochs", size=11, loc="left")
    axes.grid(True, which="major", color="#e4e7eb", lw=0.8)
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(frameon=False, fontsize=8, loc="outside lower center", ncols=2)
    return figure


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hidden", type=int, default=512)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--images", type=int, default=60_000, help="training images used (default: all)")
    parser.add_argument("--output", type=Path, default=ROOT / "outputs" / "frontier.png")
    options = parser.parse_args(arguments)
    data = common.load_mnist(ROOT / "data")
    data = data._replace(
        train_images=data.train_images[: options.images], train_labels=data.train_labels[: options.images]
    )
    curves = {
        label: train_curve(
            method,
            option,
            [v for v in values if option != "k" or v <= options.hidden],
            data,
            options.hidden,
            options.epochs,
        )
        for label, (method, option, values) in CURVES.items()
    }
    pca = pca_curve(data, [n for n in (1, 2, 5, 10, 20, 50, 100, 200, 300) if n <= options.hidden])
    common.save_figure(plot(curves, pca, list(shipped(data)), options.hidden, options.epochs), options.output)
    print(common.shown(options.output))


if __name__ == "__main__":
    main()
