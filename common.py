"""What the three sparse autoencoders share, in the order of its use:

1. data          MNIST, and minibatches of it
2. model         one linear layer each way; a script adds activation, loss and start
3. training      the loop
4. evaluation    what a model is worth, and how few of its units carry the picture
5. checkpoints   weights in a file that nobody has to trust
6. pictures      losses, reconstructions, dictionary, codes, parts
7. page          the weights as explore/index.html wants them
8. command line  the options are the model, and name its files
9. foundations   the errors, files and printed lines of all of the above

Shapes are written [batch, 784] and [batch, hidden]. Images are float32 in [0, 1], 0 being the background.
"""

import sys

# pip installs torch for 3.9 too, and there a training would be lost at its end.
if sys.version_info < (3, 10):  # noqa: UP036
    sys.exit(f"error: Python 3.10 or later is needed, and this is {sys.version.split()[0]}")

import argparse
import base64
import contextlib
import csv
import dataclasses
import errno
import gzip
import io
import json
import math
import os
import tempfile
import textwrap
import warnings
import zipfile
import zlib
from dataclasses import dataclass
from numbers import Integral
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from torch.optim.lr_scheduler import LambdaLR
from tqdm import tqdm

ROOT = Path(__file__).resolve().parent
PIXELS = 28 * 28


# 1. Data -------------------------------------------------------------------------------------------------
TEST_IMAGES = "t10k-images-idx3-ubyte.gz"


class Data(NamedTuple):
    """Images and their labels, which may lack some of the ten digits, or be None."""

    train_images: torch.Tensor  # [60000, 784] uint8, 0 is the background
    train_labels: torch.Tensor | None  # [60000] int64, the digit
    test_images: torch.Tensor  # [10000, 784] uint8
    test_labels: torch.Tensor | None  # [10000] int64


def load_mnist(data_dir=ROOT / "data", train_count=60_000):
    """MNIST as Data, from the archives in `data_dir`/MNIST/raw (`data_dir` is what torchvision calls the root).

    Args:
        data_dir: a folder. An archive that is missing there is downloaded; one that is there is never written.
        train_count: how many of the training images to read, from the first on; None: until there is one of each
            label. To look at a trained model takes no more, and torchvision's MNIST would read all 60,000 and unpack
            them into the folder.

    Raises:
        UserError: an archive is damaged or another one, or cannot be downloaded or written; or `train_count` is not
            from 0 to 60000.
    """
    good = train_count is None or is_whole(train_count, 0, 60_000)
    require(good, f"train_count has to be a whole number from 0 to 60000, not {train_count}")
    root = full_path(data_dir)
    is_too_deep = (root / TEST_IMAGES).exists() or (root / "raw" / TEST_IMAGES).exists()
    require(not is_too_deep, f"{short_path(root)} lies too deep: name the folder that MNIST/raw lies in")
    raw = root / "MNIST" / "raw"
    train_labels = load_labels(raw / "train-labels-idx1-ubyte.gz", 60_000)
    if train_count is None:
        train_count = max(first_of_each(train_labels)) + 1
    return Data(
        train_images=load_archive(raw / "train-images-idx3-ubyte.gz", (60_000, 28, 28), train_count).view(-1, PIXELS),
        train_labels=train_labels[:train_count],
        test_images=load_archive(raw / TEST_IMAGES, (10_000, 28, 28), 10_000).view(-1, PIXELS),
        test_labels=load_labels(raw / "t10k-labels-idx1-ubyte.gz", 10_000),
    )


def load_labels(path, count):
    """The labels [count] int64 of an archive of so many."""
    labels = load_archive(path, (count,), count).long()
    largest = labels.max().item()
    require(largest <= 9, f"{short_path(path)} has labels up to {largest}, and digits go up to 9: {advice_on(path)}")
    return labels


def load_archive(path, shape, count):
    """The first `count` entries of an archive, a tensor of uint8; the archive is downloaded if it is missing."""
    if not os.path.lexists(path):
        print_line(f"Downloading MNIST: {path.name} is missing in {short_path(path.parent)}")
        write_file(path, download(path), "--data-dir")
    try:
        return read_archive(path, shape, count)
    except (gzip.BadGzipFile, EOFError, ValueError, zlib.error) as error:
        fault = f"{short_path(path)} is damaged, or not MNIST's ({first_line(error)})"
        raise UserError(f"{fault}: move it away to have it downloaded, or {advice_on(path)}") from error


def advice_on(path):
    """What to do when the archive of MNIST at `path` is not as it should be."""
    if ROOT / "data" in real_path(path).parents:
        return "restore it with `git checkout data`"
    return "name another folder with --data-dir"


def read_archive(path, shape, count):
    """The first `count` entries of an archive of bytes of this shape, a tensor [count, *shape[1:]] of uint8. Raises
    OSError, EOFError, ValueError or zlib.error when the file is not there or not such an archive."""
    with gzip.open(path) as file:
        header = file.read(4 + 4 * len(shape))
        if header[:4] != bytes([0, 0, 8, len(shape)]):
            raise ValueError("its header is another one")
        found = np.frombuffer(header[4:], dtype=">i4").tolist()
        if found != list(shape):
            raise ValueError(f"it says that its shape is {found}, not {list(shape)}")
        content = bytearray(file.read(count * math.prod(shape[1:])))
        if len(content) < count * math.prod(shape[1:]):
            raise ValueError("it is too short")
        if count == shape[0] and file.read(1):  # at the end of the file, reading on makes gzip verify its checksum
            raise ValueError("it is too long")
    return torch.from_numpy(np.frombuffer(content, dtype=np.uint8).reshape(count, *shape[1:]))


def download(path):
    """The content of the archive of MNIST that is to lie at `path`, verified; UserError with the reason when it cannot
    be had."""
    try:
        from torchvision.datasets import MNIST  # only here: importing it takes as long as torch
        from torchvision.datasets.utils import download_url

        for mirror in MNIST.mirrors:
            with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
                try:
                    download_url(mirror + path.name, folder, path.name, dict(MNIST.resources)[path.name])
                    return Path(folder, path.name).read_bytes()
                except Exception as error:  # whatever it is, the next mirror may do
                    reason = error
    except (ImportError, RuntimeError) as error:  # of a torchvision that does not fit to torch
        reason = error
    fault = f"{path.name} is missing in {short_path(path.parent)} and cannot be downloaded ({first_line(reason)})"
    raise UserError(f"{fault}: {advice_on(path)}")


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
    return [(labels == digit).nonzero()[0].item() for digit in labels.unique().tolist()]


def first_images(images, labels):
    """The first image of each digit that there is, or without labels (None) the first ten: [up to 10, 784] in [0, 1],
    of images [n, 784] uint8."""
    return to_float(images[:10] if labels is None else images[first_of_each(labels)])


def read_digit(path):
    """A photograph or a drawing of one digit as MNIST would have it: the digit in 20 x 20 pixels, its centre of mass in
    the middle of 28 x 28, bright on dark. It may be in grey or colours, on a transparent ground, dark on bright, of any
    size; specks, and what stays at the edge, are left out. What has 28 x 28 pixels and is bright on dark stays so.

    Returns:
        [784] float32 in [0, 1].

    Raises:
        UserError: the file cannot be read as an image, or nothing is drawn in it.
    """
    from PIL import Image  # only here: a view does not need it

    brightness = read_brightness(full_path(path))
    background = np.median(np.concatenate([brightness[0], brightness[-1], brightness[:, 0], brightness[:, -1]]))
    if (np.abs(brightness - background) < 1 / 8).mean() < 1 / 4:  # the edge is a frame: take what is most common
        counts, edges = np.histogram(brightness, bins=16, range=(0, 1))
        most_common = edges[counts.argmax()] + 1 / 32
        background = np.median(brightness[np.abs(brightness - most_common) < 1 / 8])
    if brightness.shape == (28, 28) and background == 0 and brightness.max() > 0.5:
        return torch.from_numpy(brightness.ravel())
    contrast = np.abs(brightness - background).astype(np.float32)
    overview = Image.fromarray(contrast)
    overview.thumbnail((128, 128), Image.Resampling.BOX)
    overview = np.asarray(overview)
    require(overview.max() > 0.1, f"nothing is drawn in {short_path(path)}, or too faintly")
    parts = main_parts(overview > 0.2 * overview.max())  # below are paper, and the noise of a camera
    ink = contrast * np.asarray(
        Image.fromarray(parts.astype(np.uint8)).resize(contrast.shape[::-1], Image.Resampling.NEAREST)
    )
    ink[ink < 0.2 * ink.max()] = 0
    ink /= ink.max()
    rows, columns = np.nonzero(ink.max(axis=1) > 0.5)[0], np.nonzero(ink.max(axis=0) > 0.5)[0]
    box = Image.fromarray(ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1])
    scale = 20 / max(box.size)
    width, height = (max(1, round(scale * side)) for side in box.size)
    digit = np.asarray(box.resize((width, height), Image.Resampling.BILINEAR))
    digit = digit / digit.max()  # a thin stroke has become grey

    def place(ink_along, size):
        """Where the digit begins, so that its centre of mass is at 14, MNIST's middle, and all of it inside."""
        centre = (ink_along * np.arange(size)).sum() / ink_along.sum()
        return min(max(1, round(14 - centre)), 27 - size)

    left, top = place(digit.sum(axis=0), width), place(digit.sum(axis=1), height)
    image = np.zeros((28, 28), np.float32)
    image[top : top + height, left : left + width] = digit
    return torch.from_numpy(image.ravel())


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


