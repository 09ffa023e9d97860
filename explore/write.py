"""Put models into the page: `python explore/write.py NAME ...`

A NAME is that of weights in checkpoints/, or a path of weights elsewhere. For each, models/NAME.js has all that
index.html needs to run the model and to show its units: its weights, two bytes each, the names of its functions, and
for each unit the test images that light it. The names of all models that are there go to own.js, and the test images of
another data set than MNIST to images_NAME.js. Git ignores what you put there.

    from explore.write import write_model    # the same from Python, in the project's folder
"""

import argparse
import base64
import gzip
import json
import sys
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

import numpy as np
import torch
import torch.nn.functional as F

PAGE = Path(__file__).resolve().parent
sys.path.insert(0, str(PAGE.parent))

import common  # noqa: E402

STRONGEST, BINS = 12, 20  # of `Examples`
SEARCHED = 65_000  # test images among which examples are looked for: their numbers have two bytes


class Examples(NamedTuple):
    """The images on which each unit is active; image -1 and code 0 fill up where there are fewer."""

    strongest: torch.Tensor  # [hidden, 12] int64, the images on which the unit's code is largest, the largest first
    strongest_code: torch.Tensor  # [hidden, 12] that code
    histogram: torch.Tensor  # [hidden, 20] int64, images in equal bins between its threshold and its largest code


@torch.no_grad()
def write_model(model, data, folder=PAGE):
    """Put a trained model into the page.

    Args:
        model: an Autoencoder on the CPU; it ends in evaluation mode.
        data: Data of the model's data set, of which only the test images and their labels are used.
        folder: where index.html lies.

    Returns:
        the address at which the page shows it.

    Raises:
        UserError: the page does not have the model's activation or squash.
    """
    data = common.as_tensors(data)
    common.require_own_data(model, data)
    report = common.evaluate(model, data.test_images)
    digits, missing_digits = None, []
    if data.test_labels is not None and data.test_labels.max() < 10:
        digits, missing_digits = shares_of_digits(report.code, data.test_labels)
    examples = examples_of(report.code[:SEARCHED], model.active_above)
    images = common.first_images(data.test_images, data.test_labels)
    encoder_scale, encoder = two_bytes_each(model.encoder.weight)
    dictionary_scale, dictionary = two_bytes_each(model.dictionary)
    content = {
        "name": model.name,
        "dataset": model.dataset,
        "hidden": len(model.dictionary),
        **functions_of_page(model, images),
        "active_above": model.active_above,
        "mse": report.mse,
        "encoder": pack(encoder, "<i2"),
        "encoder_scale": pack(encoder_scale, "<f4"),
        "dictionary": pack(dictionary, "<i2"),
        "dictionary_scale": pack(dictionary_scale, "<f4"),
        # For x itself, not x - mean.
        "bias": pack(model.encoder.bias - model.encoder.weight @ model.mean_image, "<f4"),
        "decoder_bias": pack(model.decoder.bias, "<f4"),
        "median_code": pack(report.median_code, "<f4"),
        "digits": None if digits is None else pack((255 * digits).round(), "u1"),
        "missing_digits": missing_digits,
        "dead": report.is_dead.nonzero()[:, 0].tolist(),
        "frequency": pack(report.frequency, "<f4"),
        "strongest": pack(examples.strongest % 65_536, "<u2"),  # -1 is 65535
        "strongest_code": pack(examples.strongest_code, "<f4"),
        "histogram": pack(examples.histogram, "<u2"),
        "images": pack((255 * images).round(), "u1"),
        "image_digits": [digit for digit in range(10) if digit not in missing_digits][: len(images)],
    }
    write_script(folder / "models" / f"{model.name}.js", content)
    images_file = folder / f"images_{data.name}.js"
    if data.name != "MNIST" or not images_file.is_file():  # MNIST's are always the same
        header = np.array([0x803, len(data.test_images), 28, 28], ">i4").tobytes()  # of MNIST's format
        packed_images = gzip.compress(header + data.test_images.numpy().tobytes(), 6, mtime=0)
        write_script(images_file, base64.b64encode(packed_images).decode())
    write_script(folder / "own.js", sorted(path.stem for path in (folder / "models").glob("*.js")))
    return f"{(folder / 'index.html').absolute().as_uri()}#{quote(model.name)}"


