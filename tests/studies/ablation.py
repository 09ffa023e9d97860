"""What each departure from the textbook buys: `python tests/studies/ablation.py` trains each method as it is, with each
departure taken back by itself, and with all of them (--plain), and prints a table.

With --seeds 3 each row is a mean over three seeds. The probe has an L2 strength of 1e-4 and, for k-sparse, 8 k units.
An hour and a half for each seed on two cores; `ablation.py "k = 5" --only tie` measures only that departure of k = 5.
"""

import argparse
import statistics
import sys
from pathlib import Path

import torch
import torch.nn.functional as F

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import methods  # noqa: E402
import probe  # noqa: E402

import common  # noqa: E402
from sparse_kl import SparseKL  # noqa: E402
from sparse_ksparse import KSparse, top_k  # noqa: E402
from sparse_l1 import SparseL1  # noqa: E402

MODELS = {
    "L1": (SparseL1, {}),
    "KL": (SparseKL, {}),
    "k = 25": (KSparse, {"k": 25}),
    "k = 5": (KSparse, {"k": 5}),
    "k = 100": (KSparse, {"k": 100}),
}


class GeometricFall(KSparse):
    """k falls by the same factor at each step of the first half of the training: a departure that was taken back."""

    def schedule(self, progress):
        start = max(self.k, min(self.first_k, self.hidden))
        return {"k": round(start * (self.k / start) ** min(1, 2 * progress))}


class WithoutReLU(KSparse):
    """The k largest of hidden as they are, as in the paper."""

    def activation(self, hidden):
        return top_k(hidden, self.k)


class AnyNorm(SparseL1):
    """The pictures have any norm."""

    def after_step(self):
        pass


class ConstantDecay(SparseKL):
    """The decay does not fade."""

    def schedule(self, progress):
        return {}


def with_torchs_start(cls):
    """The method from the start that torch gives to layers."""

    class TorchsStart(cls):
        def initialise(self):
            super().initialise()
            self.encoder.reset_parameters()
            self.decoder.reset_parameters()

    return TorchsStart


def with_pixels(cls):
    """The method with images that are not centred."""

    class Pixels(cls):
        def initialise(self):
            super().initialise()
            self.mean_image.zero_()

    return Pixels


def departures(cls):
    """A dict from the name of each departure to the class and the hyperparameters that take it back, and for k-sparse
    bring back one that was."""
    found = {"ours": (cls, {})}
    for key, declared in cls.hyperparameters.items():
        if declared.plain not in (None, declared.default):
            found[f"{key} {declared.plain}"] = (cls, {key: declared.plain})
    found["torch's start"] = (with_torchs_start(cls), {})
    found["pixels"] = (with_pixels(cls), {})
    if cls is SparseL1:
        found["any norm"] = (AnyNorm, {})
    if cls is SparseKL:
        found["constant decay"] = (ConstantDecay, {})
        found["constant decay, a third of it"] = (ConstantDecay, {"weight_decay": 1e-6})
    if cls is KSparse:
        found["l1_weight 0"] = (cls, {"l1_weight": 0.0})  # of the document, not of the paper
        found["k falls geometrically"] = (GeometricFall, {})
        found["without ReLU"] = (WithoutReLU, {})
    found["plain"] = (cls, {"plain": True})
    return found


def figures(cls, config, data):
    """A dict of the figures of one model."""
    model = methods.trained(cls(**config), data)
    report = common.evaluate(model, data.test_images)
    return {
        model.loss_name: report.loss,
        "MSE": report.mse,
        "MSE from 25": report.kept[25],
        "active": report.active,
        "dead": report.dead,
        "idle": report.idle,
        "locality": report.locality,
        "agreement": F.cosine_similarity(model.encoder.weight, model.dictionary)[~report.is_dead].median().item(),
        "probe, %": probe.probe(probe.encoders_of(model)[-1:], data, (1e-4,)).error,
    }


def text_of(name, values):
    """A cell of the table: the mean of a figure over seeds, ± their standard deviation."""
    if name in ("active", "dead", "idle"):
        form = ".1f"
    elif name in ("locality", "agreement", "probe, %"):
        form = ".2f"
    else:
        form = ".5f"
    spread = f" ± {statistics.stdev(values):{form}}" if len(values) > 1 else ""
    return f"{statistics.mean(values):{form}}{spread}"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", metavar="MODEL", help=f"of {', '.join(MODELS)} (default: all)")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--only", nargs="+", default=[""], metavar="WORD", help="departures whose name begins so")
    options = parser.parse_args()
    torch.set_flush_denormal(True)
    data = common.load_data()
    for model_name in options.models or MODELS:
        cls, config = MODELS[model_name]
        heading_is_due = True
        for departure, (variant, changes) in departures(cls).items():
            if not departure.startswith(tuple(options.only)):
                continue
            runs = [figures(variant, {**config, **changes, "seed": seed}, data) for seed in range(options.seeds)]
            if heading_is_due:
                print(f"\n| {model_name} | " + " | ".join(runs[0]) + " |\n" + "| --- " * (len(runs[0]) + 1) + "|")
                heading_is_due = False
            cells = [text_of(key, [run[key] for run in runs]) for key in runs[0]]
            print(f"| {departure} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
