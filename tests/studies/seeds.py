"""How much luck is in the figures: `python tests/studies/seeds.py` trains L1, KL and k = 25 with five seeds each.

Prints the mean and standard deviation of test loss, MSE, active units, the linear probe and others; the probe with an
L2 strength of 1e-4 and for k = 25 with 8 k units, instead of a choice for each seed. A quarter of an hour on two cores.
"""

import argparse
import statistics
import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import methods  # noqa: E402
import probe  # noqa: E402

import common  # noqa: E402


def figures(name, seed, data):
    """A dict of the figures of one model."""
    model = methods.train(name, data, seed=seed)
    report = common.evaluate(model, data.test_images)
    return {
        f"test loss ({model.loss_name})": report.loss,
        "test MSE": report.mse,
        "MSE from 25": report.kept[25],
        "MSE from 50": report.kept[50],
        "active units": report.active,
        "idle": report.idle,
        "dead": report.dead,
        "locality": report.locality,
        "mean code": report.mean_code,
        "probe, %": probe.probe(probe.encoders_of(model)[-1:], data, (1e-4,)).error,
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("methods", nargs="*", metavar="METHOD", default=list(methods.CLASSES), help="(default: all)")
    parser.add_argument("--seeds", type=int, default=5)
    options = parser.parse_args()
    torch.set_flush_denormal(True)
    data = common.load_data()
    for name in options.methods:
        runs = [figures(name, seed, data) for seed in range(options.seeds)]
        print(name)
        for key in runs[0]:
            values = [run[key] for run in runs]
            spread = statistics.stdev(values) if len(values) > 1 else 0.0
            print(f"  {key:<21} {statistics.mean(values):.5f} ± {spread:.5f}   {values}", flush=True)


if __name__ == "__main__":
    main()