def read_brightness(path):
    """The brightness [height, width] float32 in [0, 1] of an image file. What is transparent becomes white under dark
    colours, and black under bright ones."""
    from PIL import Image, ImageOps

    is_readable = os.path.isfile(path) or not os.path.exists(path)  # reading a pipe would wait for ever
    require(is_readable, f"{short_path(path)} is not a file: name an image")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            file = Image.open(io.BytesIO(path.read_bytes()))
            picture = ImageOps.exif_transpose(file)
            if picture.mode[0] in "IF":  # 16 bits and more, which convert would cut off
                values = np.asarray(picture, np.float32)
                require(np.isfinite(values).all(), "it has NaN or infinity in it")
                low, high = min(0, values.min()), max(1e-12, values.max())
                return ((values - low) / (high - low)).astype(np.float32)
            colours = picture.convert("RGBA")
    except Exception as error:  # Pillow raises many kinds on files that are damaged, huge or none
        raise UserError(f"{short_path(path)} cannot be read as an image ({first_line(error)})") from error
    opacity = np.asarray(colours.getchannel("A"), np.float32) / 255
    grey = np.asarray(colours.convert("RGB").convert("L"), np.float32) / 255
    visible = (grey * opacity).sum() / max(1e-12, opacity.sum())
    ground = 1.0 if visible < 0.5 else 0.0
    return grey * opacity + ground * (1 - opacity)


# 2. Model ------------------------------------------------------------------------------------------------
class Autoencoder(nn.Module):
    """One linear layer to the code and one back:

        hidden         = encoder(x - mean)           [batch, hidden]
        code           = activation(hidden)          [batch, hidden]
        output         = decoder(code)               [batch, 784]
        reconstruction = squash(output)              [batch, 784], in [0, 1]

    Here `mean` is the mean image of the training set. Row j of `encoder.weight` is what unit j looks for, row j of
    `dictionary` what it draws.

    The loss is `reconstruction_loss` + `penalty`. A script's subclass says what makes its method different:

        initialise()                         sets the weights that training starts from; `mean_image` is there already
        activation(hidden)                   the code
        penalty(hidden, code)                a scalar
        squash(output)                       the reconstruction; if not said otherwise the sigmoid
        reconstruction_loss(output, images)  a scalar, a mean over images and pixels; if not said otherwise the
                                             cross-entropy (BCE)
        schedule(progress)                   hyperparameters that change in training: a dict of their values when this
                                             part of it lies behind, in [0, 1]
        after_step(progress)                 constraints, after each step and once before the first

    (`initialise` and `after_step` run without gradients).
    """

    name = None  # of the method, its script and its files: "sparse_l1"
    hyperparameters = ("hidden",)  # what __init__ takes, in the order in which a file's name has them
    compared = None  # the hyperparameter of which the command line takes several values, a model each
    loss_name = "BCE"  # what the reconstruction loss is
    active_above = 0.0  # a unit is active on an image when its code is above this
    encoder_speed = 1.0  # the learning rate of the encoder's weights is this many times that of the rest
    beta2 = 0.99  # of Adam: how slowly its mean of squared gradients changes
    tie_at_scale_one = False  # True: the soft tie pulls w_j to d_j; False: to the nearest multiple of it

    def __init__(self, hidden):
        super().__init__()
        require(is_whole(hidden, 1, 32_768), f"hidden has to be a whole number from 1 to 32768, not {hidden}")
        self.encoder = nn.Linear(PIXELS, hidden)
        self.decoder = nn.Linear(hidden, PIXELS)
        self.register_buffer("mean_image", torch.zeros(PIXELS))

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


# 3. Training ---------------------------------------------------------------------------------------------
COOL_DOWN = 0.2  # the last fifth of training, in which the learning rate falls to 0 and the weights come to rest


@dataclass
class Training:
    """How a model is trained. Raises UserError when a value is out of its range."""

    epochs: int  # passes over the training images, at least 1
    batch_size: int  # images per step, 1 to 60000
    lr: float  # learning rate, above 0; it falls to 0 over the last fifth of the training
    weight_decay: float  # of the dictionary, fades the pixels that a unit does not need, at least 0
    tie: float  # pull of each unit's encoder row and its picture towards each other, at least 0
    seed: int = 0  # of the weights' start and the order of the images, at least 0
    precision: str = "float32"  # of matrix products in training and in the graph's test loss: float32 or bfloat16

    def __post_init__(self):
        require(is_whole(self.epochs, 1, math.inf), f"epochs has to be a whole number of at least 1, not {self.epochs}")
        fault = f"batch_size has to be a whole number from 1 to 60000, not {self.batch_size}"
        require(is_whole(self.batch_size, 1, 60_000), fault)
        require(0 < self.lr < math.inf, f"lr has to be above 0, not {self.lr}")
        require(0 <= self.weight_decay < math.inf, f"weight_decay has to be at least 0, not {self.weight_decay}")
        require(0 <= self.tie < math.inf, f"tie has to be at least 0, not {self.tie}")
        require(is_whole(self.seed, 0, 2**63 - 1), f"seed has to be a whole number of at least 0, not {self.seed}")
        known = self.precision in ("float32", "bfloat16")
        require(known, f"precision has to be float32 or bfloat16, not {self.precision}")
        # numpy's whole numbers overflow, and torch does not take them.
        self.epochs, self.batch_size, self.seed = int(self.epochs), int(self.batch_size), int(self.seed)


TRAINING_OPTIONS = tuple(field.name for field in dataclasses.fields(Training))


class History(NamedTuple):
    """One number per epoch. Losses are means over all images of the set, not over batches."""

    train_loss: list  # reconstruction loss + penalty, averaged while the weights moved
    train_reconstruction: list  # the reconstruction loss alone
    test_loss: list  # reconstruction loss on all test images, at the end of the epoch


def train(model, data, training, label="training"):
    """Train a model in place with Adam, from weights that are set anew. The same arguments on the same machine give
    bit-identical weights.

    Args:
        model: an Autoencoder in float32, none of its weights frozen; it ends in evaluation mode.
        data: Data, on the device that the model is on.
        training: Training.
        label: what the progress is called.

    Returns:
        History.

    Raises:
        UserError: the model or the images cannot be trained on, and are left as they were; or a loss became NaN,
            infinite or absurd.
    """
    trainable = all(parameter.requires_grad for parameter in model.parameters())
    require(trainable, "train sets all weights anew, and some of this model's are frozen: see requires_grad_()")
    ordinary = not any(parameter.is_inference() for parameter in model.parameters())
    require(ordinary, "this model was made in torch.inference_mode, where nothing can be trained: make it outside")
    require(model.mean_image.dtype == torch.float32, f"train wants a float32 model, not {model.mean_image.dtype}")
    for images in (data.train_images, data.test_images):
        good = images.dtype == torch.uint8 and images.shape[1:] == (PIXELS,) and len(images) > 0
        require(good, f"train wants bytes, torch.uint8 [n, 784], not {images.dtype} {list(images.shape)}")

    with torch.inference_mode(False), torch.enable_grad():  # whatever the caller's mode is
        return train_from_start(model, data, training, label)


def train_from_start(model, data, training, label):
    """What `train` does when nothing is wrong with its arguments."""
    order = torch.Generator().manual_seed(training.seed)
    set_start(model, data.train_images, training.seed)
    optimizer = make_optimizer(model, training)
    total_steps = training.epochs * math.ceil(len(data.train_images) / training.batch_size)
    schedule = LambdaLR(optimizer, lambda step: min(1, (1 - step / total_steps) / COOL_DOWN))

    model.eval()
    untrained_loss = mean_loss(model, data.test_images, training.precision)
    history = History([], [], [])
    with tqdm(total=training.epochs, desc=label, unit="epoch", disable=None) as bar:  # None: in a terminal only
        for _ in range(training.epochs):
            minibatches = batches(data.train_images, training.batch_size, order)
            model.train()
            loss, reconstruction_loss = train_epoch(model, minibatches, optimizer, schedule, total_steps, training)
            model.eval()
            test_loss = mean_loss(model, data.test_images, training.precision)
            history.train_loss.append(loss)
            history.train_reconstruction.append(reconstruction_loss)
            history.test_loss.append(test_loss)
            require_not_diverged(history, untrained_loss, training)
            show_progress(bar, label, history, training)
    return history


