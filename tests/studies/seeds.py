"""How much luck is in the figures: `python tests/studies/seeds.py` trains L1, KL and k = 25 with five seeds each.

Prints the mean and standard deviation of test loss, active units, kept(25) and the linear probe; the probe with an L2
strength of 1e-4 and for k = 25 with 8 k units, instead of a choice for each seed. A quarter of an hour on two cores.
"""

import argparse
import statistics
import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import probe  # noqa: E402

import common  # noqa: E402
import sparse_kl  # noqa: E402
import sparse_ksparse  # noqa: E402
import sparse_l1  # noqa: E402

METHODS = ((sparse_l1.SparseL1, sparse_l1), (sparse_kl.SparseKL, sparse_kl), (sparse_ksparse.KSparse, sparse_ksparse))


def figures(cls, defaults, seed, data):
    """A dict of the figures of one model."""
    config = {**defaults, "seed": seed, "precision": common.fastest_precision(torch.device("cpu"))}
    model = common.build(cls, config)
    training = {key: config[key] for key in common.TRAIN_KEYS}
    common.train(model, data, label=f"{cls.name}, seed {seed}", **training)
    report = common.evaluate(model, data.test_images, data.test_labels)
    model.requires_grad_(False)
    return {
        "test loss": report.mse if model.loss_name == "MSE" else report.loss,
        "active units": report.active,
        "kept(25)": report.kept[25],
        "idle": report.idle,
        "dead": report.dead,
        "locality": report.locality,
        "mean code": report.mean_code,
        "probe, %": probe.probe(probe.encoders_of(model)[-1:], data, (1e-4,)).error,
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    seeds = range(parser.parse_args().seeds)
    torch.set_flush_denormal(True)
    data = common.load_mnist()
    for cls, script in METHODS:
        runs = [figures(cls, script.DEFAULTS, seed, data) for seed in seeds]
        print(cls.name)
        for key in runs[0]:
            values = [run[key] for run in runs]
            spread = statistics.stdev(values) if len(values) > 1 else 0.0
            print(f"  {key:<13} {statistics.mean(values):.5f} ± {spread:.5f}   {values}", flush=True)


if __name__ == "__main__":
    main()
