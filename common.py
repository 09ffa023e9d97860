"""What the sparse autoencoders share, in the order of its use:

1. errors and files  what all of the following uses
2. data              MNIST, another data set of its form or your own, and minibatches of it
3. model             one linear layer each way; a script adds activation, penalty and start
4. training          the loop
5. evaluation        what a model is worth, and with how few of its units
6. checkpoints       weights in a file, of which nothing is executed
7. pictures          losses, reconstructions, dictionary, parts, comparisons
8. command line      the options are the model, and name its files

Shapes are written [batch, 784] and [batch, hidden]. Images are float32 in [0, 1], 0 being the background.
"""

import sys

# pip installs torch for 3.9 too, and there a training would be lost at its end.
if sys.version_info < (3, 10):  # noqa: UP036
    sys.exit(f"error: Python 3.10 or later is needed, and this is {sys.version.split()[0]}")

import argparse
import atexit
import contextlib
import csv
import errno
import gc
import gzip
import hashlib
import importlib
import io
import math
import os
import re
import shlex
import signal
import tempfile
import textwrap
import threading
import warnings
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from numbers import Integral, Real
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from tqdm import tqdm

ROOT = Path(__file__).resolve().parent
PIXELS = 28 * 28


# 1. Errors and files -----------------------------------------------------------------------------------
class UserError(ValueError):
    """Something the user can mend. Its text is one line: what is wrong, and what to do."""


class DamagedCheckpoint(UserError):
    """A file without weights that this version can read: cut off, garbled, or of an earlier version."""


def require(condition, message):
    """Raise UserError with `message` unless `condition` holds."""
    if not condition:
        raise UserError(message)


def is_whole(number, low, high):
    """Whether `number` is a whole number, Python's or numpy's, from `low` to `high`."""
    return isinstance(number, Integral) and low <= number <= high


def full_path(text):
    """A path as the user means it: ~ is the home folder. A link keeps its own name. UserError when it is empty."""
    require(str(text), "a path is empty")
    return Path(os.path.expanduser(text)).absolute()


def real_path(path):
    """Where a path leads when links are followed; Path.resolve raises on a loop of them."""
    return Path(os.path.realpath(path))


def short_path(path):
    """A path as the user would type it: relative when it lies below the working directory."""
    with contextlib.suppress(ValueError, OSError):
        return str(Path(path).absolute().relative_to(Path.cwd()))
    return str(path)


def first_line(error):
    """What an exception says, short enough to be quoted."""
    text = str(error).strip().split("\n")[0][:100]
    return "".join(filter(str.isprintable, text)) or type(error).__name__


def print_line(text):
    """Print a line. When nobody reads it any more (`| head -1`), or the disk is full, printing stops and the work goes
    on."""
    try:
        print(text, flush=True)
    except OSError as error:
        sys.stdout = open(os.devnull, "w")
        if not isinstance(error, BrokenPipeError):
            with contextlib.suppress(OSError):  # it may be on the same disk
                print(f"standard output: {error.strerror}; the work goes on without it", file=sys.stderr)


def write_file(path, content, option="--output-dir"):
    """Write bytes to a file that appears whole or not at all; one that is there already stays until then. UserError
    when it cannot be written, with the command line's `option` as a way out."""
    try:
        path = real_path(path)  # a link stays a link
        path.parent.mkdir(parents=True, exist_ok=True)
        # A folder and not just a file: its name is unique, and the file gets the permissions that files get.
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=".", suffix=".tmp") as folder:
            unnamed = Path(folder, "content")
            with open(unnamed, "wb") as file:
                file.write(content)
                file.flush()
                try:
                    os.fsync(file.fileno())
                except OSError as error:
                    if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.ENOSYS):  # network drives may have none
                        raise
            os.replace(unnamed, path)
    except OSError as error:
        raise UserError(cannot_write(path, error, option)) from error


def require_writable(folder, option):
    """Raise UserError unless a file can be written to `folder`, which is made if need be."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise UserError(cannot_write(folder, error, option)) from error


def cannot_write(path, error, option):
    """What to say of an OSError."""
    advice, reason = f"name another place with {option}", error.strerror or error
    if isinstance(error, FileExistsError):
        reason = "it is a file, and has to be a folder"
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        advice = f"make room, or {advice}"
    return f"cannot write {short_path(path)}: {reason}; {advice}"


# 2. Data -----------------------------------------------------------------------------------------------
TEST_IMAGES = "t10k-images-idx3-ubyte.gz"
DOWNLOADED = ("MNIST", "FashionMNIST", "KMNIST")  # torchvision's names; any other is a data set of the user's own
# MNIST's md5 sums, packed as torchvision has them (to import it takes as long as torch, and to look at a model needs no
# more), and unpacked.
MNIST_CHECKSUMS = {
    "train-images-idx3-ubyte.gz": ("f68b3c2dcbeaaa9fbdd348bbdeb94873", "6bbc9ace898e44ae57da46a324031adb"),
    "train-labels-idx1-ubyte.gz": ("d53e105ee54ea40749a09fcbcd1e9432", "a25bea736e30d166cdddb491f175f624"),
    TEST_IMAGES: ("9fb629c4189551a2d022fa330f9573f3", "2646ac647ad5339dbf082846283269ea"),
    "t10k-labels-idx1-ubyte.gz": ("ec29112dd5afa0611ce80d1b7f02629c", "27ae3e4e09519cfbb04c329615203637"),
}


class Data(NamedTuple):
    """Images and their labels, which may lack some of the ten classes, or be None."""

    train_images: torch.Tensor  # [n, 784] uint8, 0 is the background; MNIST has 60000
    train_labels: torch.Tensor | None  # [n] int64, 0 to 9
    test_images: torch.Tensor  # [m, 784] uint8; MNIST has 10000
    test_labels: torch.Tensor | None  # [m] int64, 0 to 9
    name: str = "own"  # the data set's, which load_data gives; what is put together by hand is never taken for MNIST


def load_data(dataset="MNIST", data_dir=ROOT / "data", train_count="all"):
    """A data set as Data, from the four archives in `data_dir`/`dataset`/raw (`data_dir` is what torchvision calls the
    root).

    Args:
        dataset: "MNIST", "FashionMNIST" or "KMNIST", whose archives have to be those that torchvision downloads. Any
            other name is a folder of the user's own with archives of that form and those names: at least one image of
            28 x 28 for training and one for testing. They may lie there unpacked, without .gz. The labels may be
            missing.
        data_dir: a folder. An archive of the three that is missing there is downloaded; one that is there is never
            written.
        train_count: how many of the training images to read, from the first on; "all"; or None: until there is one of
            each label, or without labels ten. To look at a trained model takes no more, and torchvision would read all
            60,000 and unpack them into the folder.

    Raises:
        UserError: the name cannot be a folder's; an archive is damaged, another one or missing, or cannot be
            downloaded, checked or written; or `train_count` is not from 0 to the number of training images.
    """
    is_name = isinstance(dataset, str) and is_dataset_name(dataset)
    wanted = "that of a folder, without / or \\, not hidden and not long"
    require(is_name, f"a data set's name is {wanted}, not {str(dataset)!r}")
    root = full_path(data_dir)
    is_too_deep = (root / TEST_IMAGES).exists() or (root / "raw" / TEST_IMAGES).exists()
    require(not is_too_deep, f"{short_path(root)} is inside of {dataset}: name the folder around it")
    train_images, train_labels, test_images, test_labels = (  # where they lie
        find_archive(root / dataset / "raw" / name, dataset) for name in MNIST_CHECKSUMS
    )
    size, test_size = count_images(train_images), count_images(test_images)
    train_labels, test_labels = load_labels(train_labels, size), load_labels(test_labels, test_size)
    if train_count == "all":
        train_count = size
    elif train_count is None:
        train_count = min(10, size) if train_labels is None else max(first_of_each(train_labels)) + 1
    good = is_whole(train_count, 0, size)
    require(good, f'train_count has to be a whole number from 0 to {size}, "all" or None, not {train_count}')
    return Data(
        train_images=load_images(train_images, size, train_count),
        train_labels=None if train_labels is None else train_labels[:train_count],
        test_images=load_images(test_images, test_size, test_size),
        test_labels=test_labels,
        name=dataset,
    )


def is_dataset_name(name):
    """Whether a data set may be called so: a folder is, and weights and pictures bear its name."""
    is_short = len(name.encode(errors="replace")) <= 60
    return is_short and name.isprintable() and name[:1] not in ("", ".") and "/" not in name and "\\" not in name


def word_for_label(dataset):
    """What the labels of a data set are."""
    return "digit" if dataset == "MNIST" else "class"


def find_archive(path, dataset):
    """Where the archive that belongs to `path` lies. MNIST's and the user's own may be unpacked, as torchvision and
    browsers leave them, and be called train-images.idx3-ubyte. Those of the three data sets are checked, and downloaded
    if they are missing; one of the user's own is None if it is missing and holds labels."""
    unpacked = [path.with_name(name) for name in (path.stem, path.stem.replace("-idx", ".idx"))]
    if dataset in DOWNLOADED:
        if not os.path.lexists(path):
            for found in filter(os.path.isfile, unpacked):
                if checksum_of(found) in checksums(path, dataset):
                    return found
            print_line(f"Downloading {dataset}: {path.name} is missing in {short_path(path.parent)}")
            write_file(path, download(path, dataset), "--data-dir")
        require_genuine(path, dataset)
        return path
    for found in (path, *unpacked):
        if os.path.isfile(found):
            return found
    fault = f"{dataset} is none of {', '.join(DOWNLOADED)}, which are downloaded, and {path.name} is missing in"
    require("labels" in path.name, f"{fault} {short_path(path.parent)}, where data of your own belongs")
    return None


def checksum_of(path):
    """The md5 sum of a file."""
    return hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()


def require_genuine(path, dataset):
    """Raise UserError unless an archive holds what the one does that torchvision downloads: weights of other images
    would be taken for weights of this data set."""
    advice = advice_on(path, "move it away to have it downloaded")
    own = short_path(path.parents[2] / "YOURNAME" / "raw")
    require(
        checksum_of(path) in checksums(path, dataset),
        f"{short_path(path)} is not {dataset}'s (it is damaged, or data of your own): {advice}; or if it is your own, "
        f"move it to {own} and name it with --dataset YOURNAME",
    )


def checksums(path, dataset):
    """The md5 sums that the archive of one of the three data sets may have that is to lie at `path`: the packed one,
    and for MNIST the unpacked one. UserError when they are not to be had."""
    if dataset == "MNIST":
        return MNIST_CHECKSUMS[path.name]
    try:
        from torchvision import datasets  # only here and below: importing it takes as long as torch

        return [dict(getattr(datasets, dataset).resources)[path.name]]
    except Exception as error:  # a torchvision that does not fit to torch raises many kinds
        fault = f"{short_path(path)} cannot be checked, as torchvision cannot be imported ({first_line(error)})"
        raise UserError(f"{fault}: install the torchvision that fits to torch {torch.__version__}") from error


def advice_on(path, otherwise):
    """What to do when an archive is missing or another one: in a clone git has those of MNIST."""
    if ROOT / "data" / "MNIST" in real_path(path).parents and (ROOT / ".git").exists():
        return "restore it with `git checkout data`"
    return otherwise


def download(path, dataset):
    """The content of the archive of one of the three data sets that is to lie at `path`, verified; UserError with the
    reason when it cannot be had."""
    try:
        from torchvision import datasets
        from torchvision.datasets.utils import download_url

        source = getattr(datasets, dataset)
        for mirror in source.mirrors:
            with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
                try:
                    download_url(mirror + path.name, folder, path.name, dict(source.resources)[path.name])
                    return Path(folder, path.name).read_bytes()
                except Exception as error:  # whatever it is, the next mirror may do
                    reason = error
    except Exception as error:  # a torchvision that does not fit to torch raises many kinds
        reason = error
    fault = f"{path.name} is missing in {short_path(path.parent)} and cannot be downloaded ({first_line(reason)})"
    raise UserError(f"{fault}: {advice_on(path, 'put it there, or name another folder with --data-dir')}")


def count_images(path):
    """How many images an archive holds: at least one, each of 28 x 28."""
    with open_archive(path) as file:
        size, height, width = read_shape(file, 3)
        if (height, width) != (28, 28):
            raise ValueError(f"its images are {height} x {width}, not 28 x 28")
        if size < 1:
            raise ValueError("it has no images")
    return size