def require_not_diverged(history, untrained_loss, training):
    """Raise UserError when a loss of the last epoch is lost: NaN, infinite, or far worse than before the training (BCE
    on logits stays finite for long). The loss with penalty may be large."""
    loss, reconstruction_loss, test_loss = (losses[-1] for losses in history)
    finite = math.isfinite(loss) and math.isfinite(reconstruction_loss) and math.isfinite(test_loss)
    sound = finite and max(reconstruction_loss, test_loss) <= 100 * untrained_loss
    where = f"in epoch {len(history.train_loss)} of {training.epochs}: train {loss:.4g}, test loss {test_loss:.4g}"
    advice = f"no weights were written; try a smaller --lr than {training.lr:g}"
    require(sound, f"training diverged {where}; {advice}")


def show_progress(bar, label, history, training):
    """Move tqdm's bar by an epoch; where there is no terminal for it, print twenty lines during a training."""
    epoch = len(history.train_loss)
    losses = f"train loss {history.train_loss[-1]:.5f}, test loss {history.test_loss[-1]:.5f}"
    bar.set_postfix_str(losses, refresh=False)
    bar.update()
    is_twentieth = epoch % math.ceil(training.epochs / 20) == 0
    if bar.disable and (is_twentieth or epoch == training.epochs):
        print_line(f"{label}: epoch {epoch}/{training.epochs}, {losses}")


@torch.no_grad()
def set_start(model, images, seed):
    """Set the weights and the mean image that training on images [n, 784] uint8 begins with. The random numbers are
    those of `seed`, and the caller's go on afterwards as if none had been drawn."""
    model.mean_image.copy_(sum(batch.sum(dim=0) for batch in batches(images, 2_000)) / len(images))
    kind = images.device.type
    devices = [] if kind == "cpu" else range(torch.get_device_module(kind).device_count())
    with torch.random.fork_rng(devices, device_type="cuda" if kind == "cpu" else kind):
        torch.manual_seed(seed)
        model.initialise()
    model.after_step(0.0)


def make_optimizer(model, training):
    """Adam, in which the encoder's weights have a learning rate of their own and the decoder's a weight decay."""
    groups = [
        {"params": [model.encoder.weight], "lr": training.lr * model.encoder_speed},
        {"params": [model.decoder.weight], "weight_decay": training.weight_decay},
        {"params": [model.encoder.bias, model.decoder.bias]},
    ]
    fused = model.mean_image.device.type in ("cpu", "cuda")
    return torch.optim.Adam(groups, training.lr, betas=(0.9, model.beta2), fused=fused)


def train_epoch(model, minibatches, optimizer, schedule, total_steps, training):
    """One pass over minibatches [batch, 784], in a training that takes `total_steps` of them. Returns (loss with
    penalty, reconstruction loss), both means over all images while the weights moved."""
    count = 0
    loss_sum = torch.zeros((), device=model.mean_image.device)  # read once per epoch, not once per batch
    reconstruction_sum = torch.zeros_like(loss_sum)
    for batch in minibatches:
        reconstruction_loss, penalty = losses_of(model, batch, training.precision)
        loss = reconstruction_loss + penalty
        optimizer.zero_grad()
        loss.backward()
        add_tie_gradient(model, training.tie)
        optimizer.step()
        schedule.step()
        with torch.no_grad():
            model.after_step(schedule.last_epoch / total_steps)  # torch's name for the steps that were taken
        count += len(batch)  # the last batch may be short
        loss_sum += loss.detach() * len(batch)
        reconstruction_sum += reconstruction_loss.detach() * len(batch)
    return (loss_sum / count).item(), (reconstruction_sum / count).item()


@torch.no_grad()
def add_tie_gradient(model, tie):
    """The soft tie: add to the gradients those of tie · Σ_j ‖w_j - α_j d_j‖², so that a unit looks for what it draws.

    Here w_j is the encoder's row of unit j, d_j its picture, and α_j is 1 if the model has `tie_at_scale_one`, else the
    factor at which α_j d_j comes closest to w_j. A small change of that best α_j does not change the sum, so the
    gradients may take it for a constant. It is a decay of the weights towards each other instead of towards zero and,
    like Adam's decay, no part of the loss that is reported. Its gradients are written out because autograd takes three
    times as long: a quarter of a training step of k-sparse.
    """
    encoder, decoder, pictures = model.encoder.weight, model.decoder.weight, model.dictionary
    if model.tie_at_scale_one:
        scale = torch.ones(1, 1, device=encoder.device)
    else:
        scale = (encoder * pictures).sum(dim=1, keepdim=True) / pictures.square().sum(dim=1, keepdim=True).clamp(1e-12)
    difference = torch.addcmul(encoder, scale, pictures, value=-1)  # w_j - α_j d_j
    encoder.grad.add_(difference, alpha=2 * tie)
    decoder.grad.addcmul_(scale.T, difference.T, value=-2 * tie)


def losses_of(model, images, precision):
    """(reconstruction loss, penalty) on images [batch, 784], with matrix products in `precision`."""
    with torch.autocast(images.device.type, torch.bfloat16, enabled=precision == "bfloat16"):
        hidden = model.encoder(images - model.mean_image)
        code = model.activation(hidden)
        output = model.decoder(code)
    return model.reconstruction_loss(output.float(), images), model.penalty(hidden.float(), code.float())


@torch.no_grad()
def mean_loss(model, images, precision="float32"):
    """Mean reconstruction loss, without the penalty, over images [n, 784] uint8, of a model in evaluation mode."""
    sums = [losses_of(model, batch, precision)[0] * len(batch) for batch in batches(images, 2_000)]
    return sum(sums).item() / len(images)


# 4. Evaluation -------------------------------------------------------------------------------------------
KEPT = (25, 50)  # numbers of units for which the report says what they alone draw
STRONGEST, MIDDLING, BINS = 12, 6, 20  # of `Examples`


class Examples(NamedTuple):
    """The images on which each unit is active; image -1 and code 0 fill up where there are fewer. The range of a unit's
    code goes from where it is active to its largest."""

    strongest: torch.Tensor  # [hidden, 12] int64, the images on which the unit's code is largest, the largest first
    strongest_code: torch.Tensor  # [hidden, 12] that code
    middling: torch.Tensor  # [hidden, 6] int64, not among the strongest, with a code nearest to the middle of its range
    middling_code: torch.Tensor  # [hidden, 6] that code
    histogram: torch.Tensor  # [hidden, 20] int64, images in equal bins of its range


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
    median_code: torch.Tensor  # [hidden], over images: what each unit does on most of them
    frequency: torch.Tensor  # [hidden], part of the images on which a unit is active
    digits: torch.Tensor | None  # [10, hidden], each digit's share of a unit's mean code; None without labels
    missing_digits: list  # those of which there is no image, and so no share
    examples: Examples  # of the test images


@torch.no_grad()
def evaluate(model, images, labels):
    """Report on a model, which ends in evaluation mode, for test images [n, 784] uint8 and their labels [n], 0 to 9, on
    its device; without labels (None) there are no shares of digits in it. Raises UserError when there are no images."""
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
        for n in KEPT:
            drawn = model.decode(keep_strongest(model, batch_code, median_code, n))
            kept[n] += weight * F.mse_loss(drawn, batch).item()

    frequency = (code > model.active_above).float().mean(dim=0)
    energy = model.dictionary.square()  # of each pixel of each unit's picture
    total_energy = energy.sum(dim=1)
    strongest_energy = energy.topk(PIXELS // 20).values.sum(dim=1)
    amplitude = (code.var(dim=0, correction=0) * total_energy).sqrt()
    digits, missing_digits = None, []
    if labels is not None:
        digits, missing_digits = shares_of_digits(code, labels)
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
        median_code=median_code.cpu(),
        frequency=frequency.cpu(),
        digits=digits,
        missing_digits=missing_digits,
        examples=find_examples(code, model.active_above),
    )


def shares_of_digits(code, labels):
    """(each digit's share [10, hidden] of a unit's mean code, the digits of which there is no image), for the code
    [n, hidden] of images with labels [n]. The share of a digit without images is 0."""
    one_hot = F.one_hot(labels, 10).float()
    images_per_digit = one_hot.sum(dim=0)
    mean_per_digit = one_hot.T @ code / images_per_digit.clamp(min=1)[:, None]
    shares = mean_per_digit / mean_per_digit.sum(dim=0).clamp(min=1e-12)
    return shares.cpu(), (images_per_digit == 0).nonzero()[:, 0].tolist()


def find_examples(code, active_above):
    """Examples, on the CPU, for the code [n, hidden] of n images."""
    missing = STRONGEST - len(code)
    if missing > 0:  # rows on which no unit is active
        code = F.pad(code, (0, 0, 0, missing), value=active_above)
    found = [examples_of(part.contiguous(), active_above) for part in code.T.split(250)]  # to need less memory
    return Examples(*(torch.cat(tensors).cpu() for tensors in zip(*found, strict=True)))


