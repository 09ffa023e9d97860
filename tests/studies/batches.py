"""Which batch for few images: `python tests/studies/batches.py` trains KL and L1 on the first 3,000 training images
with several batches and numbers of epochs, and judges them on all test images. Five minutes on two cores.

KL's ρ̂ is a mean over the batch. So its penalty is the larger the fewer images there are in one, also for weights that
stay the same; the second table has the shipped ones. Whether it is the penalty that makes small batches worse is asked
by KL with a tenth of it, and by L1, whose penalty does not depend on the batch.
"""

import argparse
import itertools
import math
import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import methods  # noqa: E402

import common  # noqa: E402

MODELS = {
    "KL": ("sparse_kl", {}, (20, 100, 200)),
    "KL, a tenth of β": ("sparse_kl", {"beta": 5e-4}, (200,)),
    "L1": ("sparse_l1", {}, (200,)),
}


@torch.no_grad()
def penalty_of(model, images, batch_size):
    """The mean penalty on batches of this size of images [n, 784] uint8."""
    hidden = [model.encoder(batch - model.mean_image) for batch in common.batches(images, batch_size)]
    return sum(model.penalty(part, model.activation(part)).item() for part in hidden) / len(hidden)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=3000)
    options = parser.parse_args()
    torch.set_flush_denormal(True)
    data = common.load_data()
    # Most of the time would go into test losses after each epoch, which nobody looks at here.
    few = data._replace(train_images=data.train_images[: options.images], test_images=data.test_images[:100])
    print("| | batch | epochs | steps | test BCE | test MSE | active | idle | locality |\n" + "| --- " * 9 + "|")
    for name, (method, changes, all_epochs) in MODELS.items():
        for batch, epochs in itertools.product((50, 100, 300, 1200), all_epochs):
            model = methods.train(method, few, batch_size=batch, epochs=epochs, **changes)
            report = common.evaluate(model, data.test_images)
            steps = math.ceil(options.images / batch) * epochs
            figures = f"{report.loss:.4f} | {report.mse:.4f} | {report.active:.1f} | {report.idle}"
            print(f"| {name} | {batch} | {epochs} | {steps} | {figures} | {report.locality:.2f} |", flush=True)
    model = common.load_pretrained("sparse_kl")
    print("\n| images in a batch | penalty of the shipped KL |\n| --- | --- |")
    for batch in (20, 100, 1000, 10_000):
        print(f"| {batch} | {penalty_of(model, data.test_images, batch):.4f} |")


if __name__ == "__main__":
    main()
