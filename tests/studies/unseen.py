"""Figures on images that nobody looked at: `python tests/studies/unseen.py` trains each shipped model on the first
50,000 training images, and judges it on the last 10,000 beside the test images.

Rates, decays, ties and where k begins were chosen on the test images; the last 10,000 training images were never looked
at for that. Three minutes on two cores.
"""

import argparse
import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import methods  # noqa: E402

import common  # noqa: E402


def main():
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    torch.set_flush_denormal(True)
    data = common.load_data()
    unseen, fitted = data.train_images[50_000:], data._replace(train_images=data.train_images[:50_000])
    print("| | loss, unseen | test | MSE, unseen | test | MSE from 25, unseen | test |" + "\n|" + " --- |" * 7)
    for name in methods.SHIPPED:
        shipped = common.load_pretrained(name)
        model = methods.trained(type(shipped)(**shipped.config), fitted)
        pair = common.evaluate(model, unseen), common.evaluate(model, data.test_images)
        figures = [f"{getattr(report, key):.5f}" for key in ("loss", "mse") for report in pair]
        figures += [f"{report.kept[25]:.5f}" for report in pair]
        print(f"| {name} | " + " | ".join(figures) + " |", flush=True)


if __name__ == "__main__":
    main()