def load_images(path, size, count):
    """The first `count` images [count, 784] uint8 of an archive of `size`."""
    with open_archive(path) as file:
        read_shape(file, 3)
        return read_entries(file, size, count, PIXELS).view(-1, PIXELS)


def load_labels(path, size):
    """The labels [size] int64 of an archive; None when there is none."""
    if path is None:
        return None
    with open_archive(path) as file:
        (found,) = read_shape(file, 1)
        if found != size:
            raise ValueError(f"it has {found} labels for {size} images")
        labels = read_entries(file, size, size, 1).long()
        if labels.max() > 9:
            raise ValueError(f"it has labels up to {labels.max()}, and they go from 0 to 9")
    return labels


@contextlib.contextmanager
def open_archive(path):
    """The content of an archive as a file, to be read inside: UserError in place of a ValueError there, and of what
    gzip raises. It may be unpacked, whatever its name is: browsers do that and leave the .gz."""
    with open(path, "rb") as file:
        is_packed = file.read(2) == b"\x1f\x8b"
    try:
        with gzip.open(path) if is_packed else open(path, "rb") as file:
            yield file
    except (gzip.BadGzipFile, EOFError, ValueError, zlib.error) as error:
        fault = f"{short_path(path)} is damaged, or not in the form of MNIST's archives ({first_line(error)})"
        raise UserError(f"{fault}: mend or replace it") from error


def read_shape(file, dimensions):
    """The header of an archive of bytes: so many whole numbers. Raises ValueError when it is another one."""
    header = file.read(4 + 4 * dimensions)
    if len(header) < 4 + 4 * dimensions or header[:4] != bytes([0, 0, 8, dimensions]):
        raise ValueError("it does not begin as they do")
    return np.frombuffer(header[4:], dtype=">i4").tolist()


def read_entries(file, size, count, width):
    """The first `count` of `size` entries of `width` bytes that follow the header: [count * width] uint8. Raises
    ValueError when there are fewer, or more than `size`."""
    # Reading to the end makes gzip verify its checksum.
    content = bytearray(file.read() if count == size else file.read(count * width))
    if len(content) < count * width:
        raise ValueError("it is too short")
    if len(content) > count * width:
        raise ValueError("it is too long")
    return torch.from_numpy(np.frombuffer(content, dtype=np.uint8))


def to_float(images):
    """[n, 784] uint8 -> [n, 784] float32 in [0, 1], a tensor of its own. Raises UserError for other types."""
    require(images.dtype == torch.uint8, f"to_float wants bytes, torch.uint8, not {images.dtype}")
    return images.float().div_(255)


def batches(images, batch_size, generator=None):
    """Minibatches [batch, 784] float32 in [0, 1] of images [n, 784] uint8, the last with what is left over: in a new
    order that is drawn from `generator`, a torch.Generator, or without one in the order that they have. Each batch is
    one gather from bytes in memory: a DataLoader, which decodes every image again in every epoch, takes longer than the
    training."""
    if generator is None:
        return map(to_float, images.split(batch_size))
    order = torch.randperm(len(images), generator=generator).to(images.device)
    return (to_float(images.index_select(0, chosen)) for chosen in order.split(batch_size))


def first_of_each(labels):
    """Where the first image of each digit is, the digits in their order, of those that occur among labels [n]."""
    return np.unique(labels.numpy(), return_index=True)[1].tolist()


def first_images(images, labels):
    """The first image of each digit that there is, or without labels (None) the first ten: [up to 10, 784] in [0, 1],
    of images [n, 784] uint8."""
    return to_float(images[:10] if labels is None else images[first_of_each(labels)])


def read_digit(image):
    """A photograph or a drawing of one digit as MNIST would have it: the digit in 20 x 20 pixels, its centre of mass in
    the middle of 28 x 28, bright on dark. It may be of any size, in any colours, on a transparent ground, and unevenly
    lit; specks, and what stays at the edge, are left out. What has 28 x 28 pixels and is bright on black stays so.

    Args:
        image: the path of a file, an open file, a PIL.Image, or an array or a tensor: [height, width] or
            [height, width, 3] of bytes, or [784].

    Returns:
        [784] float32 in [0, 1].

    Raises:
        UserError: it cannot be read as an image, nothing is drawn in it, or its light is too uneven to tell what is.
    """
    name = short_path(image) if isinstance(image, str | os.PathLike) else "the image"
    colours = read_colours(image, name)
    edge = np.concatenate([colours[0], colours[-1], colours[:, 0], colours[:, -1]])
    ground = np.median(edge, axis=0)
    if colours.shape[:2] == (28, 28) and not ground.any() and colours.max() > 0.5:
        return torch.from_numpy(colours.max(axis=2).ravel())
    height, width, _ = colours.shape
    scale = min(1, 96 / max(height, width))
    small = resize(colours, max(1, round(scale * width)), max(1, round(scale * height)))
    if (np.abs(small - ground).max(axis=2) < 1 / 8).mean() < 1 / 4:  # the edge is a frame
        ground = np.median(small, axis=(0, 1))
    away = np.abs(colours - ground).max(axis=2)
    is_exact = (away == 0).mean() > 1 / 4 and (away[away < 0.05] == 0).mean() > 0.8  # no camera has made it
    is_even = (np.abs(edge - ground).max(axis=1) < 0.08).mean() > 0.98 and (away < 0.08).mean() > 0.6
    if is_exact or is_even:
        papers = [np.broadcast_to(ground, small.shape)]
    else:  # the paper is what is most common around each place, and two sizes of what is around have to agree
        papers = [local_median(small, part) for part in (0.3, 0.2)]
    digits = [digit_on(paper, ground, small, colours) for paper in papers]
    require(all(digit is not None for digit in digits), f"nothing is drawn in {name}, or too faintly")
    is_clear = np.corrcoef(digits[0], digits[-1])[0, 1] > 0.8
    advice = "take it in even light, without a shadow on it"
    require(is_clear, f"the light in {name} is too uneven to tell the digit from shadows: {advice}")
    return torch.from_numpy(digits[0])


def local_median(colours, part):
    """The median colour around each pixel of an image [height, width, 3], in windows that are this part as long as the
    image. It follows the edge of a shadow, and does not see strokes narrower than half a window."""
    half = round(part * max(colours.shape) / 2)
    rows, columns = (min(half, size - 1) for size in colours.shape[:2])
    padded = np.pad(colours, ((rows, rows), (columns, columns), (0, 0)), "reflect")
    windows = np.lib.stride_tricks.sliding_window_view(padded, (2 * rows + 1, 2 * columns + 1), (0, 1))
    return np.median(windows, axis=(3, 4))


def digit_on(paper, ground, small, colours):
    """The digit [784] in [0, 1] on a sheet whose colours are `paper` [h, w, 3] in its light, and would be `ground` [3]
    in even light. `colours` is the image [height, width, 3], `small` the same at the size of `paper`. None when nothing
    is drawn."""
    from PIL import Image

    def ink_on(colours, paper, sign):
        """How far colours are from the paper, the light divided out: the strongest of the three."""
        even = (colours * ((ground + 0.03) / (paper + 0.03))).clip(max=1)
        return (sign * (even - ground)).max(axis=2).clip(min=0).astype(np.float32)

    sign = max((-1, 1), key=lambda sign: np.square(ink_on(small, paper, sign)).sum())  # dark on bright, or the reverse
    height, width, _ = colours.shape
    ink = ink_on(colours, resize(paper, width, height), sign)
    overview = Image.fromarray(ink)
    overview.thumbnail((128, 128), Image.Resampling.BOX)
    overview = np.asarray(overview)
    if overview.max() <= 0.1:
        return None
    parts = main_parts(overview > 0.2 * overview.max())  # below are paper, and the noise of a camera
    darkest = overview[parts].max()
    mask = Image.fromarray(parts.astype(np.uint8)).resize((width, height), Image.Resampling.NEAREST)
    ink = (ink * np.asarray(mask)).clip(max=darkest)
    ink[ink < 0.2 * darkest] = 0
    rows, columns = (np.nonzero(ink.max(axis=axis) > 0.5 * darkest)[0] for axis in (1, 0))
    box = ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1, None]
    scale = 20 / max(box.shape)
    digit = resize(box, *(max(1, round(scale * side)) for side in (box.shape[1], box.shape[0])))[:, :, 0]
    image = np.zeros((28, 28), np.float32)
    top, left = (first_of_centred(digit.sum(axis=axis)) for axis in (1, 0))
    image[top : top + digit.shape[0], left : left + digit.shape[1]] = digit / digit.max()  # thin strokes have faded
    return image.ravel()


def first_of_centred(ink):
    """Where a digit with this ink [up to 20] along one side begins, so that its centre of mass is at 14, MNIST's
    middle, and all of it inside."""
    centre = (ink * np.arange(len(ink))).sum() / ink.sum()
    return min(max(1, round(14 - centre)), 27 - len(ink))


def resize(colours, width, height):
    """An image [height, width, channels] float32 in another size."""
    from PIL import Image

    channels = (Image.fromarray(np.ascontiguousarray(channel, np.float32)) for channel in np.moveaxis(colours, 2, 0))
    return np.dstack([channel.resize((width, height), Image.Resampling.BILINEAR) for channel in channels])