def examples_of(code, active_above):
    """Examples of some units, for their code [units, n] on twelve images or more."""
    largest, strongest = code.topk(STRONGEST)
    is_active = largest > active_above
    width = (largest[:, :1] - active_above).clamp(min=1e-12) / BINS
    from_middle = (code - active_above - width * BINS / 2).abs()
    from_middle[code <= active_above] = math.inf
    from_middle.scatter_(1, strongest, math.inf)
    nearest, middling = from_middle.topk(MIDDLING, largest=False)
    is_other = nearest < math.inf
    bins = ((code - active_above) / width).long().clamp(0, BINS - 1)
    histogram = torch.zeros(len(code), BINS, dtype=torch.int64, device=code.device)
    return Examples(
        strongest=strongest.where(is_active, -1),
        strongest_code=largest.where(is_active, 0),
        middling=middling.where(is_other, -1),
        middling_code=code.gather(1, middling).where(is_other, 0),
        histogram=histogram.scatter_add_(1, bins, (code > active_above).long()),
    )


@torch.no_grad()
def encode_all(model, images):
    """The code [n, hidden] of images [n, 784] uint8."""
    return torch.cat([model.encode(batch) for batch in batches(images, 2_000)])


def contributions(model, code, median_code):
    """How much each unit adds to each picture: |code - median_code| · ‖d‖, [batch, hidden], for the units' median codes
    [hidden]."""
    return (code - median_code).abs() * model.dictionary.norm(dim=1)


def keep_strongest(model, code, median_code, n):
    """The code [batch, hidden] with all but the n units of largest contribution on each image at their median code
    [hidden]. It needs no threshold, so it compares all methods: how much of the picture do n units carry?"""
    strength = contributions(model, code, median_code)
    units = strength.topk(min(n, code.shape[1]), sorted=False).indices
    return median_code.expand_as(code).scatter(1, units, code.gather(1, units))


def pixel_entropy(images):
    """The floor of the binary cross-entropy, in nats per pixel: what a perfect reconstruction of images [n, 784] uint8
    still costs. It is 0 only for black and white."""
    x = to_float(images)
    return F.binary_cross_entropy(x, x).item()


# 5. Checkpoints ------------------------------------------------------------------------------------------
MAX_CHECKPOINT_BYTES = 256 * 2**20


class Info(NamedTuple):
    """What is known of a model besides its weights."""

    name: str  # of its file: "sparse_l1", "sparse_ksparse_k25", ...
    config: dict  # every hyperparameter that its training depended on
    history: History | None  # None before it is trained


def build(cls, config):
    """The untrained model of a subclass of Autoencoder with the hyperparameters that stand in `config`; UserError when
    one is out of its range."""
    return cls(**{key: config[key] for key in cls.hyperparameters})


def training_of(config):
    """The Training that stands in `config`; UserError when a value is out of its range."""
    return Training(**{key: config[key] for key in TRAINING_OPTIONS})


def save_checkpoint(path, model, info):
    """Write the weights of a model, its hyperparameters and history to `path`, as `write_file` does."""
    # A numpy number would be refused when the file is read.
    config = {key: value.item() if isinstance(value, np.generic) else value for key, value in info.config.items()}
    content = {
        "method": model.name,
        "config": config,
        "history": info.history._asdict(),
        "weights": {name: tensor.cpu() for name, tensor in model.state_dict().items()},
    }
    buffer = io.BytesIO()
    torch.save(content, buffer)
    write_file(path, buffer.getbuffer(), "--checkpoint")


def load_checkpoint(path, *classes):
    """Read a checkpoint of one of these subclasses of Autoencoder, without trusting the file.

    Returns:
        (model, Info); the model on the CPU, in evaluation mode, its parameters without gradients.

    Raises:
        DamagedCheckpoint: the file is no checkpoint of this version, or claims more than it holds.
        UserError: it is missing, a plain state_dict, or of another method.
    """
    path = Path(path)
    require_no_folder(path)
    exists = os.path.isfile(path)  # and not path.is_file(), which raises when a name is too long
    require(exists, f"there are no weights at {short_path(path)}: check the name, or make them with --train")
    with damage_reported(path):
        content = read_untrusted(path)
        require(isinstance(content, dict) and content, "there are no weights in it")

    what = "a plain state_dict, weights without their hyperparameters"
    advice = "give it to load_state_dict of a model that you build"
    is_state_dict = all(isinstance(value, torch.Tensor) for value in content.values())
    require(not is_state_dict, f"{short_path(path)} is {what}: {advice}")
    is_ours = content.keys() >= {"method", "config", "history", "weights"}
    require(
        is_ours, f"{short_path(path)} was written by another program: it holds {', '.join(map(repr, content))[:100]}"
    )

    with damage_reported(path):
        method, config, weights = content["method"], content["config"], content["weights"]
        history = History(**content["history"])
        require(isinstance(method, str) and isinstance(weights, dict), "there are no weights in it")
        require("decoder_bias" not in weights, "it is of an earlier version of this program")

    cls = next((cls for cls in classes if cls.name == method), None)
    wanted = " or ".join(cls.name for cls in classes)
    require(cls, f"{short_path(path)} holds weights of {method!r:.40}, not of {wanted}")

    with damage_reported(path):
        require(
            set(config) == {*cls.hyperparameters, *TRAINING_OPTIONS}, f"its hyperparameters are not those of {method}"
        )
        training = training_of(config)
        model = build(cls, config)
        model.load_state_dict(weights)
        require(all(len(losses) == training.epochs for losses in history), "its history is not of its epochs")
        numbers = [*map(torch.tensor, history), *model.state_dict().values()]
        require(all(values.isfinite().all() for values in numbers), "its numbers are not all finite")
    return model.eval().requires_grad_(False), Info(file_name(path), config, history)


def require_no_folder(path):
    """Raise UserError when what should be a file of weights is a folder."""
    require(not os.path.isdir(path), f"{short_path(path)} is a folder: name a file of weights")


@contextlib.contextmanager
def damage_reported(path):
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


def read_untrusted(path):
    """The content of a checkpoint. Nothing in it is executed, nothing unpacked that is larger than the file (torch
    would unpack a bomb), and its checksums are verified (torch does not look)."""
    size = path.stat().st_size
    require(size <= MAX_CHECKPOINT_BYTES, f"it is {size:,} bytes long")
    file = io.BytesIO(path.read_bytes())
    with zipfile.ZipFile(file) as archive:
        stored = all(entry.compress_type == zipfile.ZIP_STORED for entry in archive.infolist())
        unpacked = sum(entry.file_size for entry in archive.infolist())
        require(stored and unpacked <= size, "it claims to hold more than it does")
        require(archive.testzip() is None, "its contents do not match their checksums")
    file.seek(0)
    return torch.load(file, map_location="cpu", weights_only=True)


def load_pretrained(name):
    """A model ready to use from Python: `load_checkpoint` of "sparse_l1", "sparse_kl", "sparse_ksparse_k25", ..., a
    name in `checkpoints/` with or without its .pt, or the path of a file elsewhere."""
    import sparse_kl  # only here, since they import this module
    import sparse_ksparse
    import sparse_l1

    path, elsewhere = checkpoint_path(str(name).removesuffix(".pt")), full_path(name)
    if os.path.dirname(name) or (not os.path.isfile(path) and os.path.isfile(elsewhere)):
        path = elsewhere
    return load_checkpoint(path, sparse_l1.SparseL1, sparse_kl.SparseKL, sparse_ksparse.KSparse)


def checkpoint_path(name):
    """Where the weights of a model of this name lie."""
    return ROOT / "checkpoints" / f"{name}.pt"


def file_name(path):
    """The name that the file of a model's weights gives to its pictures and its page."""
    return path.name.removesuffix(".pt")


# 6. Pictures ---------------------------------------------------------------------------------------------
# A notebook exports MPLBACKEND to other environments, and matplotlib cannot be imported where that backend is not
# installed. Only --show needs a backend.
backend = None
if "matplotlib" not in sys.modules:
    backend = os.environ.pop("MPLBACKEND", None)
import matplotlib  # noqa: E402
from matplotlib.figure import Figure  # noqa: E402

if backend is not None:
    os.environ["MPLBACKEND"] = backend
    with contextlib.suppress(ValueError):
        matplotlib.rcParams["backend"] = backend

INK, ACCENT, QUIET = "#1f2933", "#c2410c", "#7b8794"
DPI = 100  # screen pixels per inch
PARTS = 12  # units shown for each digit
ROWS = 24  # units in the picture of examples


