"""The error with ever fewer units: `python tests/studies/sparsity.py [DIR ...]` draws outputs/sparsity.png.

For every shipped model, the test MSE when on each image all units but the n that add most have their median code, and
beside them PCA with n components, and the textbook's L1 and KL, of --plain. Those two are trained here, a minute on two
cores. Given clones of the documents' networks, as originals.py wants them, it draws theirs too, of 1,000 images.
"""

import argparse
import sys
from pathlib import Path

import torch
from matplotlib.figure import Figure

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

import methods  # noqa: E402
import originals  # noqa: E402
from methods import SHIPPED  # noqa: E402

import common  # noqa: E402

KEPT = (1, 2, 3, 5, 8, 12, 18, 25, 35, 50, 70, 100, 140, 200, 280, 400, 512, 700, 1000)
COLOURS = {"sparse_l1": "#1d4ed8", "sparse_kl": "#15803d", "sparse_ksparse": "#c2410c"}
LABELS = {"sparse_l1": "L1", "sparse_kl": "KL", "sparse_ksparse_k5": "k-sparse, k = 5, 10, 25, 50, 100"}


@torch.no_grad()
def kept_curve(model, images, counts=KEPT):
    """[(n, test MSE of n units)] on images [m, 784] uint8, up to the number of units that ever take part."""
    code = torch.cat([model.encode(batch) for batch in common.batches(images, 2_000)])
    median_code = code.median(dim=0).values
    most = (code != median_code).sum(dim=1).max().item()
    counts = sorted({most, *(n for n in counts if n < most)})
    errors = dict.fromkeys(counts, 0.0)
    for batch, part in zip(common.batches(images, 2_000), code.split(2_000), strict=True):
        for n, kept in zip(counts, common.keep_strongest(model, part, median_code, counts), strict=True):
            errors[n] += (model.decode(kept) - batch).square().mean().item() * len(batch) / len(images)
    return list(errors.items())


def principal_components(images):
    """(mean [784], components [784, 784] with orthonormal rows, largest variance first) of images [n, 784] uint8."""
    total = sum(batch.sum(dim=0, dtype=torch.float64) for batch in common.batches(images, 2_000))
    mean = (total / len(images)).float()
    covariance = sum((batch - mean).T @ (batch - mean) for batch in common.batches(images, 2_000))
    return mean, torch.linalg.eigh(covariance.double()).eigenvectors.flip(1).T.float()


def pca_curve(train_images, test_images, counts=KEPT):
    """[(n, test MSE)] of the best linear code with n components, fitted to the training images."""
    mean, directions = principal_components(train_images)
    points = []
    for n in [n for n in counts if n <= 512]:
        basis, error = directions[:n], 0.0
        for batch in common.batches(test_images, 2_000):
            drawn = (mean + (batch - mean) @ basis.T @ basis).clamp(0, 1)
            error += (drawn - batch).square().mean().item() * len(batch)
        points.append((n, error / len(test_images)))
    return points


@common.own_style()
def plot(shipped, plain, theirs, pca):
    """The picture, as a figure, from a dict of name -> curve for each kind."""
    figure = Figure(figsize=(8.6, 5.6), layout="constrained")
    axes = figure.add_subplot()
    axes.plot(*zip(*pca, strict=True), color=common.QUIET, lw=1.2, label="PCA with n components")
    for name, curve in shipped.items():
        colour = next(COLOURS[method] for method in COLOURS if name.startswith(method))
        axes.plot(*zip(*curve, strict=True), color=colour, lw=1.8, label=LABELS.get(name))
        axes.plot(*curve[-1], "o", ms=4, color=colour)
    for name, curve in plain.items():
        label = f"{name.removeprefix('sparse_').upper()}, plain"
        axes.plot(*zip(*curve, strict=True), color=COLOURS[name], lw=1.4, ls="--", label=label)
    for name, curve in theirs.items():
        label = f"{name.removeprefix('sparse_').upper()} of the first document (convolutions)"
        axes.plot(*zip(*curve, strict=True), color=COLOURS[name], lw=1.4, ls=":", label=label)
    axes.set(xscale="log", yscale="log", xlabel="units kept on each image", ylabel="test MSE per pixel")
    axes.set_ylim(bottom=8e-4)  # PCA goes on, with ever more numbers
    axes.set_title("The error with ever fewer units (down and to the left is better)", size=11, loc="left")
    ticks = [1, 2, 5, 10, 25, 50, 100, 200, 512]
    axes.set_xticks(ticks, map(str, ticks))
    axes.minorticks_off()
    axes.grid(True, color="#e4e7eb", lw=0.8)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=9)
    return figure


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", type=Path, nargs="*", metavar="DIR", help="clones of the documents' networks")
    parser.add_argument("--output", type=Path, default=ROOT / "outputs" / "sparsity.png")
    options = parser.parse_args(arguments)
    torch.set_flush_denormal(True)
    data = common.load_data()
    images = data.test_images
    shipped = {name: kept_curve(common.load_pretrained(name), images) for name in SHIPPED}
    plain = {}
    for name in ("sparse_l1", "sparse_kl"):
        plain[name] = kept_curve(methods.train(name, data, plain=True), images)
    theirs = {}
    if options.folders:
        found, pictures = originals.find(options.folders), common.to_float(images[:1000]).view(-1, 1, 28, 28)
        for name in ("sparse_l1", "sparse_kl"):
            theirs[name] = originals.kept_curve(originals.Original(name, *found[name]), pictures, KEPT)
    pca = pca_curve(data.train_images, images)
    common.save_figure(plot(shipped, plain, theirs, pca), options.output)
    curves = {**shipped, "PCA": pca}
    curves.update({f"{name}, plain": curve for name, curve in plain.items()})
    curves.update({f"{name}, theirs": curve for name, curve in theirs.items()})
    for name, curve in curves.items():
        print(f"{name:<22}", "  ".join(f"{n}: {error:.4f}" for n, error in curve if n in (5, 10, 25, 50, 100, 200)))
    print(common.short_path(options.output))


if __name__ == "__main__":
    main()