def write_script(path, content):
    """Write a file that hands `content` to the page. (A page that was opened from disk may read no other files.)"""
    common.write_file(path, f"explore({json.dumps(content)});\n".encode())


def functions_of_page(model, images):
    """What the page calls the functions of a model in evaluation mode, found by comparing what they make of images
    [n, 784]: a dict of "activation", "k" and "squash"; k is None unless the activation is top_k. UserError when the
    page does not have them."""
    hidden = model.encoder(images - model.mean_image)
    output = model.decoder(model.activation(hidden))
    k = max(1, (model.activation(hidden.abs()) > 0).sum(dim=1).max().item())
    activations = {
        "relu": F.relu,
        "sigmoid": torch.sigmoid,
        "top_k": lambda hidden: F.relu(hidden) * (hidden >= hidden.topk(k).values[:, -1:]),  # the k largest of relu
    }
    squashes = {
        "sigmoid": torch.sigmoid,
        "clip": lambda output: output.clamp(0, 1),
        "identity": lambda output: output,
    }
    activation = name_of(model.activation, activations, hidden)
    squash = name_of(model.squash, squashes, output)
    for role, name, known in (("activation", activation, activations), ("squash", squash, squashes)):
        common.require(name, f"the page cannot show {model.name}: its {role} is none of {', '.join(known)}")
    return {"activation": activation, "k": k if activation == "top_k" else None, "squash": squash}


def name_of(function, named, values):
    """Which of the functions `named`, a dict, makes the same of values [n, m] as `function`; None when none does."""
    # These images may have no output that is to be cut off, and too few units above 0 for k to matter.
    values = torch.cat([values, -values, 10 * values.abs()])
    result = function(values)
    return next((name for name, other in named.items() if torch.allclose(other(values), result, atol=1e-6)), None)


def shares_of_digits(code, labels):
    """(each digit's share [10, hidden] of a unit's mean code, the digits of which there is no image), for the code
    [n, hidden] of images with labels [n]. The share of a digit without images is 0."""
    one_hot = F.one_hot(labels.long(), 10).float()
    images_per_digit = one_hot.sum(dim=0)
    mean_per_digit = one_hot.T @ code / images_per_digit.clamp(min=1)[:, None]
    shares = mean_per_digit / mean_per_digit.sum(dim=0).clamp(min=1e-12)
    return shares, (images_per_digit == 0).nonzero()[:, 0].tolist()


def examples_of(code, active_above):
    """Examples for the code [n, hidden] of n images, where a unit is active above `active_above`."""
    missing = STRONGEST - len(code)
    if missing > 0:  # rows on which no unit is active
        code = F.pad(code, (0, 0, 0, missing), value=active_above)
    by_unit = code.T.contiguous()
    largest, strongest = by_unit.topk(STRONGEST)
    is_active = largest > active_above
    width = (largest[:, :1] - active_above).clamp(min=1e-12) / BINS
    bins = ((by_unit - active_above) / width).long().clamp(0, BINS - 1)
    histogram = torch.zeros(len(by_unit), BINS, dtype=torch.int64)
    return Examples(
        strongest=strongest.where(is_active, -1),
        strongest_code=largest.where(is_active, 0),
        histogram=histogram.scatter_add_(1, bins, (by_unit > active_above).long()),
    )


def two_bytes_each(matrix):
    """(scale [n, 1], whole numbers [n, m] from -32767 to 32767) whose product is nearly `matrix` [n, m]."""
    scale = matrix.abs().amax(dim=1, keepdim=True).clamp(min=1e-30) / 32_767
    return scale, (matrix / scale).round()


def pack(values, kind):
    """A tensor as text: base64 of its numbers in one of numpy's types, "<f4" for four-byte floats."""
    return base64.b64encode(np.ascontiguousarray(values, dtype=kind)).decode()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="+", metavar="NAME", help="of weights in checkpoints/, or their path")
    parser.add_argument(
        "--data-dir",
        default=common.ROOT / "data",
        metavar="DIR",
        help="where the images lie, in NAME/raw (default: data)",
    )
    options = parser.parse_args()
    for name in options.names:
        model = common.load_pretrained(name)
        data = common.load_data(model.dataset, options.data_dir, for_training=False)
        print(write_model(model, data))


if __name__ == "__main__":
    try:
        main()
    except (common.UserError, OSError) as error:
        sys.exit(f"write.py: error: {error}")