@contextlib.contextmanager
def own_style():
    """Everything is drawn under matplotlib's own defaults, whatever a matplotlibrc or a style of the user's says."""
    with matplotlib.rc_context(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph")  # of letters in a name that the font does not have
        matplotlib.rcdefaults()
        yield


@own_style()
def draw_pictures(model, info, report, data):
    """All pictures of a model on the CPU: a dict from kind to figure. The report is that of data's test images."""
    train_digits = first_images(data.train_images, data.train_labels)
    test_digits = first_images(data.test_images, data.test_labels)
    train_rows = [("input", train_digits), ("output", model(train_digits)[0])]
    test_rows = [("input", test_digits), ("output", model(test_digits)[0])]
    figures = {
        "loss": plot_loss(model, info, report),
        "features": plot_features(model, info, report),
        "units": plot_units(model, info, report, data.test_images),
        "parts": plot_parts(model, info.name, report, test_digits),
        "test": plot_rows(test_rows, f"{info.name}: test images"),
        "train": plot_rows(train_rows, f"{info.name}: training images"),
    }
    if report.digits is not None:
        figures["codes"] = plot_codes(info, report)
    return figures


@own_style()
def save_figure(figure, path):
    """Write a PNG, the same bytes for the same picture, as `write_file` does."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=DPI, facecolor="white", metadata={"Software": None})
    write_file(path, buffer.getbuffer(), "--output-dir")


def mosaic(images, columns, gap=1, zoom=1, between=np.nan):
    """Images, [n, 784] or with colours [n, 784, 4], row by row in one array: each pixel `zoom` screen pixels wide, and
    `gap` screen pixels of the value `between` around each image. (torchvision's make_grid does not zoom.)"""
    colours = images.shape[2:]
    rows, pitch = math.ceil(len(images) / columns), 28 * zoom + gap
    tiled = np.full((rows * pitch + gap, columns * pitch + gap, *colours), between, "float32")
    pixels = np.asarray(images).reshape(-1, 28, 28, *colours).repeat(zoom, axis=1).repeat(zoom, axis=2)
    for index, image in enumerate(pixels):
        left, top = corner(index, columns, gap, zoom)
        tiled[top : top + 28 * zoom, left : left + 28 * zoom] = image
    return tiled


def corner(index, columns, gap=1, zoom=1):
    """(left, top) of an image in a mosaic, in screen pixels."""
    row, column = divmod(index, columns)
    pitch = 28 * zoom + gap
    return gap + column * pitch, gap + row * pitch


def framed(pixels, title, left=12, bottom=12, right=12, top=44, **colours):
    """(figure, axes) that show an array pixel for pixel below a title, with this many screen pixels around it. The
    axes' unit is one element of the array."""
    lines = broken(title, pixels.shape[1] + right, size=11)
    top += 18 * (len(lines) - 1)
    height, width = pixels.shape[0] + top + bottom, pixels.shape[1] + left + right
    figure = Figure(figsize=(inches(width), inches(height)))
    axes = figure.add_axes((left / width, bottom / height, pixels.shape[1] / width, pixels.shape[0] / height))
    # Not imshow, which older versions of matplotlib move by half a pixel.
    figure.figimage(pixels, left, bottom, origin="upper", **colours)
    axes.set(xlim=(-0.5, pixels.shape[1] - 0.5), ylim=(pixels.shape[0] - 0.5, -0.5), zorder=1)  # above the image
    axes.axis("off")
    # Names may have a $ in them, which is no formula.
    figure.text(left / width, 1 - 16 / height, "\n".join(lines), size=11, color=INK, va="top", parse_math=False)
    return figure, axes


def inches(pixels):
    """The inches of so many pixels. 1.15 * 100 is a little less than 115, and older versions of matplotlib make 114
    pixels of that: then the next larger number."""
    size = pixels / DPI
    return size if size * DPI >= pixels else math.nextafter(size, math.inf)


def broken(title, width, size):
    """The lines of a title in letters of this size, none of them wider than `width` screen pixels."""
    figure = Figure(dpi=DPI)

    def is_too_wide(line):
        return figure.text(0, 0, line, size=size, parse_math=False).get_window_extent().width > width

    lines, most = [title], len(title)
    while most > 1 and any(is_too_wide(line) for line in lines):
        most -= 1
        lines = textwrap.wrap(title, most, break_on_hyphens=False)
    return lines


def plot_loss(model, info, report):
    """Loss against epochs: train with and without the penalty, test, and the floor; what the report says of the loss
    and the MSE after the last; and, with an axis of their own, the hyperparameters that changed in training."""
    history, epochs = info.history, range(1, info.config["epochs"] + 1)
    marker = "o" if len(epochs) == 1 else None  # a line of one point is invisible
    figure = Figure(figsize=(8, 5.4), layout="constrained")
    axes = figure.add_subplot()
    axes.plot(epochs, history.train_loss, color=QUIET, marker=marker, label="train loss, with penalty (while learning)")
    label = "train loss without penalty (while learning)"
    axes.plot(epochs, history.train_reconstruction, color=INK, marker=marker, label=label)
    label = f"test loss: {report.loss:.5f} in the end"
    axes.plot(epochs, history.test_loss, color=ACCENT, marker=marker, label=label)
    label = f"test MSE, of the reconstruction in [0, 1]: {report.mse:.5f} in the end"
    if model.loss_name == "BCE":
        axes.axhline(report.floor, color=INK, lw=1, ls=":", label=f"floor {report.floor:.5f}: the pixels' entropy")
        axes.plot([], [], " ", label=label)  # on another scale
    else:
        axes.plot(len(epochs), report.mse, color=ACCENT, marker="x", ls="", clip_on=False, label=label)
    plot_schedule(axes, model, len(epochs))
    axes.set_title("\n".join(broken(f"{info.name}: losses", 680, size=12)), parse_math=False)
    axes.set(xlabel="epoch", ylabel=f"{model.loss_name} per pixel")
    axes.set_xlim(1, max(2, len(epochs)))
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(handles=[*axes.lines], loc="outside lower left", frameon=False)
    return figure


def plot_schedule(axes, model, epochs):
    """Add to a graph of losses each hyperparameter that changed in training, on an axis at the right, and say in the
    legend what it did. (The test losses are those of the model with its last value.)"""
    progress = np.linspace(0, 1, 20 * epochs + 1)
    schedules = [model.schedule(part) for part in progress.tolist()]
    for key in schedules[0]:
        values = np.array([schedule[key] for schedule in schedules])
        if (values == values[0]).all():
            continue
        arrival = epochs * progress[np.flatnonzero(values != values[-1])[-1] + 1]
        twin = axes.twinx()
        twin.plot(epochs * progress, values, color=QUIET, lw=1, ls="--")
        twin.set(ylim=(0, 1.05 * values.max()), ylabel=f"{key} in training")
        twin.spines["top"].set_visible(False)
        first, last = values[0], values[-1]
        label = f"{key} in training (right axis): {first:g} at first, {last:g} from epoch {arrival:.3g} on, as in tests"
        axes.plot([], [], color=QUIET, lw=1, ls="--", label=label)


@own_style()
def plot_rows(rows, title):
    """A list of rows: pairs of a name and images [n, 784] in [0, 1]."""
    gap, zoom = 4, 2
    longest = max(len(name) for name, _ in rows)
    tiled = mosaic(torch.cat([images for _, images in rows]), len(rows[0][1]), gap, zoom, between=0)
    figure, axes = framed(tiled, title, left=max(102, 24 + 8 * longest), cmap="gray_r", vmin=0, vmax=1)
    for row, (name, _) in enumerate(rows):
        axes.text(-10, (row + 0.5) * (28 * zoom + gap), name, size=10, color=INK, ha="right", va="center")
    return figure


def plot_features(model, info, report):
    """The pictures that the units draw: the rows of the dictionary, the most often active unit first."""
    order = report.frequency.argsort(descending=True, stable=True)
    features = model.dictionary[order]
    columns = 32 if len(features) <= 512 else 40
    # The scale ends where 0.2 % of the pixels are beyond it. torch.quantile refuses more than 16 million: a fifth of
    # the pixels will do.
    limit = torch.quantile(features.abs().flatten()[::5], 0.998).clamp(min=1e-12).item()
    colours = matplotlib.colormaps["RdBu_r"].with_extremes(bad="#d9dde2")
    title = f"{info.name}: what each unit draws, most often active first (red adds ink, blue takes it away)"
    figure, axes = framed(mosaic(features, columns), title, cmap=colours, vmin=-limit, vmax=limit)
    for index, frequency in enumerate(report.frequency[order].tolist()):
        if frequency == 0:  # dead: crossed out
            left, top = corner(index, columns)
            axes.plot([left, left + 27], [top, top + 27], color="black", lw=1)
            axes.plot([left, left + 27], [top + 27, top], color="black", lw=1)
    return figure


def plot_units(model, info, report, images):
    """What units stand for: a row each for two dozen units, from the most to the least often active, with what it draws
    and looks for, and of the images [n, 784] uint8 those on which its code is largest."""
    order = report.frequency.argsort(descending=True, stable=True)
    units = order[torch.linspace(0, len(order) - 1, min(ROWS, len(order))).round().long()]
    strongest, codes = report.examples.strongest[units], report.examples.strongest_code[units]
    columns, gap, zoom = 2 + STRONGEST, 16, 2
    tiles = np.ones((len(units), columns, PIXELS, 4), np.float32)
    red_and_blue = matplotlib.colormaps["RdBu_r"]
    for row, unit in enumerate(units):
        for column, weights in enumerate((model.dictionary[unit], model.encoder.weight[unit])):
            tiles[row, column] = red_and_blue((weights / weights.abs().max().clamp(min=1e-12) / 2 + 0.5).numpy())
        examples = to_float(images[strongest[row].clamp(min=0)])
        tiles[row, 2:, :, :3] = marked(examples, model.dictionary[unit]).numpy()
    tiles[:, 2:][strongest.numpy() < 0] = 1  # there is no such image
    title = (
        f"{info.name}: units from the most to the least often active, and the test images on which the code of each is "
        "largest, with that code; red: ink that the unit draws, blue: paper that it clears"
    )
    pixels = mosaic(tiles.reshape(-1, PIXELS, 4), columns, gap, zoom, between=1)
    figure, axes = framed(pixels, title, left=96, top=62)
    for column, heading in ((0, "draws"), (1, "looks for")):
        left, _ = corner(column, columns, gap, zoom)
        axes.text(left + 14 * zoom, -4, heading, size=9, color=INK, ha="center")
    for row, unit in enumerate(units.tolist()):
        _, top = corner(row * columns, columns, gap, zoom)
        axes.text(4, top + 10 * zoom, f"unit {unit}", size=10, color=INK, ha="right", va="center")
        frequency = f"on {100 * report.frequency[unit]:.1f} %"
        axes.text(4, top + 19 * zoom, frequency, size=9, color=QUIET, ha="right", va="center")
        for column, code in enumerate(codes[row].tolist(), start=2):
            if code > model.active_above:
                left, top = corner(row * columns + column, columns, gap, zoom)
                axes.text(left + 14 * zoom, top - 3, f"{code:#.3g}", size=7, color=QUIET, ha="center")
    return figure


def marked(images, picture):
    """Images [n, 784] in [0, 1] in grey, as colours [n, 784, 3], with what a unit that draws `picture` [784] explains
    of each: ink that it draws in red, and paper that it clears in blue."""
    grey, red, blue = (torch.tensor(matplotlib.colors.to_rgb(colour)) for colour in ("#9aa5b1", "#d00000", "#2166ac"))
    share = picture / picture.abs().max().clamp(min=1e-12)
    drawn, cleared = share.clamp(min=0).sqrt()[:, None], share.neg().clamp(min=0)[:, None]
    ink, paper = grey + drawn * (red - grey), 1 + 0.6 * cleared * (blue - 1)
    return paper + images[..., None] * (ink - paper)


def plot_codes(info, report):
    """On which digits a unit is active: one row a digit, one column a unit, units grouped by the digit they prefer."""
    digits = [digit for digit in range(10) if digit not in report.missing_digits]
    shares = report.digits[digits].numpy()
    peak = shares.max(axis=0)
    preferred = np.where(peak > 0, shares.argmax(axis=0), len(digits))  # the dead come last
    order = np.lexsort((-peak, preferred))  # by the digit they prefer, then by how much
    zoom = max(1, round(960 / len(order)))
    pixels = shares[:, order].repeat(zoom, axis=1).repeat(24, axis=0)
    title = f"{info.name}: on which digits each unit is active"
    if report.missing_digits:
        title += f" (there are no test images of {', '.join(map(str, report.missing_digits))})"
    figure, axes = framed(pixels, title, left=42, bottom=38, right=90, cmap="magma_r", vmin=0, vmax=peak.max())
    for row, digit in enumerate(digits):
        axes.text(-8, row * 24 + 12, digit, size=10, color=INK, ha="right", va="center")
    for edge in np.flatnonzero(np.diff(preferred[order])):
        axes.axvline((edge + 1) * zoom - 0.5, color=QUIET, lw=0.6)
    note = f"{len(order)} units, grouped by the digit they prefer, the most selective of each group first"
    axes.text(0, pixels.shape[0] + 8, note, size=9, color=QUIET, va="top")
    bar = figure.colorbar(figure.images[0], cax=axes.inset_axes((1.015, 0, 0.012, 1)))
    bar.set_label("share of the unit's mean code", size=9, color=INK)
    return figure


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
    if values[0] > 0 and values[-1] >= 10 * values[0]:
        axes.set_xscale("log")
    axes.set_xticks(values, [f"{value:g}" for value in values])
    axes.minorticks_off()
    axes.set_title("\n".join(broken(title, 680, size=12)), parse_math=False)
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
    grey = matplotlib.colormaps["gray_r"](torch.stack([images, reconstruction], dim=1).numpy())
    tiles = np.concatenate([grey, matplotlib.colormaps["RdBu_r"](added.numpy() / 2 + 0.5)], axis=1)
    gap, zoom = 14, 2
    title = f"{name}: digit, reconstruction, what its {n} main units add (red) or take away (blue), their sum"
    figure, axes = framed(mosaic(tiles.reshape(-1, PIXELS, 4), n + 3, gap, zoom, between=1), title)
    for (row, column), number in np.ndenumerate(units.numpy()):
        left, top = corner(row * (n + 3) + 2 + column, n + 3, gap, zoom)
        axes.text(left + 14 * zoom, top - 2, number, size=7, color=QUIET, ha="center")
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


# 7. Page -------------------------------------------------------------------------------------------------
def write_explorer(model, info, report, images, folder, dataset):
    """Write `folder`/models/NAME.js, what the page needs to run a model on the CPU and to show its units, and say where
    one sees it: the model's functions by name, its weights, two bytes each, and what its report says of each unit. When
    the page does not have these functions, a line says so, and there is no such file.

    Args:
        model: an Autoencoder on the CPU, in evaluation mode and without gradients.
        info, report: its Info and Report.
        images: [1 to 10, 784] test images in [0, 1], for the page's buttons.
        folder: the page's.
        dataset: the name of the data set that the report is about.
    """
    path = folder / "models" / f"{info.name}.js"
    functions = functions_of_page(model, images)
    lacking = [role for role in ("activation", "squash") if functions[role] is None]
    if lacking:
        path.unlink(missing_ok=True)  # it would show what the model was before
        reason = f"which has no function like its {' and '.join(lacking)}"
        print_line(f"  {short_path(folder)}: {info.name} is not in the page, {reason}; its pictures are complete")
        return
    digits = [digit for digit in range(10) if digit not in report.missing_digits]
    encoder_scale, encoder = two_bytes_each(model.encoder.weight)
    dictionary_scale, dictionary = two_bytes_each(model.dictionary)
    examples = report.examples
    content = {
        "name": info.name,
        "dataset": dataset,
        "hidden": len(model.dictionary),
        **functions,
        "active_above": model.active_above,
        "encoder": packed(encoder, "<i2"),
        "encoder_scale": packed(encoder_scale, "<f4"),
        "dictionary": packed(dictionary, "<i2"),
        "dictionary_scale": packed(dictionary_scale, "<f4"),
        # For x itself, not x - mean.
        "bias": packed(model.encoder.bias - model.encoder.weight @ model.mean_image, "<f4"),
        "decoder_bias": packed(model.decoder.bias, "<f4"),
        "median_code": packed(report.median_code, "<f4"),
        "digits": None if report.digits is None else packed((255 * report.digits).round(), "u1"),
        "missing_digits": report.missing_digits,
        "frequency": packed(report.frequency, "<f4"),
        "strongest": packed(examples.strongest, "<i2"),
        "strongest_code": packed(examples.strongest_code, "<f4"),
        "middling": packed(examples.middling, "<i2"),
        "middling_code": packed(examples.middling_code, "<f4"),
        "histogram": packed(examples.histogram, "<u2"),
        "images": packed((255 * images).round(), "u1"),
        "image_digits": list(range(len(images))) if report.digits is None else digits,
    }
    write_script(path, content)
    print_line(f"  {short_path(folder / 'index.html')}#{quote(info.name)}")


def functions_of_page(model, images):
    """What the page calls the functions of a model in evaluation mode, found by comparing what they make of images
    [n, 784]: a dict of "activation", "k" and "squash". A function is None when the page does not have it, k when it is
    not top_k."""
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
    return {"activation": activation, "k": k if activation == "top_k" else None, "squash": squash}


def name_of(function, named, values):
    """Which of the functions `named`, a dict, makes the same of values [n, m] as `function`; None when none does."""
    # These images may have no output that is to be cut off, and too few units above 0 for k to matter.
    values = torch.cat([values, -values, 10 * values.abs()])
    result = function(values)
    return next((name for name, other in named.items() if torch.allclose(other(values), result, atol=1e-6)), None)


def write_page(folder, dataset, archive):
    """Write to `folder` what the models in it share: the page, the list of the models' names, and the test images of a
    data set, from the path of their gzipped archive, in MNIST's format."""
    write_script(folder / f"images_{dataset}.js", base64.b64encode(archive.read_bytes()).decode())
    write_script(folder / "models.js", sorted(path.stem for path in (folder / "models").glob("*.js")))
    page = ROOT / "outputs" / "shipped" / "explore" / "index.html"
    if real_path(folder) != page.parent:
        write_file(folder / page.name, page.read_bytes(), "--output-dir")


def write_script(path, content):
    """Write a file that hands `content` to the page. (A page that was opened from disk may read no other files.)"""
    write_file(path, f"explore({json.dumps(content)});\n".encode(), "--output-dir")


def two_bytes_each(matrix):
    """(scale [n, 1], whole numbers [n, m] from -32767 to 32767) whose product is nearly `matrix` [n, m]."""
    scale = matrix.abs().amax(dim=1, keepdim=True).clamp(min=1e-30) / 32_767
    return scale, (matrix / scale).round()


def packed(values, kind):
    """A tensor as text: base64 of its numbers in one of numpy's types, "<f4" for four-byte floats."""
    return base64.b64encode(np.ascontiguousarray(values, dtype=kind)).decode()


# 8. Command line -----------------------------------------------------------------------------------------
class OptionParser(argparse.ArgumentParser):
    """argparse's, except that an error is one line."""

    def error(self, message):
        self.exit(2, f"{self.prog}: error: {message} (--help lists the options)\n")


def option_parser(description, hidden, epochs, batch_size, lr, weight_decay, tie):
    """The options that all scripts share, with a script's defaults for them. The script adds its method's own."""
    form = argparse.RawDescriptionHelpFormatter
    parser = OptionParser(description=description, formatter_class=form, allow_abbrev=False)
    parser.add_argument("--train", action="store_true", help="train anew, and replace the weights of that name")

    model = parser.add_argument_group(
        "model and training",
        "These and the method's own options above define the model, and name its weights: checkpoints/NAME.pt",
    )
    model.add_argument(
        "--hidden", type=int, default=hidden, help="number of units in the code, 1 to 32768 (default: %(default)s)"
    )
    model.add_argument(
        "--epochs", type=int, default=epochs, help="passes over the training images, at least 1 (default: %(default)s)"
    )
    model.add_argument(
        "--batch-size", type=int, default=batch_size, help="images per step, 1 to 60000 (default: %(default)s)"
    )
    model.add_argument(
        "--lr",
        type=float,
        default=lr,
        help="learning rate, above 0; it falls to 0 over the last fifth of the training (default: %(default)s)",
    )
    model.add_argument(
        "--weight-decay",
        type=float,
        default=weight_decay,
        help="of the dictionary, fades the pixels that a unit does not need, at least 0 (default: %(default)s)",
    )
    model.add_argument(
        "--tie",
        type=float,
        default=tie,
        help="pull of each unit's encoder row and its picture towards each other, at least 0 (default: %(default)s)",
    )
    model.add_argument(
        "--seed",
        type=int,
        default=0,
        help="of the weights' start and the order of the images, at least 0 (default: %(default)s)",
    )
    model.add_argument(
        "--precision", choices=("float32", "bfloat16"), help="of matrix products (default: what is fast here)"
    )

    places = parser.add_argument_group("where and how")
    places.add_argument("--device", default="auto", help="auto, cpu, cuda or mps (default: %(default)s)")
    places.add_argument(
        "--data-dir", type=path_option, default=ROOT / "data", metavar="DIR", help="where MNIST lies (default: data)"
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
        default=ROOT / "outputs",
        metavar="DIR",
        help="for the pictures (default: outputs)",
    )
    places.add_argument(
        "--image",
        type=path_option,
        nargs="+",
        default=[],
        metavar="FILE",
        help="photographs or drawings of a digit each: draw what the model makes of them",
    )
    places.add_argument("--show", action="store_true", help="open the pictures in windows too")
    return parser


def path_option(text):
    """`full_path` for argparse, which does not quote what another error says."""
    try:
        return full_path(text)
    except UserError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def main(cls, parser):
    """What `python SCRIPT` does: `run`. What the user can mend becomes one line and an exit status."""
    mend_streams()
    status = 1
    try:
        with denormals_flushed():
            run(cls, parser)
        return
    except UserError as error:
        message = f"error: {error}"
    except OSError as error:
        message = f"error: {short_path(error.filename or 'a file')}: {error.strerror or error}"
    except KeyboardInterrupt:
        message, status = "interrupted: files that were complete stay as they were", 130
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        message = "error: there is not enough memory: try a smaller --hidden or --batch-size"
    parser.exit(status, f"{parser.prog}: {' '.join(message.split())}\n")


def mend_streams():
    """See to it that printing does not end a run."""
    sys.stdout = sys.stdout or open(os.devnull, "w")  # a process may be started without streams
    sys.stderr = sys.stderr or open(os.devnull, "w")
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError):  # a notebook's streams have no reconfigure
            stream.reconfigure(errors="replace")  # a terminal that has no ρ shows ? and goes on


@contextlib.contextmanager
def denormals_flushed():
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


def run(cls, parser):
    """Load or train each model that the command line asks for, report on it, draw it, and compare them."""
    options, requests = parse_arguments(cls, parser)
    device = pick_device(options.device)
    models = [find_or_prepare(cls, parser, given, options, device) for given in requests]
    page = options.output_dir / "explore"
    for _, _, path in models:  # before the work, not after it
        require_output_free(options.output_dir, page, path)
    for folder in (options.output_dir, page, page / "models"):
        require_writable(folder, "--output-dir")
    own_digits = read_own_digits(parser, options.image)

    all_trained = all(info.history for _, info, _ in models)
    data = load_mnist(options.data_dir, train_count=None if all_trained else 60_000)
    test_digits = first_images(data.test_images, data.test_labels)
    on_device = Data(*(part if part is None else part.to(device) for part in data))

    pictures, compared = [], []
    for model, info, path in models:
        if not info.history:
            model = build(cls, info.config).to(device)
            info = info._replace(history=train(model, on_device, training_of(info.config), label=info.name))
            model.requires_grad_(False)
            save_checkpoint(path, model, info)
        report = evaluate(model.to(device), on_device.test_images, on_device.test_labels)
        print_line(report_text(model, info, report, path))
        model.cpu()
        for kind, figure in draw_pictures(model, info, report, data).items():
            pictures.append(write_picture(figure, options.output_dir / f"{info.name}_{kind}.png"))
        for name, digit in own_digits.items():
            figure = plot_parts(model, f"{info.name}, {name}", report, digit[None])
            pictures.append(write_picture(figure, options.output_dir / f"{info.name}_image_{name}.png"))
        write_explorer(model, info, report, test_digits, page, "MNIST")
        compared.append((info.config[cls.compared], report, model(test_digits)[0]))

    write_page(page, "MNIST", options.data_dir / "MNIST" / "raw" / TEST_IMAGES)
    if len(models) > 1:
        defaults = default_config(cls, parser)
        given = {**requests[0], cls.compared: [value for value, *_ in compared]}
        stem = options.output_dir / f"{model_name(cls, defaults, given)}_comparison"
        name = cls.name + others_named(cls, defaults, given)
        pictures += write_comparison(stem, name, cls.compared, test_digits, compared)
    if options.show:
        show(pictures)


def others_named(cls, defaults, given):
    """The hyperparameters that are not at their defaults, but for the compared one, for a title: " (hidden 64, epochs
    1)", or nothing."""
    others = [f"{key} {value}" for key, value in given.items() if key != cls.compared and value != defaults[key]]
    return f" ({', '.join(others)})" if others else ""


FIGURES = ("test loss", "test MSE", "MSE from 25", "MSE from 50", "active", "dead", "idle")  # of a comparison


def figures_of(report):
    """What FIGURES names, of one report."""
    return report.loss, report.mse, report.kept[25], report.kept[50], report.active, report.dead, report.idle


def write_comparison(stem, name, key, images, compared):
    """Compare models that differ in the hyperparameter `key`: print a table, write it to `stem`.csv, and draw what they
    make of images [n, 784]; from three values on also their errors and active units against the value.

    Args:
        name: what they have in common.
        compared: for each model (value, Report, reconstruction [n, 784] of the images).

    Returns:
        the paths of the pictures.
    """
    rows = [(value, *figures_of(report)) for value, report, _ in compared]
    print_line("comparison")
    for cells in [(key, *FIGURES), *((f"{value:g}", *map(rounded, figures)) for value, *figures in rows)]:
        print_line("  " + "".join(f"{cell:>12}" for cell in cells))
    table = io.StringIO()
    csv.writer(table, lineterminator="\n").writerows([(key, *FIGURES), *rows])
    path = stem.with_name(f"{stem.name}.csv")
    write_file(path, table.getvalue().encode(), "--output-dir")
    print_line(f"  {short_path(path)}")
    drawn = [(f"{key} = {value:g}, MSE {report.mse:.5f}", images) for value, report, images in compared]
    figure = plot_rows([("input", images), *drawn], f"{name}: test images and their reconstructions")
    pictures = [write_picture(figure, stem.with_name(f"{stem.name}.png"))]
    if len(compared) >= 3:
        points = [(value, report.mse, report.active) for value, report, _ in compared]
        figure = plot_comparison(f"{name}: error and active units against {key}", key, points)
        pictures.append(write_picture(figure, stem.with_name(f"{stem.name}_graph.png")))
    return pictures


def rounded(figure):
    """A figure of the report as it is printed: errors with five decimals, means of units with one, counts as they
    are."""
    if isinstance(figure, int):
        return str(figure)
    return f"{figure:.5f}" if figure < 1 else f"{figure:.1f}"


def read_own_digits(parser, paths):
    """A dict from each file's name to its digit [784]. Bad files end the process, with a line each."""
    digits, faults = {}, []
    for path in paths:
        try:
            require_good_name(path.stem)
            require(path.stem not in digits, f"two images are called {path.stem}, and so would be their pictures")
            digits[path.stem] = read_digit(path)
        except UserError as error:
            faults.append(f"{parser.prog}: error: {error}\n")
    if faults:
        parser.exit(1, "".join(faults))
    return digits


def write_picture(figure, path):
    """Write a figure as a PNG, and say where; its path."""
    save_figure(figure, path)
    print_line(f"  {short_path(path)}")
    return path


def parse_arguments(cls, parser, arguments=None):
    """(options, requests): all options, and for each model that is asked for a dict of the hyperparameters that were
    given. Anything wrong ends the process with status 2 and one line."""
    defaults = default_config(cls, parser)
    # argparse fills in a default only where nothing stands yet, so what was not given stays None.
    options = parser.parse_args(arguments, argparse.Namespace(**dict.fromkeys(defaults)))
    given = {key: getattr(options, key) for key in defaults if getattr(options, key) is not None}
    values = given.get(cls.compared, [])
    requests = [{**given, cls.compared: value} for value in values] or [given]
    if len(set(values)) < len(values):
        parser.error(f"the same value twice for {cls.compared}")
    if len(values) > 1 and options.checkpoint:
        parser.error(f"--checkpoint takes one model, not {len(values)}")
    try:
        for request in requests:  # the ranges
            build(cls, {**defaults, **request})
            training_of({**defaults, "precision": "float32", **request})
    except UserError as error:
        parser.error(str(error))
    return options, requests


def default_config(cls, parser):
    """The hyperparameters of a command without options, as a dict; precision, which is the machine's, is None."""
    return {key: parser.get_default(key) for key in (*cls.hyperparameters, *TRAINING_OPTIONS)}


def model_name(cls, defaults, given):
    """The name of a model's files, from the hyperparameters that were given: the method, and every one that differs
    from its default; k even at its default, since it is what one asks for. A list of values names a comparison."""
    parts = [cls.name]
    for key, default in defaults.items():
        value = given.get(key, default)
        if value != default or key == "k":
            values = value if isinstance(value, list) else [value]
            numbers = [str(value).removesuffix(".0") for value in values]
            if len(numbers) > 6:
                numbers = [numbers[0], "to", numbers[-1], f"{len(numbers)}-values"]
            parts.append(key.replace("_", "-") + "_".join(numbers))
    return "_".join(parts)


def require_good_name(name, advice=""):
    """Raise UserError unless a model can be called so by all that read its name: files, titles of pictures, the page
    and its address. `advice` says how to get a shorter one."""
    good = name.isprintable() and name[:1] not in ("", ".") and "\\" not in name
    fault = f"{name!r} cannot be the name of pictures and a page"
    require(good, f"{fault}: take printable characters without \\, and no dot at the start")
    length = len(name.encode())  # a file's name has up to 255 bytes, and NAME_image_FILE.png has two of ours
    require(length <= 120, f"{fault}: it is {length} bytes long, and 120 is the most{advice}")


def find_or_prepare(cls, parser, given, options, device):
    """(model, Info, path of its weights) for the hyperparameters that were given. The model is None and the Info has no
    history when it is yet to be trained; what can be found wrong with that is found here, before the work."""
    defaults = default_config(cls, parser)
    named_path = checkpoint_path(model_name(cls, defaults, given))
    path = options.checkpoint or named_path
    require_good_name(file_name(path), advice="; name the weights yourself with --checkpoint FILE --train")
    if options.checkpoint and not options.train:
        model, info = load_matching(cls, path, given, "leave that option out, name another file")
    elif named_path.is_file() and not options.train:
        expected = {**defaults, **given}  # the name says that what was not given is at its default
        if expected["precision"] is None:
            del expected["precision"]
        model, info = load_matching(cls, named_path, expected, "remove it")
    else:
        if not options.train:
            print_line(f"There are no weights at {short_path(path)}: training them.")
        require_replaceable(cls, path, even_if_damaged=path == named_path)
        require_writable(path.parent, "--checkpoint")
        config = {**defaults, "precision": fastest_precision(device), **given}
        model, info = None, Info(file_name(path), config, history=None)
    return model, info, path


def load_matching(cls, path, wanted, advice):
    """(model, Info) of a checkpoint; UserError with this advice when it was trained with other hyperparameters than
    the `wanted` ones."""
    model, info = load_checkpoint(path, cls)
    for key, value in wanted.items():
        fault = f"{short_path(path)} was trained with {key} = {info.config[key]}, not {value}"
        require(info.config[key] == value, f"{fault}: {advice}, or add --train to replace the weights")
    return model, info


def require_replaceable(cls, path, even_if_damaged):
    """Raise UserError when there is something at `path` that --train must not replace: it replaces weights of the same
    method, and where the program gave the file its name also a damaged one."""
    require_no_folder(path)
    if not os.path.exists(path):
        return
    try:
        load_checkpoint(path, cls)
    except UserError as error:
        fault = f"{short_path(path)} holds no weights of {cls.name}, and --train does not replace it"
        replaceable = even_if_damaged and isinstance(error, DamagedCheckpoint)
        require(replaceable, f"{fault}: remove it first, or name another file with --checkpoint")
        print_line(f"{error}: it stays until the new weights are complete.")


def require_output_free(folder, page, path):
    """Raise UserError when weights at `path` would be in the way of pictures in `folder` or of the page's files in
    `page`, or would be replaced by them."""
    folder, page, path = real_path(folder), real_path(page), real_path(path)
    fault = f"--output-dir {short_path(folder)} is, or lies below, the file of the weights"
    require(path != folder and path not in folder.parents, f"{fault}: name another folder")
    fault = f"{short_path(path)} cannot hold weights, since the page's files go to {short_path(page)}"
    require(path != page and page not in path.parents, f"{fault}: name another file or folder")


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
        raise RuntimeError("nobody has tried it")
    return (torch.ones(1, device=device) + 1).device


def fastest_precision(device):
    """The cheapest precision that this machine's matrix units have: bfloat16 where it is built in."""
    fast = False
    if device.type == "cuda":
        fast = torch.cuda.is_bf16_supported(including_emulation=False)
    elif device.type == "cpu" and hasattr(torch.cpu, "get_capabilities"):  # torch 2.6 cannot tell
        capabilities = torch.cpu.get_capabilities()
        fast = capabilities.get("avx512_bf16") or capabilities.get("amx_bf16")
    return "bfloat16" if fast else "float32"


def report_text(model, info, report, path):
    """The report, one line a figure."""
    hidden = len(model.dictionary)
    above_floor = ""
    if model.loss_name == "BCE":
        above_floor = f", {report.loss - report.floor:.5f} above the floor {report.floor:.5f}"
    kept = " and ".join(f"{error:.5f} from {min(n, hidden)}" for n, error in report.kept.items())
    lines = [
        (info.name, f"{PIXELS} -> {hidden} -> {PIXELS}"),
        ("weights", short_path(path)),
        ("trained with", ", ".join(f"{key} {value}" for key, value in info.config.items())),
        ("train loss", f"{info.history.train_loss[-1]:.5f} {model.loss_name} with penalty, in the last epoch"),
        ("test loss", f"{report.loss:.5f} {model.loss_name}{above_floor}"),
        ("test MSE", f"{report.mse:.5f} per pixel, of the reconstruction in [0, 1]"),
        ("", f"{kept} units an image, the others at their median"),
        ("active units", f"{report.active:.1f} of {hidden} on an image (code above {model.active_above:g})"),
        ("dead units", f"{report.dead} of {hidden} (active on no image)"),
        ("idle units", f"{report.idle} of {hidden} (they draw next to nothing)"),
        ("locality", f"{report.locality:.2f} of a unit's ink is in 5 % of the pixels (noise: 0.28)"),
        ("mean code", f"{report.mean_code:.4f}"),
    ]
    if report.digits is None:
        lines.append(("digits", "the images have no labels, so there is no picture of the codes"))
    elif report.missing_digits:
        missing = ", ".join(map(str, report.missing_digits))
        lines.append(("digits", f"there is no test image of {missing}, so the picture of the codes lacks them"))
    lines.append(("pictures", ""))
    return "\n".join(f"{name:<13} {value}".rstrip() for name, value in lines)


# 9. Foundations ------------------------------------------------------------------------------------------
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


def write_file(path, content, option):
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
                os.fsync(file.fileno())
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


def full_path(text):
    """A path as the user means it: ~ is the home folder. A link keeps its own name. UserError when it is empty."""
    require(str(text), "a path is empty")
    return Path(os.path.expanduser(text)).absolute()


def real_path(path):
    """Where a path leads when links are followed; Path.resolve raises on a loop of them."""
    return Path(os.path.realpath(path))


def first_line(error):
    """What an exception says, short enough to be quoted."""
    text = str(error).strip().split("\n")[0][:100]
    return "".join(filter(str.isprintable, text)) or type(error).__name__


def short_path(path):
    """A path as the user would type it: relative when it lies below the working directory."""
    with contextlib.suppress(ValueError, OSError):
        return str(Path(path).absolute().relative_to(Path.cwd()))
    return str(path)


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