def main_parts(drawn):
    """Which pixels of an image are the digit, and a margin of one pixel around it, when `drawn` [height, width] says
    which are not background. Specks are left out: whatever is smaller than a twentieth of the largest connected part.
    So is what touches the edge and stays out of the middle, like the black frame of a scanner."""
    from PIL import Image, ImageDraw, ImageFilter

    # With a margin, diagonal lines hold together: Pillow fills along rows and columns.
    unfilled = Image.fromarray(drawn.astype(np.uint8)).filter(ImageFilter.MaxFilter(3))
    height, width = drawn.shape
    parts, central = [], []
    while (left := np.argwhere(np.asarray(unfilled) == 1)).size:
        row, column = left[0].tolist()
        ImageDraw.floodfill(unfilled, (column, row), 2)
        part = np.asarray(unfilled) == 2
        ImageDraw.floodfill(unfilled, (column, row), 0)
        parts.append(part)
        rows, columns = (part & drawn).any(axis=1), (part & drawn).any(axis=0)
        touches_edge = rows[0] or rows[-1] or columns[0] or columns[-1]
        is_in_middle = part[height // 4 : height - height // 4, width // 4 : width - width // 4].any()
        if is_in_middle or not touches_edge:
            central.append(part)
    parts = central or parts
    largest = max(part.sum() for part in parts)
    return np.any([part for part in parts if part.sum() >= largest / 20], axis=0)


def read_colours(image, name):
    """The colours [height, width, 3] float32 in [0, 1] of an image, as `read_digit` takes it. What is transparent
    becomes white under dark colours, and black under bright ones. UserError, with its name, when it cannot be read."""
    from PIL import Image, ImageOps, UnidentifiedImageError

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            if isinstance(image, str | os.PathLike):
                path = full_path(image)
                require(os.path.exists(path), "there is no such file")
                require(os.path.isfile(path), "it is not a file")  # reading a pipe would wait for ever
                image = io.BytesIO(path.read_bytes())
            if hasattr(image, "read"):
                image = Image.open(image)
            elif not isinstance(image, Image.Image):
                array = np.asarray(image)
                image = Image.fromarray(array.reshape(28, 28) if array.size == PIXELS else array)
            picture = ImageOps.exif_transpose(image)
            require(picture.width and picture.height, "it has no pixels")
            if picture.mode[0] in "IF":  # 16 bits and more, which convert would cut off
                values = np.asarray(picture, np.float32)
                require(np.isfinite(values).all(), "it has NaN or infinity in it")
                low, high = min(0, values.min()), max(1e-12, values.max())
                return np.dstack([(values - low) / (high - low)] * 3).astype(np.float32)
            picture = picture.convert("RGBA")
            picture.thumbnail((1024, 1024))  # a digit needs no more, and a photograph would take seconds
            colours = np.asarray(picture, np.float32) / 255
    except UnidentifiedImageError:
        advice = "save it as JPEG or PNG (HEIC, which phones make, is not read)"
        raise UserError(f"{name} is in no format that can be read here: {advice}") from None
    except Exception as error:  # Pillow raises many kinds on files that are damaged, huge or none
        raise UserError(f"{name} cannot be read as an image ({first_line(error)})") from error
    colours, opacity = colours[:, :, :3], colours[:, :, 3:]
    visible = (colours.mean(axis=2, keepdims=True) * opacity).sum() / max(1e-12, opacity.sum())
    ground = 1 if visible < 0.5 else 0
    return colours * opacity + ground * (1 - opacity)


# 3. Model ----------------------------------------------------------------------------------------------
class Autoencoder(nn.Module):
    """One linear layer to the code and one back:

        hidden         = encoder(x - mean)           [batch, hidden]
        code           = activation(hidden)          [batch, hidden]
        output         = decoder(code)               [batch, 784]
        reconstruction = squash(output)              [batch, 784], in [0, 1]

    Here `mean` is the mean image of the training set, or 0 when `input` is "pixels". Row j of `encoder.weight` is what
    unit j looks for, row j of `dictionary` what it draws.

    The loss is `reconstruction_loss` + `penalty`. A script's subclass declares its `hyperparameters`, and says what
    makes its method different:

        initialise()                         sets the weights that training starts from; `mean_image` is there already
        activation(hidden)                   the code, never negative
        penalty(hidden, code)                a scalar
        squash(output)                       the reconstruction; if not said otherwise the sigmoid
        reconstruction_loss(output, images)  a scalar, a mean over images and pixels; if not said otherwise the
                                             cross-entropy (BCE)
        schedule(progress)                   hyperparameters that change in training: a dict of their values when this
                                             part of it lies behind, in [0, 1]; if not said otherwise none do
        after_step(progress)                 constraints, after each step and once before the first; if not said
                                             otherwise nothing

    `initialise` and `after_step` run without gradients.

    Args:
        given: hyperparameters, by their names; all others are at their defaults. Each is an attribute of the model.

    Attributes:
        config: a dict of all hyperparameters, with which the model is, or was, trained.
        history: its History, None before it is trained.
        name: of its files: "sparse_l1", "sparse_ksparse_k25", ...

    Raises:
        UserError: there is no such hyperparameter, or it is out of its range.
    """

    method = None  # the name of the script and of its files: "sparse_l1"
    hyperparameters = {}  # of `common.hyperparameters`
    loss_name = "BCE"  # what the reconstruction loss is
    active_above = 0.0  # a unit is active on an image when its code is above this

    def __init__(self, **given):
        super().__init__()
        lacking = [part for part in ("initialise", "activation", "penalty") if not hasattr(self, part)]
        fault = f"{type(self).__name__} lacks {', '.join(lacking) or 'the name of its method'}"
        require(self.method and not lacking, f"{fault}: see the docstring of common.Autoencoder")
        for key in given:
            known = ", ".join(self.hyperparameters)
            require(key in self.hyperparameters, f"{self.method} has no hyperparameter {key!r}, but {known}")
        is_plain = given.get("plain", False)
        self.config = {
            key: declared.checked(key, given.get(key, declared.default_of(is_plain)))
            for key, declared in self.hyperparameters.items()
        }
        self.history = None
        self.name = model_name(type(self), self.config)
        self.encoder = nn.Linear(PIXELS, self.config["hidden"])
        self.decoder = nn.Linear(self.config["hidden"], PIXELS)
        self.register_buffer("mean_image", torch.zeros(PIXELS))
        for key, value in self.config.items():
            good = not hasattr(self, key)
            require(good, f"a hyperparameter cannot be called {key}: models have something of that name")
            setattr(self, key, value)

    @property
    def dictionary(self):
        """[hidden, 784], a view of the decoder's weights: row j is the picture that unit j draws."""
        return self.decoder.weight.T

    def squash(self, output):
        return output.sigmoid()

    def reconstruction_loss(self, output, images):
        return cross_entropy(output, images)

    def schedule(self, progress):
        return {}

    def after_step(self, progress):
        pass

    def encode(self, images):
        """[..., 784] images in [0, 1] -> [..., hidden] code. Raises UserError for anything else (but does not look in
        training, where it costs time, nor at values inside of torch.compile and torch.vmap)."""
        if not self.training:
            require_images(images, self.encoder.weight.dtype)
        return self.activation(self.encoder(images - self.mean_image))

    def decode(self, code):
        """[..., hidden] code -> [..., 784] reconstruction in [0, 1]."""
        return self.squash(self.decoder(code))

    def forward(self, images):
        """[..., 784] images -> ([..., 784] reconstruction in [0, 1], [..., hidden] code)."""
        code = self.encode(images)
        return self.decode(code), code


def require_images(images, dtype):
    """Raise UserError unless `images` is what an `Autoencoder` of this type of numbers can encode."""
    wanted = f"encode wants a tensor [n, 784] of {dtype}, images in [0, 1], 0 being the background"
    require(isinstance(images, torch.Tensor), f"{wanted}, not a {type(images).__name__}: see torch.as_tensor")
    require(images.shape[-1:] == (PIXELS,), f"{wanted}, not {list(images.shape)}: see .view(-1, 784)")
    advice = "common.to_float for bytes" if images.dtype == torch.uint8 else f".to({dtype})"
    require(images.dtype == dtype, f"{wanted}, not {images.dtype}: see {advice}")
    if torch.compiler.is_compiling() or not images.numel():
        return
    try:
        low, high = images.min().item(), images.max().item()
    except RuntimeError:  # inside of torch.vmap a tensor has no values to look at
        return
    require(not math.isnan(low), f"{wanted}, and these have NaN in them")
    require(low >= 0, f"{wanted}, and these go down to {low:g}: was a mean subtracted?")
    looks_like_bytes = 2 < high <= 255
    advice = "divide bytes by 255" if looks_like_bytes else "see .clamp(0, 1)"
    require(high <= 1, f"{wanted}, and these go up to {high:g}: {advice}")


class CrossEntropy(torch.autograd.Function):
    """What `cross_entropy` computes, with its gradient."""

    @staticmethod
    def forward(context, output, images):
        p = output.sigmoid()
        context.save_for_backward(p, images)
        # The cross-entropy of a logit o is relu(o) - o·x + log(1 + exp(-|o|)). The logarithm is -log(max(p, 1 - p)),
        # which is exact where p rounds to 0 or 1.
        return (F.relu(output) - output * images - torch.maximum(p, 1 - p).log_()).mean()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(context, gradient):
        p, images = context.saved_tensors
        return (p - images) * (gradient / p.numel()), None


def cross_entropy(output, images):
    """Mean binary cross-entropy of the reconstruction p = sigmoid(output), in nats per pixel, for output and images of
    one shape, [batch, 784]: a scalar. Its gradient for `output` is (p - images) / (784 · batch); `images` gets none. It
    is F.binary_cross_entropy_with_logits, whose log1p alone would take a third of an epoch on a CPU."""
    require(output.shape == images.shape, f"shapes differ: {list(output.shape)} and {list(images.shape)}")
    return CrossEntropy.apply(output, images)


class Hyperparameter(NamedTuple):
    """What a model is made with, declared once: the constructor, the command line, the names of files, checkpoints and
    the README's table all have it from here."""

    default: object  # its type is that of all values: bool, int, float or str
    help: str  # what it is
    allowed: str  # values in words: "... has to be <allowed>"
    is_allowed: Callable  # whether a value of that type is one of them
    alias: str | None = None  # another name on the command line
    is_compared: bool = False  # the command line takes several values, a model each; at most one of a method's
    is_always_named: bool = False  # in the name of a file also at its default
    plain: object = None  # its value in the textbook's method, where that is another

    def default_of(self, is_plain):
        """The default in the textbook's method, or in ours."""
        return self.plain if is_plain and self.plain is not None else self.default

    def checked(self, name, value):
        """`value` with the right type; UserError when it is not of that type, or not allowed."""
        kind = type(self.default)
        accepted = {bool: bool, int: Integral, float: Real, str: str}[kind]
        good = isinstance(value, accepted) and self.is_allowed(value)
        require(good, f"{name} has to be {self.allowed}, not {value!r}")
        return kind(value)  # numpy's numbers overflow, and checkpoints do not take them


def whole(default, help, low, high, **more):
    """A Hyperparameter whose values are whole numbers from `low` to `high`."""
    words = f"a whole number from {low} to {high}" if high < math.inf else f"a whole number of at least {low}"
    return Hyperparameter(default, help, words, lambda value: low <= value <= high, **more)


def at_least_0(default, help, **more):
    """A Hyperparameter whose values are finite numbers of at least 0."""
    return Hyperparameter(float(default), help, "at least 0", lambda value: 0 <= value < math.inf, **more)


def above_0(default, help, **more):
    """A Hyperparameter whose values are finite numbers above 0."""
    return Hyperparameter(float(default), help, "above 0", lambda value: 0 < value < math.inf, **more)


def between_0_and_1(default, help, **more):
    """A Hyperparameter whose values are numbers above 0 and below 1."""
    return Hyperparameter(float(default), help, "above 0 and below 1", lambda value: 0 < value < 1, **more)


def from_0_to_1(default, help, **more):
    """A Hyperparameter whose values are numbers from 0 to 1."""
    return Hyperparameter(float(default), help, "from 0 to 1", lambda value: 0 <= value <= 1, **more)


def one_of(default, help, *choices, **more):
    """A Hyperparameter whose values are these words."""
    return Hyperparameter(default, help, " or ".join(choices), lambda value: value in choices, **more)


def hyperparameters(own, plain_lr=None, **defaults):
    """All hyperparameters of a method.

    Args:
        own: those that no other method has, a dict from name to Hyperparameter.
        plain_lr: the learning rate of the textbook's method, where that is another.
        defaults: for those that all methods share, where the method's default is another.

    Returns:
        a dict from name to Hyperparameter.

    Raises:
        UserError: a name is used twice or unknown, or a default is not allowed.
    """
    plain = Hyperparameter(
        False, "the textbook's method, with those defaults that are called plain", "True or False", lambda value: True
    )
    shared = {
        "hidden": whole(512, "number of units in the code", 1, 32_768),
        "epochs": whole(20, "passes over the training images", 1, math.inf),
        "batch_size": whole(1200, "images per step", 1, 60_000),
        "lr": above_0(9e-3, "learning rate of Adam", plain=plain_lr),
        "encoder_speed": above_0(1, "so many times that rate for the encoder's weights", plain=1.0),
        "beta2": between_0_and_1(0.99, "Adam's β2, how slowly its mean of squared gradients changes", plain=0.999),
        "cool_down": from_0_to_1(0.2, "last part of the training, in which the learning rate falls to 0", plain=0.0),
        "weight_decay": at_least_0(0, "decay of the dictionary, fades the pixels that a unit does not need", plain=0.0),
        "fade": from_0_to_1(0, "last part of the training, in which that decay falls to 0", plain=0.0),
        "tie": at_least_0(0, "pull of each unit's encoder row and its picture towards each other", plain=0.0),
        "tie_scale": one_of("best", "the pull is to the best multiple of the picture, or to itself", "best", "one"),
        "start": one_of(
            "own",
            "weights to begin with: the method's own, or those that torch gives a layer",
            "own",
            "torch",
            plain="torch",
        ),
        "input": one_of(
            "centred",
            "what units look at: an image less the mean one, or its pixels",
            "centred",
            "pixels",
            plain="pixels",
        ),
        "seed": whole(0, "seed of the weights' start and the order of the images", 0, 2**63 - 1),
        "precision": one_of(
            "auto", "of matrix products in training, auto being what is fast here", "auto", "float32", "bfloat16"
        ),
        "dataset": Hyperparameter(
            "MNIST", f"the images, {', '.join(DOWNLOADED)} or your own", "the name of a folder", is_dataset_name
        ),
    }
    for name, default in defaults.items():
        require(name in shared, f"{name} is no hyperparameter that all methods share: put it among the method's own")
        shared[name] = shared[name]._replace(default=shared[name].checked(name, default))
    shared["plain"] = plain
    for name, declared in own.items():
        require(name not in shared, f"{name} is a hyperparameter that all methods share: give its default by that name")
        declared.checked(name, declared.default)
    require(
        sum(declared.is_compared for declared in own.values()) <= 1, "only one hyperparameter can be the compared one"
    )
    return {"plain": plain} | own | shared


def model_name(cls, config):
    """The name of a model's files: the method, and each hyperparameter that differs from its default; a list of values
    names a comparison."""
    parts = [cls.method]
    for key, declared in cls.hyperparameters.items():
        value = config[key]
        if key == "plain":
            parts += ["plain"] if value else []
        elif value != declared.default_of(config["plain"]) or declared.is_always_named:
            values = value if isinstance(value, list) else [value]
            texts = [str(value).removesuffix(".0") for value in values]
            if len(texts) > 6:
                texts = [texts[0], "to", texts[-1], f"{len(texts)}-values"]
            parts.append(key.replace("_", "-") + "_".join(texts))
    return "_".join(parts)


def compared_key(cls):
    """The hyperparameter of which the command line takes several values; None when there is none."""
    return next((key for key, declared in cls.hyperparameters.items() if declared.is_compared), None)


# 4. Training -------------------------------------------------------------------------------------------
class History(NamedTuple):
    """One number per epoch. Losses are means over all images of the set, not over batches."""

    train_loss: list  # reconstruction loss + penalty, averaged while the weights moved
    train_reconstruction: list  # the reconstruction loss alone
    test_loss: list  # reconstruction loss on all test images, at the end of the epoch, in the training's precision


BAR = "{desc}{percentage:3.0f}% |{bar}| {elapsed}<{remaining}{postfix}"  # fits into 80 columns


def train(model, data):
    """Train a new model in place, from the start of its method to the end of its schedules. There is no training on:
    the schedules end with it. The same model and data on the same machine give bit-identical weights.

    Args:
        model: a new Autoencoder, on the device to train it on; it ends in evaluation mode, with a history.
        data: Data, of the model's data set, on the same device.

    Returns:
        History, that of the model.

    Raises:
        UserError: the model or the images cannot be trained on, and are left as they were; or a loss became NaN,
            infinite or absurd.
    """
    require_trainable(model, data)
    with torch.inference_mode(False), torch.enable_grad():  # whatever the caller's mode is
        history = train_from_start(model, data)
    model.history = history
    return history


def require_trainable(model, data):
    """Raise UserError unless `train` can train this model on these images."""
    new = f"make a new one, {type(model).__name__}(...)"
    require(model.history is None, f"this model is trained, and train begins at the start: {new}")
    changed = [key for key, value in model.config.items() if getattr(model, key) != value]
    require(not changed, f"{', '.join(changed)} was changed after the model was made: {new}")
    trainable = all(parameter.requires_grad for parameter in model.parameters())
    require(trainable, f"train sets all weights anew, and some of this model's are frozen: {new}")
    ordinary = not any(parameter.is_inference() for parameter in model.parameters())
    require(ordinary, "this model was made in torch.inference_mode, where nothing can be trained: make it outside")
    require(model.mean_image.dtype == torch.float32, f"train wants a float32 model, not {model.mean_image.dtype}")
    for images in (data.train_images, data.test_images):
        require(
            torch.is_tensor(images), f"train wants tensors of bytes, torch.uint8 [n, 784], not {type(images).__name__}"
        )
        good = images.dtype == torch.uint8 and images.shape[1:] == (PIXELS,) and len(images) > 0
        require(good, f"train wants bytes, torch.uint8 [n, 784], not {images.dtype} {list(images.shape)}")
    require_own_data(model, data, f"give the model dataset={data.name!r}")


def require_own_data(model, data, advice):
    """Raise UserError with this advice unless the images are of the model's data set."""
    fault = f"the model is one of {model.dataset}, and these images are of {data.name!r}"
    require(data.name == model.dataset, f"{fault}: {advice}")


def train_from_start(model, data):
    """What `train` does when nothing is wrong with its arguments."""
    if model.precision == "auto":
        model.precision = model.config["precision"] = fastest_precision(model.mean_image.device)
    order = torch.Generator().manual_seed(model.seed)
    set_start(model, data.train_images)
    optimizer = make_optimizer(model)
    steps = math.ceil(len(data.train_images) / model.batch_size)  # of an epoch

    model.eval()
    untrained_loss = mean_loss(model, data.test_images, model.precision)
    history = History([], [], [])
    print_line(f"{model.name}: training, {model.epochs} epochs of {steps} steps")
    disable = True if os.environ.get("TQDM_DISABLE") else None  # None: only in a terminal
    with tqdm(total=model.epochs * steps, bar_format=BAR, disable=disable) as bar:
        for epoch in range(model.epochs):
            bar.set_description_str(f"epoch {epoch + 1}/{model.epochs}: ", refresh=False)
            minibatches = counted(batches(data.train_images, model.batch_size, order), bar)
            model.train()
            loss, reconstruction_loss = train_epoch(model, minibatches, optimizer, epoch * steps, model.epochs * steps)
            model.eval()
            test_loss = mean_loss(model, data.test_images, model.precision)
            history.train_loss.append(loss)
            history.train_reconstruction.append(reconstruction_loss)
            history.test_loss.append(test_loss)
            require_not_diverged(history, untrained_loss, model)
            show_progress(bar, history, model)
    return history


def require_not_diverged(history, untrained_loss, model):
    """Raise UserError when a loss of the last epoch is lost: NaN, infinite, or far worse than before the training (BCE
    on logits stays finite for long). The loss with penalty may be large."""
    loss, reconstruction_loss, test_loss = (losses[-1] for losses in history)
    finite = math.isfinite(loss) and math.isfinite(reconstruction_loss) and math.isfinite(test_loss)
    sound = finite and max(reconstruction_loss, test_loss) <= 100 * untrained_loss
    where = f"in epoch {len(history.train_loss)} of {model.epochs}: train {loss:.4g}, test loss {test_loss:.4g}"
    advice = f"no weights were written; try a smaller lr than {model.lr:g}"
    require(sound, f"training diverged {where}; {advice}")


def counted(minibatches, bar):
    """The same minibatches; tqdm's bar moves when one is done."""
    for batch in minibatches:
        yield batch
        bar.update()


def show_progress(bar, history, model):
    """Say beside tqdm's bar how an epoch ended; where there is no terminal for it, print twenty lines during a
    training."""
    epoch, epochs = len(history.train_loss), model.epochs
    losses = f"train loss {history.train_loss[-1]:.5f}, test loss {history.test_loss[-1]:.5f}"
    bar.set_postfix_str(losses.replace(" loss", ""), refresh=False)
    is_twentieth = epoch % math.ceil(epochs / 20) == 0
    if bar.disable and (is_twentieth or epoch == epochs):
        print_line(f"{model.name}: epoch {epoch}/{epochs}, {losses}")


@torch.no_grad()
def set_start(model, images):
    """Set the weights and the mean image that training on images [n, 784] uint8 begins with. The random numbers are
    those of the model's seed, and the caller's go on afterwards as if none had been drawn."""
    model.mean_image.copy_(sum(batch.sum(dim=0) for batch in batches(images, 2_000)) / len(images))
    accelerator = torch.accelerator.current_accelerator()
    kind, count = (accelerator.type, torch.accelerator.device_count()) if accelerator else ("cuda", 0)
    with torch.random.fork_rng(range(count), device_type=kind):  # torch.manual_seed seeds all of them
        torch.manual_seed(model.seed)
        model.initialise()
        if model.start == "torch":
            model.encoder.reset_parameters()
            model.decoder.reset_parameters()
    if model.input == "pixels":
        model.mean_image.zero_()
    model.after_step(0.0)


def make_optimizer(model):
    """Adam, for the encoder's weights, the decoder's, and all biases; `set_rates` says how fast each moves."""
    groups = [[model.encoder.weight], [model.decoder.weight], [model.encoder.bias, model.decoder.bias]]
    fused = model.mean_image.device.type in ("cpu", "cuda")
    return torch.optim.Adam([{"params": group} for group in groups], betas=(0.9, model.beta2), fused=fused)


def set_rates(optimizer, model, progress):
    """The learning rates and the dictionary's decay for the next step, when this part of the training lies behind."""
    encoder, dictionary, biases = optimizer.param_groups
    cooling = fall(progress, model.cool_down)
    encoder["lr"] = model.lr * model.encoder_speed * cooling
    dictionary["lr"] = biases["lr"] = model.lr * cooling
    dictionary["weight_decay"] = model.weight_decay * fall(progress, model.fade)


def fall(progress, last_part):
    """1, and over this last part of the training on a straight line from 1 to 0. All are numbers from 0 to 1."""
    return min(1.0, (1 - progress) / last_part) if last_part else 1.0


def fastest_precision(device):
    """The cheapest precision that this machine's matrix units have: bfloat16 where it is built in."""
    fast = False
    if device.type == "cuda":
        fast = torch.cuda.is_bf16_supported(including_emulation=False)
    elif device.type == "cpu" and hasattr(torch.cpu, "get_capabilities"):  # torch 2.6 cannot tell
        capabilities = torch.cpu.get_capabilities()
        fast = capabilities.get("avx512_bf16") or capabilities.get("amx_bf16")
    return "bfloat16" if fast else "float32"


def train_epoch(model, minibatches, optimizer, steps_before, total_steps):
    """One pass over minibatches [batch, 784], in a training that takes `total_steps` of them. Returns (loss with
    penalty, reconstruction loss), both means over all images while the weights moved."""
    count = 0
    loss_sum = torch.zeros((), device=model.mean_image.device)  # read once per epoch, not once per batch
    reconstruction_sum = torch.zeros_like(loss_sum)
    for step, batch in enumerate(minibatches, start=steps_before):
        reconstruction_loss, penalty = losses_of(model, batch, model.precision)
        loss = reconstruction_loss + penalty
        optimizer.zero_grad()
        loss.backward()
        add_tie_gradient(model)
        set_rates(optimizer, model, step / total_steps)
        optimizer.step()
        with torch.no_grad():
            model.after_step((step + 1) / total_steps)
        count += len(batch)  # the last batch may be short
        loss_sum += loss.detach() * len(batch)
        reconstruction_sum += reconstruction_loss.detach() * len(batch)
    return (loss_sum / count).item(), (reconstruction_sum / count).item()


@torch.no_grad()
def add_tie_gradient(model):
    """The soft tie: add to the gradients those of tie · Σ_j ‖w_j - α_j d_j‖², so that a unit looks for what it draws.

    Here w_j is the encoder's row of unit j, d_j its picture, and α_j is 1 if the model's `tie_scale` is "one", else the
    factor at which α_j d_j comes closest to w_j. A small change of that best α_j does not change the sum, so the
    gradients may take it for a constant. It is a decay of the weights towards each other instead of towards zero and,
    like Adam's decay, no part of the loss that is reported. Its gradients are written out because autograd takes three
    times as long: a quarter of a training step of k-sparse.
    """
    encoder, decoder, pictures = model.encoder.weight, model.decoder.weight, model.dictionary
    if model.tie_scale == "one":
        scale = torch.ones(1, 1, device=encoder.device)
    else:
        scale = (encoder * pictures).sum(dim=1, keepdim=True) / pictures.square().sum(dim=1, keepdim=True).clamp(1e-12)
    difference = torch.addcmul(encoder, scale, pictures, value=-1)  # w_j - α_j d_j
    encoder.grad.add_(difference, alpha=2 * model.tie)
    decoder.grad.addcmul_(scale.T, difference.T, value=-2 * model.tie)


def losses_of(model, images, precision):
    """(reconstruction loss, penalty) on images [batch, 784], with matrix products in `precision`."""
    with torch.autocast(images.device.type, torch.bfloat16, enabled=precision == "bfloat16"):
        hidden = model.encoder(images - model.mean_image)
        code = model.activation(hidden)
        output = model.decoder(code)
    penalty = model.penalty(hidden.float(), code.float())
    require(penalty.dim() == 0, f"penalty has to give one number, a mean over images, not {list(penalty.shape)}")
    return model.reconstruction_loss(output.float(), images), penalty


@torch.no_grad()
def mean_loss(model, images, precision="float32"):
    """Mean reconstruction loss, without the penalty, over images [n, 784] uint8, of a model in evaluation mode."""
    sums = [losses_of(model, batch, precision)[0] * len(batch) for batch in batches(images, 2_000)]
    return sum(sums).item() / len(images)


# 5. Evaluation -----------------------------------------------------------------------------------------
KEPT = (25, 50)  # numbers of units for which the report says what they alone draw


@dataclass
class Report:
    """What a model is worth on test images."""

    loss: float  # the reconstruction loss, as in training and without the penalty: what `loss_name` says
    floor: float  # the least that loss can be
    mse: float  # mean squared error per pixel of the reconstruction in [0, 1]: comparable between methods
    kept: dict  # {n: MSE when on each image the n units that add most keep their code, and all others their median}
    active: float  # units per image, mean (L0)
    dead: int  # units that are active on no image
    idle: int  # units that draw next to nothing: their amplitude is below a tenth of the units' root mean square; the
    # amplitude is the standard deviation over images of the code, times the norm of the unit's picture
    locality: float  # part of ‖d‖² in the 39 strongest pixels, 5 %, of a unit's picture d; median; noise has 0.28
    mean_code: float  # over images and units (mean ρ̂ for KL)
    code: torch.Tensor  # [n, hidden] of the n images
    median_code: torch.Tensor  # [hidden], over images: what each unit does on most of them
    frequency: torch.Tensor  # [hidden], part of the images on which a unit is active


@torch.no_grad()
def evaluate(model, images):
    """Report on a model, which ends in evaluation mode, for test images [n, 784] uint8 on its device. Raises UserError
    when there are no images."""
    require(len(images) > 0, "there are no images to evaluate the model on")
    model.eval()
    code = encode_all(model, images)
    median_code = code.median(dim=0).values
    loss, mse, kept = 0.0, 0.0, dict.fromkeys(KEPT, 0.0)
    for batch, batch_code in zip(batches(images, 2_000), code.split(2_000), strict=True):
        weight = len(batch) / len(images)
        output = model.decoder(batch_code)
        loss += weight * model.reconstruction_loss(output, batch).item()
        mse += weight * F.mse_loss(model.squash(output), batch).item()
        for n, kept_code in zip(KEPT, keep_strongest(model, batch_code, median_code, KEPT), strict=True):
            kept[n] += weight * F.mse_loss(model.decode(kept_code), batch).item()

    frequency = (code > model.active_above).float().mean(dim=0)
    energy = model.dictionary.square()  # of each pixel of each unit's picture
    total_energy = energy.sum(dim=1)
    strongest_energy = energy.topk(PIXELS // 20).values.sum(dim=1)
    amplitude = (code.var(dim=0, correction=0) * total_energy).sqrt()
    return Report(
        loss=loss,
        floor=pixel_entropy(images) if model.loss_name == "BCE" else 0.0,
        mse=mse,
        kept=kept,
        active=frequency.sum().item(),
        dead=(frequency == 0).sum().item(),
        idle=(amplitude < 0.1 * amplitude.square().mean().sqrt()).sum().item(),
        locality=(strongest_energy / total_energy.clamp(min=1e-12)).median().item(),
        mean_code=code.mean().item(),
        code=code.cpu(),
        median_code=median_code.cpu(),
        frequency=frequency.cpu(),
    )


@torch.no_grad()
def encode_all(model, images):
    """The code [n, hidden] of images [n, 784] uint8."""
    return torch.cat([model.encode(batch) for batch in batches(images, 2_000)])


def contributions(model, code, median_code):
    """How much each unit adds to each picture: |code - median_code| · ‖d‖, [batch, hidden], for the units' median codes
    [hidden]."""
    return (code - median_code).abs() * model.dictionary.norm(dim=1)


def keep_strongest(model, code, median_code, counts):
    """For each n of `counts` the code [batch, hidden] with all but the n units of largest contribution on each image at
    their median code [hidden]. It needs no threshold, so it compares all methods: what do n units draw?"""
    most = min(max(counts), code.shape[1])
    units = contributions(model, code, median_code).topk(most).indices  # the strongest first
    strongest = code.gather(1, units)
    for n in counts:
        yield median_code.expand_as(code).scatter(1, units[:, :n], strongest)


def pixel_entropy(images):
    """The floor of the binary cross-entropy, in nats per pixel: what a perfect reconstruction of images [n, 784] uint8
    still costs. It is 0 only for black and white."""
    x = to_float(images)
    return F.binary_cross_entropy(x, x).item()


def report_text(model, report, path=None):
    """The report on a trained model, one line a figure; `path` is where its weights are. UserError before training."""
    require_trained(model)
    hidden = len(model.dictionary)
    pairs = ", ".join(f"{key}\xa0{value}" for key, value in model.config.items())  # a line does not end between the two
    trained_with = textwrap.fill(pairs, 100).replace("\xa0", " ").replace("\n", "\n" + 14 * " ")
    above_floor = ""
    if model.loss_name == "BCE":
        above_floor = f", {report.loss - report.floor:.5f} above the floor {report.floor:.5f}"
    kept = " and ".join(f"{error:.5f} from {n}" for n, error in report.kept.items())
    lines = [
        ("model", f"{model.name}, {PIXELS} -> {hidden} -> {PIXELS}"),
        ("weights", "not saved yet" if path is None else short_path(path)),
        ("trained with", trained_with),
        ("train loss", f"{model.history.train_loss[-1]:.5f} {model.loss_name} with penalty, in the last epoch"),
        ("test loss", f"{report.loss:.5f} {model.loss_name}{above_floor}"),
        ("test MSE", f"{report.mse:.5f} per pixel, of the reconstruction in [0, 1]"),
        ("", f"{kept} units an image, the others at their median"),
        ("active units", f"{report.active:.1f} of {hidden} on an image (code above {model.active_above:g})"),
        ("dead units", f"{report.dead} of {hidden} (active on no image)"),
        ("idle units", f"{report.idle} of {hidden} (they draw next to nothing)"),
        ("locality", f"{report.locality:.2f} of a unit's ink is in 5 % of the pixels (noise: 0.28)"),
        ("mean code", f"{report.mean_code:.4f}"),
    ]
    lines.append(("pictures", ""))
    return "\n".join(f"{name:<13} {value}".rstrip() for name, value in lines)


# 6. Checkpoints ----------------------------------------------------------------------------------------
MAX_CHECKPOINT_BYTES = 256 * 2**20
FORMAT = 3  # of checkpoints; files of the first one do not say so
EARLIER_SHARED = {
    "cool_down": 0.2,
    "dataset": "MNIST",
    "plain": False,
    "start": "own",
    "input": "centred",
    "fade": 0.0,
}
EARLIER = {  # what was no hyperparameter in an earlier format, and what it was for the methods of that time
    "sparse_l1": {"encoder_speed": 14.0, "beta2": 0.99, "tie_scale": "best", "norm": "one"},
    "sparse_kl": {"encoder_speed": 12.0, "beta2": 0.99, "tie_scale": "best", "start_std": 0.003},
    "sparse_ksparse": {
        "encoder_speed": 1.0,
        "beta2": 0.997,
        "tie_scale": "one",
        "start_std": 0.01,
        "first_k": 100,
    },
}


def save_checkpoint(model, path):
    """Write the weights of a trained model to `path`, with all that made it: hyperparameters, history and versions. The
    file appears whole or not at all. UserError when they could not be loaded again, or the file cannot be written: then
    they are in a folder for temporary files, which it names."""
    require_trained(model)
    content = {
        "format": FORMAT,
        "method": model.method,
        "config": model.config,
        "history": model.history._asdict(),
        "weights": {name: tensor.cpu() for name, tensor in model.state_dict().items()},
        "made_by": {
            "torch": str(torch.__version__),
            "device": model.mean_image.device.type,
            "threads": torch.get_num_threads(),
        },
    }
    buffer = io.BytesIO()
    torch.save(content, buffer)
    try:
        model_from(read_untrusted(buffer.getbuffer()), type(model))
    except Exception as error:  # what it would be when it is loaded
        raise UserError(f"this model cannot be saved, since it could not be loaded ({first_line(error)})") from error
    path = full_path(path)
    try:
        write_file(path, buffer.getbuffer(), "--checkpoint")
    except UserError as error:
        try:
            kept = Path(tempfile.mkdtemp(), path.name)
            write_file(kept, buffer.getbuffer(), "--checkpoint")
        except (OSError, UserError):
            raise error from None
        raise UserError(f"{error}; the weights are in {kept}: move them before that folder is emptied") from error


def require_trained(model):
    """Raise UserError unless a model has been trained."""
    require(getattr(model, "history", None) is not None, "this model is not trained yet: see train(model, data)")


def model_from(content, cls):
    """The model of a subclass of Autoencoder that a checkpoint's `content` describes, on the CPU, in evaluation mode,
    its parameters without gradients. Raises UserError, or what torch raises on weights that do not fit."""
    config = content["config"]
    if content.get("format", 1) < FORMAT:
        config = EARLIER_SHARED | EARLIER.get(cls.method, {}) | config
        config.pop("patience", None)  # k-sparse had it, and nothing is left that depends on it
    differing = set(config) ^ set(cls.hyperparameters)
    require(not differing, f"its hyperparameters are not those of {cls.method}: {', '.join(sorted(differing))}")
    model = cls(**config)
    model.load_state_dict(content["weights"])
    model.history = History(**content["history"])
    require(all(len(losses) == model.epochs for losses in model.history), "its history is not of its epochs")
    numbers = [*map(torch.tensor, model.history), *model.state_dict().values()]
    require(all(values.isfinite().all() for values in numbers), "its numbers are not all finite")
    return model.eval().requires_grad_(False)


def load_checkpoint(path, cls=None):
    """Read a checkpoint, without trusting the file.

    Args:
        path: a file.
        cls: the subclass of Autoencoder that it has to be of; by default the one in the script that the file names.

    Returns:
        the model, on the CPU, in evaluation mode, its parameters without gradients.

    Raises:
        DamagedCheckpoint: the file is no checkpoint, or claims more than it holds.
        UserError: it is missing, a plain state_dict, of another method, or of a newer version.
    """
    path = full_path(path)
    require_no_folder(path)
    exists = os.path.isfile(path)  # and not path.is_file(), which raises when a name is too long
    require(exists, f"there are no weights at {short_path(path)}: check the name, or make them with --train")
    with report_damage(path):
        size = path.stat().st_size
        require(size <= MAX_CHECKPOINT_BYTES, f"it is {size:,} bytes long")
        content = read_untrusted(path.read_bytes())
        require(isinstance(content, dict) and content, "there are no weights in it")
    require_ours(path, content)
    cls = cls or find_method(content["method"])
    found = content["method"]
    require(cls.method == found, f"{short_path(path)} holds weights of {found!r:.40}, not of {cls.method}")
    with report_damage(path):
        model = model_from(content, cls)
    model.name = file_name(path)
    return model


def require_ours(path, content):
    """Raise UserError unless a file at `path` that holds the dict `content` was written by `save_checkpoint`."""
    what = "a plain state_dict, weights without their hyperparameters"
    advice = "give it to load_state_dict of a model that you build"
    is_state_dict = all(isinstance(value, torch.Tensor) for value in content.values())
    require(not is_state_dict, f"{short_path(path)} is {what}: {advice}")
    is_newer = isinstance(content.get("format"), int) and content["format"] > FORMAT
    require(not is_newer, f"{short_path(path)} was written by a newer version of this program: update it")
    is_ours = content.keys() >= {"method", "config", "history", "weights"}
    keys = ", ".join(map(repr, content))[:100]
    require(is_ours, f"{short_path(path)} was written by another program: it holds {keys}")
    with report_damage(path):
        method, weights = content["method"], content["weights"]
        require(isinstance(method, str) and isinstance(weights, dict), "there are no weights in it")
        require("decoder_bias" not in weights, "it is of an earlier version of this program")


def find_method(name):
    """The class of a method, which is in the script of the same name beside this file."""
    is_there = name.startswith("sparse_") and name.isidentifier() and Path(__file__).with_name(f"{name}.py").is_file()
    advice = "give the class of the weights, load_checkpoint(path, cls)"
    require(is_there, f"there is no script {name:.40}.py of a method beside common.py: {advice}")
    classes = [value for value in vars(importlib.import_module(name)).values() if isinstance(value, type)]
    classes = [cls for cls in classes if issubclass(cls, Autoencoder) and cls.method == name]
    require(classes, f"{name}.py has no class of a method of that name: {advice}")
    return classes[0]


def require_no_folder(path):
    """Raise UserError when what should be a file of weights is a folder."""
    require(not os.path.isdir(path), f"{short_path(path)} is a folder: name a file of weights")


@contextlib.contextmanager
def report_damage(path):
    """Turn whatever is raised inside into a DamagedCheckpoint that names the file: what `require` says of it, and the
    many kinds of errors that zipfile, pickle and torch raise on files that were garbled or made by hand."""
    try:
        yield
    except (OSError, MemoryError):  # the file itself may be good
        raise
    except Exception as error:
        advice = "restore it, or move it and train anew"
        raise DamagedCheckpoint(
            f"{short_path(path)} is not a good checkpoint ({first_line(error)}): {advice}"
        ) from error


def read_untrusted(data):
    """The content of a checkpoint, given as bytes. Nothing in it is executed, nothing unpacked that is larger than the
    file (torch would unpack a bomb), and its checksums are verified (torch does not look)."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        stored = all(entry.compress_type == zipfile.ZIP_STORED for entry in archive.infolist())
        unpacked = sum(entry.file_size for entry in archive.infolist())
        require(stored and unpacked <= len(data), "it claims to hold more than it does")
        require(archive.testzip() is None, "its contents do not match their checksums")
    return torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)


def load_pretrained(name):
    """A trained model, of any script beside this file. A plain `name` is that of a file in checkpoints/: "sparse_l1",
    "sparse_kl", "sparse_ksparse_k25", ... One that ends in .pt or has a slash in it is the path of a file, and so is a
    Path."""
    is_path = not isinstance(name, str) or name.endswith(".pt") or Path(name).name != name
    return load_checkpoint(name if is_path else checkpoint_path(name))


def checkpoint_path(name):
    """Where the weights of a model of this name lie."""
    return ROOT / "checkpoints" / f"{name}.pt"


def file_name(path):
    """The name that the file of a model's weights gives to its pictures and its page."""
    return path.name.removesuffix(".pt")


def require_good_name(name, advice=""):
    """Raise UserError unless a model can be called so by all that read its name: files, titles of pictures, the page.
    `advice` says how to get a shorter one."""
    good = name.isprintable() and name[:1] not in ("", ".") and "\\" not in name
    fault = f"{name!r} cannot be the name of pictures and a page"
    require(good, f"{fault}: take printable characters without \\, and no dot at the start")
    length = len(name.encode())  # a file's name has up to 255 bytes, and NAME_image_FILE.png has two of ours
    require(length <= 120, f"{fault}: it is {length} bytes long, and 120 is the most{advice}")


# 7. Pictures -------------------------------------------------------------------------------------------
# A notebook exports MPLBACKEND to other environments, and matplotlib cannot be imported where that backend is not
# installed. Only --show needs a backend.
backend = None
if "matplotlib" not in sys.modules:
    backend = os.environ.pop("MPLBACKEND", None)
import matplotlib  # noqa: E402
from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: E402
from matplotlib.collections import PathCollection  # noqa: E402
from matplotlib.figure import Figure  # noqa: E402
from matplotlib.textpath import TextPath  # noqa: E402
from matplotlib.transforms import Affine2D  # noqa: E402

if backend is not None:
    os.environ["MPLBACKEND"] = backend
    with contextlib.suppress(ValueError):
        matplotlib.rcParams["backend"] = backend
INK, ACCENT, QUIET = "#1f2933", "#c2410c", "#7b8794"
INK_COLOURS = ("#f4fbff", "#b9e0ff", "#c9cdd3", "#cf6a4f", "#8a0712")  # from taken away over nothing to added
INK_IN_WORDS = "dark red adds ink, light blue takes it away"
DPI = 100  # screen pixels per inch
PARTS = 12  # units shown for each digit
ROWS, EXAMPLES = 24, 12  # units in the picture of units, and images of each


@contextlib.contextmanager
def own_style():
    """Everything is drawn under matplotlib's own defaults, whatever a matplotlibrc or a style of the user's says."""
    with matplotlib.rc_context(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph")  # of letters in a name that the font does not have
        matplotlib.rcdefaults()
        yield


@torch.no_grad()
@own_style()
def draw_pictures(model, report, data):
    """All pictures of a model on the CPU: a dict from kind to figure. The report is that of data's test images."""
    train_digits = first_images(data.train_images, data.train_labels)
    test_digits = first_images(data.test_images, data.test_labels)
    train_rows = [("input", train_digits), ("output", model(train_digits)[0])]
    test_rows = [("input", test_digits), ("output", model(test_digits)[0])]
    figures = {
        "loss": plot_loss(model, report),
        "features": plot_features(model, report),
        "units": plot_units(model, report, data.test_images),
        "parts": plot_parts(model, model.name, report, test_digits),
        "test": plot_rows(test_rows, f"{model.name}: test images"),
        "train": plot_rows(train_rows, f"{model.name}: training images"),
    }
    return figures


@own_style()
def save_figure(figure, path):
    """Write a figure in the form that the name of the file says, as `write_file` does. A PNG has the same bytes for the
    same picture."""
    buffer, form = io.BytesIO(), path.suffix[1:]
    if form == "png":
        from PIL import Image

        figure.set_dpi(DPI)
        canvas = FigureCanvasAgg(figure)
        canvas.draw()
        # Not savefig, which writes how transparent each pixel is: a third more bytes, in three times the time.
        pixels = np.asarray(canvas.buffer_rgba())[..., :3]
        Image.fromarray(np.ascontiguousarray(pixels)).save(buffer, "png", compress_level=3, dpi=(DPI, DPI))
    else:
        figure.savefig(buffer, format=form)
    write_file(path, buffer.getbuffer(), "--output-dir")


def mosaic(images, columns, gap=1, between=np.nan):
    """Images, [n, 784] or with colours [n, 784, 4], row by row in one array, with `gap` pixels of the value `between`
    around each. (torchvision's make_grid has one channel or three.)"""
    colours = images.shape[2:]
    rows, pitch = math.ceil(len(images) / columns), 28 + gap
    images = np.asarray(images).reshape(-1, 28, 28, *colours)
    tiled = np.full((rows * pitch + gap, columns * pitch + gap, *colours), between, images.dtype)
    for index, image in enumerate(images):
        left, top = corner(*divmod(index, columns), gap)
        tiled[top : top + 28, left : left + 28] = image
    return tiled


def corner(row, column, gap=1):
    """(left, top) of an image in a mosaic."""
    return gap + column * (28 + gap), gap + row * (28 + gap)


def new_mosaic_figure(pixels, title, size=None, left=12, bottom=12, right=12, top=44, **colours):
    """(figure, axes) that show an array [rows, columns] below a title, each element as a pixel of this size (width,
    height), by default (1, 1). Sizes and the room at the edges are in screen pixels; the axes' unit is one element."""
    across, down = size or (1, 1)
    shown_height, shown_width = pixels.shape[0] * down, pixels.shape[1] * across
    right = max(right, 300 - shown_width)  # of one image there is room for its title, too
    lines = wrap_title(title, shown_width + right, size=11)
    top += 18 * (len(lines) - 1)
    height, width = shown_height + top + bottom, shown_width + left + right
    figure = Figure(figsize=(width / DPI, height / DPI))
    axes = figure.add_axes((left / width, bottom / height, shown_width / width, shown_height / height))
    axes.imshow(pixels, interpolation="none", aspect="auto", **colours)
    axes.axis("off")
    # Names may have a $ in them, which is no formula.
    figure.text(left / width, 1 - 16 / height, "\n".join(lines), size=11, color=INK, va="top", parse_math=False)
    return figure, axes


def wrap_title(title, width, size):
    """The lines of a title in letters of this size, none of them wider than `width` screen pixels."""
    figure = Figure(dpi=DPI)

    def width_of(line):
        return figure.text(0, 0, line, size=size, parse_math=False).get_window_extent().width

    lines, letters = [title], len(title)
    while letters > 1 and (longest := max(map(width_of, lines))) > width:
        letters = max(1, min(letters - 1, int(letters * width / longest)))
        lines = textwrap.wrap(title, letters, break_on_hyphens=False)
    return lines


def plot_loss(model, report):
    """Loss against epochs: train with and without the penalty, test, and the floor; what the report says of the loss
    and the MSE after the last; and, with an axis of their own, the hyperparameters that changed in training."""
    history, epochs = model.history, range(1, model.epochs + 1)
    marker = "o" if len(epochs) == 1 else None  # a line of one point is invisible
    figure = Figure(figsize=(8, 5.4), layout="constrained")
    axes = figure.add_subplot()
    label = "train loss, with penalty (while learning)"
    axes.plot(epochs, history.train_loss, color=QUIET, ls="-.", marker=marker, label=label)
    label = "train loss without penalty (while learning)"
    axes.plot(epochs, history.train_reconstruction, color=INK, ls="--", marker=marker, label=label)
    label = f"test loss: {report.loss:.5f} in the end"
    axes.plot(epochs, history.test_loss, color=ACCENT, lw=2, marker=marker, label=label)
    label = f"test MSE, of the reconstruction in [0, 1]: {report.mse:.5f} in the end"
    if model.loss_name == "BCE":
        axes.axhline(report.floor, color=INK, lw=1, ls=":", label=f"floor {report.floor:.5f}: the pixels' entropy")
        axes.plot([], [], " ", label=label)  # on another scale
    else:
        axes.plot(len(epochs), report.mse, color=ACCENT, marker="x", ls="", clip_on=False, label=label)
    plot_schedule(axes, model, len(epochs))
    axes.set_title("\n".join(wrap_title(f"{model.name}: losses", 680, size=12)), parse_math=False)
    axes.set(xlabel="epoch", ylabel=f"{model.loss_name} per pixel")
    axes.set_xlim(0 if len(figure.axes) > 1 else 1, max(2, len(epochs)))
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.spines[["top", "right"]].set_visible(False)
    lines = [line for part in figure.axes for line in part.lines]
    figure.legend(handles=lines, loc="outside lower left", frameon=False)
    return figure


def plot_schedule(axes, model, epochs):
    """Add to a graph of losses each hyperparameter that changed in training, on an axis at the right. (All test losses
    are those of the model with its last value.)"""
    progress = np.linspace(0, 1, 20 * epochs + 1)
    schedules = [model.schedule(part) for part in progress.tolist()]
    for key in schedules[0]:
        values = np.array([schedule[key] for schedule in schedules])
        if (values == values[0]).all():
            continue
        arrival = epochs * progress[np.flatnonzero(values != values[-1])[-1] + 1]
        first, last = values[0], values[-1]
        label = (
            f"{key} in training (right axis): from {first:g} to {last:g} by epoch {arrival:.3g}; {last:g} in each test"
        )
        twin = axes.twinx()
        twin.plot(epochs * progress, values, color=QUIET, lw=1, ls=(0, (1, 1)), label=label)
        twin.set(ylim=(0, 1.05 * values.max()), ylabel=f"{key} in training")
        twin.spines["top"].set_visible(False)


@own_style()
def plot_rows(rows, title):
    """A list of rows: pairs of a name and images [n, 784] in [0, 1]."""
    gap = 2
    longest = max(len(name) for name, _ in rows)
    tiled = mosaic(torch.cat([images for _, images in rows]), len(rows[0][1]), gap, between=0)
    left = max(102, 24 + 8 * longest)
    figure, axes = new_mosaic_figure(tiled, title, (2, 2), left=left, cmap="gray_r", vmin=0, vmax=1)
    for row, (name, _) in enumerate(rows):
        _, top = corner(row, 0, gap)
        axes.text(-5, top + 14, name, size=10, color=INK, ha="right", va="center")
    return figure


def plot_features(model, report):
    """The pictures that the units draw: the rows of the dictionary, the most often active unit first."""
    order = units_from_most_active(report)
    features = model.dictionary[order]
    columns = 32 if len(features) <= 512 else 40
    # The scale ends where 0.2 % of the pixels are beyond it. torch.quantile refuses more than 16 million: a fifth of
    # the pixels will do.
    limit = torch.quantile(features.abs().flatten()[::5], 0.998).clamp(min=1e-12).item()
    title = f"{model.name}: what each unit draws, most often active first ({INK_IN_WORDS})"
    figure, axes = new_mosaic_figure(mosaic(features, columns), title, cmap=ink_colours(), vmin=-limit, vmax=limit)
    cross_out(axes, [place for place, unit in enumerate(order) if report.frequency[unit] == 0], columns)
    return figure


def units_from_most_active(report, count=math.inf):
    """The units, from the most to the least often active: all, or `count` of them, evenly chosen."""
    order = report.frequency.argsort(descending=True, stable=True)
    return order[torch.linspace(0, len(order) - 1, min(count, len(order))).round().long()]


def cross_out(axes, places, columns):
    """Cross out the images of a mosaic at these places: of dead units."""
    x, y = [], []
    for place in places:
        left, top = corner(*divmod(place, columns))
        x += [left, left + 27, None, left, left + 27, None]
        y += [top, top + 27, None, top + 27, top, None]
    axes.plot(x, y, color="black", lw=1, scalex=False, scaley=False)


def ink_colours():
    """Colours of ink that a unit adds or takes away. What it adds is darker than the ground and what it takes away is
    brighter, so that it can be told apart in grey, too."""
    colours = matplotlib.colors.LinearSegmentedColormap.from_list("ink", INK_COLOURS)
    return colours.with_extremes(bad="#ffffff")


def plot_units(model, report, images):
    """What units stand for: a row each for two dozen units, from the most to the least often active, with what it draws
    and looks for, and of the images [n, 784] uint8 those on which its code is largest."""
    units = units_from_most_active(report, ROWS)
    codes, strongest = report.code[:, units].T.topk(min(EXAMPLES, len(images)))
    columns, gap, white = 2 + strongest.shape[1], 8, np.uint8(255)
    tiles = np.full((len(units), columns, PIXELS, 4), white)
    colours = ink_colours()
    for row, unit in enumerate(units):
        for column, weights in enumerate((model.dictionary[unit], model.encoder.weight[unit])):
            share = weights / weights.abs().max().clamp(min=1e-12)
            tiles[row, column] = colours((share / 2 + 0.5).numpy(), bytes=True)
        examples = to_float(images[strongest[row]])
        tiles[row, 2:, :, :3] = tint_explained(examples, model.dictionary[unit]).mul(255).round().byte().numpy()
    tiles[:, 2:][codes.numpy() <= model.active_above] = white  # the unit is active on fewer
    title = (
        f"{model.name}: units from the most to the least often active, and the test images on which the code of each "
        "is largest, with that code; red: ink that the unit draws, blue: paper that it clears"
    )
    pixels = mosaic(tiles.reshape(-1, PIXELS, 4), columns, gap, between=white)
    figure, axes = new_mosaic_figure(pixels, title, (2, 2), left=96, top=62)
    for column, heading in ((0, "draws"), (1, "looks for")):
        left, _ = corner(0, column, gap)
        axes.text(left + 14, -2, heading, size=9, color=INK, ha="center")
    numbers = []
    for row, unit in enumerate(units.tolist()):
        _, top = corner(row, 0, gap)
        axes.text(2, top + 10, f"unit {unit}", size=10, color=INK, ha="right", va="center")
        frequency = f"on {100 * report.frequency[unit]:.1f} %"
        axes.text(2, top + 19, frequency, size=9, color=QUIET, ha="right", va="center")
        for column, code in enumerate(codes[row].tolist(), start=2):
            if code > model.active_above:
                left, top = corner(row, column, gap)
                numbers.append((left + 14, top - 1.5, f"{code:#.3g}"))
    write_numbers(axes, numbers)
    return figure


def write_numbers(axes, numbers):
    """Write small numbers, each (x, y, text) centred there, as one set of shapes: as texts each would take a
    millisecond, and a view half a second more."""
    shapes = [TextPath((0, 0), text, size=7) for _, _, text in numbers]  # in points
    shapes = [Affine2D().translate(-shape.vertices[:, 0].max() / 2, 0).transform_path(shape) for shape in shapes]
    places = [(x, y) for x, y, _ in numbers]
    written = PathCollection(shapes, offsets=places, offset_transform=axes.transData, color=QUIET, lw=0)
    written.set_transform(Affine2D().scale(1 / 72) + axes.figure.dpi_scale_trans)
    axes.add_collection(written, autolim=False)


def tint_explained(images, picture):
    """Images [n, 784] in [0, 1] in grey, as colours [n, 784, 3], with what a unit that draws `picture` [784] explains
    of each: ink that it draws in red, and paper that it clears in blue."""
    grey, red, blue = (torch.tensor(matplotlib.colors.to_rgb(colour)) for colour in ("#9aa5b1", "#d00000", "#2166ac"))
    share = picture / picture.abs().max().clamp(min=1e-12)
    drawn, cleared = share.clamp(min=0).sqrt()[:, None], share.neg().clamp(min=0)[:, None]
    ink, paper = grey + drawn * (red - grey), 1 + 0.6 * cleared * (blue - 1)
    return paper + images[..., None] * (ink - paper)


@own_style()
def plot_comparison(title, key, points):
    """Test MSE and active units against a hyperparameter, from points (value, MSE, active units)."""
    values, errors, active = zip(*sorted(points), strict=True)
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.add_subplot()
    axes.plot(values, errors, color=ACCENT, marker="o", label="test MSE of the reconstruction")
    twin = axes.twinx()
    twin.plot(values, active, color=INK, marker="s", ls="--", label="active units (right axis)")
    axes.set(xlabel=key, ylabel="test MSE per pixel", ylim=(0, 1.1 * max(errors)))
    twin.set(ylabel="active units on an image", ylim=(0, 1.1 * max(active) + 1))
    positive = [value for value in values if value > 0]
    if positive and positive[-1] >= 10 * positive[0]:
        axes.set_xscale("symlog", linthresh=positive[0])  # which has a place for 0
    axes.set_xticks(values, map(str, values))
    axes.minorticks_off()
    axes.set_title("\n".join(wrap_title(title, 680, size=12)), parse_math=False)
    figure.legend(handles=[*axes.lines, *twin.lines], loc="outside lower center", ncols=2, frameon=False)
    return figure


@own_style()
def plot_parts(model, name, report, images):
    """What the images [n, 784] are made of: the units that contribute most, each as the ink it adds, and their sum."""
    reconstruction, code = model(images)
    strength = contributions(model, code, report.median_code)
    contributing = (strength > 0).sum(dim=1).max().item()  # units, on the image that has most of them
    n = min(PARTS, max(1, contributing))
    units = strength.topk(n).indices
    deviation = (code - report.median_code).gather(1, units)
    added = deviation[..., None] * model.dictionary[units]  # [images, n, 784]
    limit = added.abs().max().clamp(min=1e-12) / 2  # of the colours: few pixels are above it, and faint ones show
    added = torch.cat([added, added.sum(dim=1, keepdim=True)], dim=1) / limit
    grey = matplotlib.colormaps["gray_r"](torch.stack([images, reconstruction], dim=1).numpy(), bytes=True)
    tiles = np.concatenate([grey, ink_colours()(added.numpy() / 2 + 0.5, bytes=True)], axis=1)
    gap = 7
    title = f"{name}: image, reconstruction, its {n} main units ({INK_IN_WORDS}), their sum"
    pixels = mosaic(tiles.reshape(-1, PIXELS, 4), n + 3, gap, between=np.uint8(255))
    figure, axes = new_mosaic_figure(pixels, title, (2, 2))
    numbers = []
    for (row, column), number in np.ndenumerate(units.numpy()):
        left, top = corner(row, column + 2, gap)  # after the image and its reconstruction
        numbers.append((left + 14, top - 1, str(number)))
    write_numbers(axes, numbers)
    return figure


@own_style()
def show(paths):
    """Open a window for each PNG, when there is a display."""
    try:
        from matplotlib import pyplot  # only here: it picks a window system

        for path in paths:
            pixels = pyplot.imread(path)
            height, width = pixels.shape[:2]
            figure = pyplot.figure(figsize=(width / DPI, height / DPI), dpi=DPI)
            figure.figimage(pixels)
            has_window = figure.canvas.required_interactive_framework is not None
            require(has_window, f"there is no display for matplotlib's backend {pyplot.get_backend()}")
        pyplot.show()
    except Exception as error:  # backends are installed by the user, and raise what they like
        print_line(f"--show cannot open windows ({first_line(error)}): look at the files above.")


def figures_of(report):
    """What a comparison has of one report: a dict of (the figure, how it is printed)."""
    return {
        "test loss": (report.loss, ".5f"),
        "test MSE": (report.mse, ".5f"),
        **{f"MSE from {n}": (error, ".5f") for n, error in report.kept.items()},
        "active": (report.active, ".1f"),
        "dead": (report.dead, "d"),
        "idle": (report.idle, "d"),
    }


@torch.no_grad()
def write_comparison(compared, asked, images, folder, form="png"):
    """Compare models of one method that differ in a hyperparameter: print a table, write it as CSV, and draw what they
    make of images [n, 784]; from three models on also their errors and active units against the value.

    Args:
        compared: pairs of a model on the CPU and its Report.
        asked: the config with which one of them was asked for, in which precision may be auto.
        images: [n, 784] in [0, 1].
        folder: a path.
        form: of the pictures, "png", "pdf" or "svg".

    Returns:
        the paths of the pictures.
    """
    cls = type(compared[0][0])
    key = compared_key(cls)
    values = [model.config[key] for model, _ in compared]
    stem = f"{model_name(cls, asked | {key: values})}_comparison"
    others = [
        other if other == "plain" else f"{other} {asked[other]}"
        for other, declared in cls.hyperparameters.items()
        if other != key and asked[other] != declared.default_of(asked["plain"])
    ]
    name = cls.method + (f" ({', '.join(others)})" if others else "")

    rows = [{key: (model.config[key], "")} | figures_of(report) for model, report in compared]
    print_line("comparison")
    print_line("  " + "".join(f"{heading:>13}" for heading in rows[0]))
    for row in rows:
        print_line("  " + "".join(f"{figure:>13{form}}" for figure, form in row.values()))
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(rows[0])
    writer.writerows([figure for figure, _ in row.values()] for row in rows)
    write_file(folder / f"{stem}.csv", table.getvalue().encode(), "--output-dir")
    print_line(f"  {short_path(folder / f'{stem}.csv')}")
    drawn = [(f"{key} = {model.config[key]}, MSE {report.mse:.5f}", model(images)[0]) for model, report in compared]
    figure = plot_rows([("input", images), *drawn], f"{name}: test images and their reconstructions")
    pictures = [write_picture(figure, folder / f"{stem}.{form}")]
    if len(compared) >= 3:
        points = [(model.config[key], report.mse, report.active) for model, report in compared]
        figure = plot_comparison(f"{name}: error and active units against {key}", key, points)
        pictures.append(write_picture(figure, folder / f"{stem}_graph.{form}"))
    return pictures


def write_picture(figure, path):
    """Write a figure to a file, and say where; its path."""
    save_figure(figure, path)
    print_line(f"  {short_path(path)}")
    return path


@torch.no_grad()
def write_outputs(model, report, data, folder, own_digits=None, form="png"):
    """Write all pictures of a trained model to a folder, and print where they are.

    Args:
        model: an Autoencoder; it ends on the CPU.
        report: its Report, of the test images of `data`.
        data: Data of the model's data set, on the CPU.
        folder: a path.
        own_digits: images of one's own, [784] in [0, 1] each, by their names: a picture each.
        form: of the pictures, "png", "pdf" or "svg".

    Returns:
        the paths of the pictures.
    """
    require_trained(model)
    require_good_name(model.name)
    require_own_data(model, data, "its pictures would show the wrong ones")
    folder, model = full_path(folder), model.cpu()
    figures = draw_pictures(model, report, data)
    for name, digit in (own_digits or {}).items():
        figures[f"image_{name}"] = plot_parts(model, f"{model.name}, {name}", report, digit[None])
    pictures = [write_picture(figure, folder / f"{model.name}_{kind}.{form}") for kind, figure in figures.items()]
    return pictures


# 8. Command line ---------------------------------------------------------------------------------------
def main(cls):
    """What `python SCRIPT` does: `run`. What the user can mend becomes one line and an exit status."""
    mend_streams()
    status = 1
    try:
        with spare_imports(), flush_denormals(), heed_sigterm():
            run(cls)
        return
    except UserError as error:
        message = "\n".join(f"error: {line}" for line in str(error).splitlines())
    except OSError as error:
        message = f"error: {short_path(error.filename or 'a file')}: {error.strerror or error}"
    except KeyboardInterrupt:
        message, status = "interrupted: files that were complete stay as they were", 130
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        message = "error: there is not enough memory: try a smaller --hidden or --batch-size"
    for line in message.splitlines():
        print(f"{Path(sys.argv[0]).name}: {line}", file=sys.stderr)
    sys.exit(status)


def run(cls):
    """Load or train each model that the command line asks for, report on it, draw it, and compare them."""
    script = Path(sys.argv[0]).stem  # whose weights would a copy of a script load or replace?
    is_named = cls.method == script and script.startswith("sparse_")
    fault = f"method has to be the name of the file, and begin with sparse_: {script!r}, not {cls.method!r}"
    require(is_named, f"{fault} (in a notebook: %run {cls.method}.py)" if "ipykernel" in sys.modules else fault)
    options, asked = parse_arguments(cls)
    asked_config = dict(asked[0].config)  # of the first, in which precision is still auto
    device = pick_device(options.device)
    models = [load_or_keep(model, options) for model in asked]
    for _, path in models:  # before the work, not after it
        require_output_free(options.output_dir, path)
    require_writable(options.output_dir, "--output-dir")
    own_digits = read_own_digits(options.image)

    all_trained = all(model.history for model, _ in models)
    dataset = models[0][0].dataset
    data = load_data(dataset, options.data_dir, train_count=None if all_trained else "all")
    on_device = Data(*(part.to(device) if torch.is_tensor(part) else part for part in data))

    pictures, compared = [], []
    for model, path in models:
        if not model.history:
            train(model.to(device), on_device)
            save_checkpoint(model, path)
        report = evaluate(model.to(device), on_device.test_images)
        print_line(report_text(model, report, path))
        pictures += write_outputs(model, report, data, options.output_dir, own_digits, options.format)
        print_line(page_line(model, path))
        compared.append((model, report))

    if len(models) > 1:
        test_digits = first_images(data.test_images, data.test_labels)
        pictures += write_comparison(compared, asked_config, test_digits, options.output_dir, options.format)
    if options.show:
        show(pictures)


def page_line(model, path):
    """How to see a model on the page: its address, if it was put there after its weights at `path` were written, else
    the command that puts it there."""
    page = ROOT / "explore" / "index.html"
    there = page.with_name("models") / f"{model.name}.js"
    if there.is_file() and there.stat().st_mtime >= path.stat().st_mtime:
        return f"page          {page.as_uri()}#{quote(model.name)}"
    name = model.name if path == checkpoint_path(model.name) else short_path(path)
    return f"page          python {shlex.quote(short_path(page.with_name('write.py')))} {shlex.quote(name)}"


def parse_arguments(cls, arguments=None):
    """(options, models): all options, and an untrained model for each that is asked for. Anything wrong ends the
    process with status 2 and one line."""
    parser = option_parser(cls)
    options = parser.parse_args(arguments)
    given = {key: value for key, value in vars(options).items() if key in cls.hyperparameters}
    key = compared_key(cls)
    values = given.pop(key, [])
    if len(set(values)) < len(values):
        parser.error(f"the same value twice for {key}")
    if len(values) > 1 and options.checkpoint:
        parser.error(f"--checkpoint takes one model, not {len(values)}")
    if options.show and options.format != "png":
        parser.error(f"--show opens pictures of --format png, not {options.format}")
    try:
        models = [cls(**given, **{key: value}) for value in values] or [cls(**given)]
    except UserError as error:
        parser.error(str(error))
    weights = options.checkpoint
    is_elsewhere = weights and real_path(weights.parent) != real_path(ROOT / "checkpoints")
    # Two files in two folders may have one name.
    default = weights.with_name(f"{file_name(weights)}_outputs") if is_elsewhere else ROOT / "outputs"
    options.output_dir = options.output_dir or default
    options.given = given.keys() | ({key} if values else set())
    return options, models


class OptionParser(argparse.ArgumentParser):
    """argparse's, except that an error is one line."""

    def error(self, message):
        self.exit(2, f"{self.prog}: error: {message} (--help lists the options)\n")


class Once(argparse.Action):
    """Stores a value. A second one, which argparse would take in place of the first, is an error."""

    def __call__(self, parser, namespace, value, option_string=None):
        if getattr(namespace, self.dest, self.default) is not self.default:
            parser.error(f"{option_string} is given twice, and takes one value")
        setattr(namespace, self.dest, value)


def option_parser(cls):
    """The command line of a method's script. What is not given of its hyperparameters is not in the result."""
    form = argparse.RawDescriptionHelpFormatter
    description = sys.modules[cls.__module__].__doc__
    parser = OptionParser(description=description, formatter_class=form, allow_abbrev=False)
    parser.register("action", None, Once)  # of options that name no other
    parser._negative_number_matcher = re.compile(r"-\.?\d")  # Python 3.14's; before, -1e-4 is taken for an option
    parser.add_argument(
        "--train",
        action="store_true",
        help="train anew, and replace the weights of that name; a training cannot be continued, since its "
        "schedules end with it: ask for more --epochs",
    )

    model = parser.add_argument_group(
        "model and training", "These define the model, and name its weights: checkpoints/NAME.pt"
    )
    for key, declared in cls.hyperparameters.items():
        kind = type(declared.default)
        if kind is bool:
            settings, about = {"action": "store_true"}, ""
        else:
            metavar = {int: "N", float: "X", str: "NAME"}[kind]
            settings = {"type": kind, "metavar": metavar}
            if declared.is_compared:
                settings |= {"action": "extend", "nargs": "+"}
            several = "; with several values it trains a model for each" if declared.is_compared else ""
            plain = "" if declared.plain is None else f", plain: {declared.plain}"
            about = f"; {declared.allowed}{several} (default: {declared.default}{plain})"
        names = [option_of(key), *([declared.alias] if declared.alias else [])]
        help = (declared.help + about).replace("%", "%%")
        model.add_argument(*names, **settings, default=argparse.SUPPRESS, help=help)

    places = parser.add_argument_group("where and how")
    places.add_argument("--device", default="auto", help="auto, cpu, cuda or mps (default: %(default)s)")
    places.add_argument(
        "--data-dir",
        type=path_option,
        default=ROOT / "data",
        metavar="DIR",
        help="where the images lie, in NAME/raw (default: data)",
    )
    places.add_argument(
        "--checkpoint",
        type=path_option,
        metavar="FILE",
        help="weights elsewhere: look at them, or with --train write them",
    )
    places.add_argument(
        "--output-dir",
        type=path_option,
        metavar="DIR",
        help="for the pictures (default: outputs; of weights elsewhere NAME_outputs beside them)",
    )
    places.add_argument(
        "--format", choices=("png", "pdf", "svg"), default="png", help="of the pictures (default: %(default)s)"
    )
    places.add_argument(
        "--image",
        action="extend",
        type=path_option,
        nargs="+",
        default=[],
        metavar="FILE",
        help="photographs or drawings of a digit each: draw what the model makes of them",
    )
    places.add_argument("--show", action="store_true", help="open the pictures in windows too")
    return parser


def option_of(key):
    """A hyperparameter on the command line: --batch-size for batch_size."""
    return "--" + key.replace("_", "-")


def path_option(text):
    """`full_path` for argparse, which does not quote what another error says."""
    try:
        return full_path(text)
    except UserError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def load_or_keep(model, options):
    """(the model, the path of its weights): the loaded one where there are weights, else the untrained one that the
    options ask for. What would keep it from being trained and saved is found here, before the work."""
    cls, named_path = type(model), checkpoint_path(model.name)
    path = options.checkpoint or named_path
    model.name = file_name(path)
    require_good_name(model.name, advice="; name the weights yourself with --checkpoint FILE --train")
    if options.train or (not options.checkpoint and not named_path.is_file()):
        if not options.train:
            print_line(f"There are no weights at {short_path(path)}: training them.")
        require_replaceable(cls, path, even_if_damaged=path == named_path)
        require_writable(path.parent, "--checkpoint")
        return model, path
    loaded = load_checkpoint(path, cls)
    if options.checkpoint:
        wanted, advice = options.given, "leave that option out, name another file"
    else:
        wanted, advice = cls.hyperparameters, "remove it"  # the name says that what was not given is at its default
    for key in wanted:
        found, value = loaded.config[key], model.config[key]
        fault = f"{short_path(path)} was trained with {key} = {found}, not {value}"
        fits = found == value or (key == "precision" and value == "auto")
        require(fits, f"{fault}: {advice}, or add --train to replace the weights")
    return loaded, path


def require_replaceable(cls, path, even_if_damaged):
    """Raise UserError when there is something at `path` that --train must not replace: it replaces weights of the same
    method, and where the program gave the file its name also a damaged one."""
    require_no_folder(path)
    if not os.path.exists(path):
        return
    try:
        load_checkpoint(path, cls)
    except UserError as error:
        advice = "--train does not replace it: move it away first, or name another file with --checkpoint"
        require(even_if_damaged and isinstance(error, DamagedCheckpoint), f"{error}; {advice}")
        print_line(f"{error}: it stays until the new weights are complete.")


def require_output_free(folder, path):
    """Raise UserError when weights at `path` would be in the way of pictures in `folder`."""
    folder, path = real_path(folder), real_path(path)
    fault = f"--output-dir {short_path(folder)} is, or lies below, the file of the weights"
    require(path != folder and path not in folder.parents, f"{fault}: name another folder")


def read_own_digits(paths):
    """A dict from each file's name to its digit [784]; UserError with all that is wrong with any of them."""
    digits, faults = {}, []
    for path in paths:
        try:
            require_good_name(path.stem)
            require(
                path.stem not in digits,
                f"two images are called {path.stem}, and so would be their pictures: rename one",
            )
            digits[path.stem] = read_digit(path)
        except UserError as error:
            faults.append(str(error))
    require(not faults, "\n".join(faults))
    return digits


def pick_device(name):
    """--device as a torch.device; auto is the fastest that can be used. UserError when another one cannot be used."""
    if name != "auto":
        try:
            return usable_device(name)
        except (RuntimeError, AssertionError) as error:  # AssertionError: a torch that was built without CUDA
            advice = "take auto, cpu, cuda or mps"
            raise UserError(f"--device {name} cannot be used here ({first_line(error)}): {advice}") from error
    for name, available in (("cuda", torch.cuda.is_available()), ("mps", torch.backends.mps.is_available())):
        if available:
            try:
                return usable_device(name)
            except (RuntimeError, AssertionError) as error:
                print_line(f"{name} is there and cannot be used ({first_line(error)}): going on with the CPU.")
    return torch.device("cpu")


def usable_device(name):
    """A torch.device that has computed something; RuntimeError or AssertionError when it cannot."""
    device = torch.device(name)
    if device.type not in ("cpu", "cuda", "mps"):
        raise RuntimeError("it is not supported")
    return (torch.ones(1, device=device) + 1).device


def mend_streams():
    """See to it that printing does not end a run."""
    sys.stdout = sys.stdout or open(os.devnull, "w")  # a process may be started without streams
    sys.stderr = sys.stderr or open(os.devnull, "w")
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError):  # a notebook's streams have no reconfigure
            stream.reconfigure(errors="replace")  # a terminal that has no ρ shows ? and goes on


@contextlib.contextmanager
def spare_imports():
    """Let Python's garbage collector leave alone what was imported, and at the end of the process all there is: to look
    through it takes a fifth of a view."""
    atexit.register(gc.freeze)
    is_ours = not gc.get_freeze_count()  # and not the caller's
    if is_ours:
        gc.freeze()
    try:
        yield
    finally:
        if is_ours:
            gc.unfreeze()


@contextlib.contextmanager
def heed_sigterm():
    """Let SIGTERM, with which a queue ends its jobs, do what Ctrl-C does, unless somebody has decided otherwise."""
    is_free = threading.current_thread() is threading.main_thread()  # others may not
    is_free = is_free and signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    if is_free:
        signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        if is_free:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)


@contextlib.contextmanager
def flush_denormals():
    """Take numbers below 1e-38 for 0. Where no image lights a pixel, Adam's averages become as small as that, and an
    epoch of k-sparse takes a quarter longer; its weights are the same. A thread takes the setting from its parent: so
    before torch has any. Afterwards it is as it was in this thread."""
    for kind in (np.float32, np.float64):
        np.finfo(kind)  # numpy looks for the smallest number once, and would warn after the next line
    were_flushed = (torch.tensor(1e-39) / 2).item() == 0
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(were_flushed)


def is_out_of_memory(error):
    """Whether an error says that there is too little memory; on the CPU and on MPS torch has only words for it."""
    words = ("you tried to allocate", "backend out of memory")
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or any(part in str(error) for part in words)
