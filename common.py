"""What the sparse autoencoders share, in the order of its use:

1. errors and files
2. data             MNIST, another data set of its form or your own, and minibatches of it
3. model            one linear layer each way; a script adds activation, penalty and start
4. training         the loop
5. evaluation       what a model is worth, and with how few of its units
6. checkpoints      weights in a file, of which nothing is executed
7. pictures         losses, reconstructions, dictionary, units, parts
8. command line     the options are the model, and name its files

Shapes are written [batch, 784] and [batch, hidden]. Images are float32 in [0, 1], 0 being the background.
"""

import argparse
import atexit
import contextlib
import gc
import gzip
import hashlib
import importlib.util
import io
import math
import os
import shlex
import sys
import tempfile
import warnings
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from numbers import Integral, Real
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

import matplotlib
import numpy as np
import torch
import torch.nn.functional as F
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image
from torch import nn
from tqdm import tqdm

ROOT = Path(__file__).resolve().parent
PIXELS = 28 * 28


# 1. Errors and files -----------------------------------------------------------------------------------
class UserError(ValueError):
    """Something the user can mend. Its text is one line: what is wrong, and what to do."""


def require(condition, message):
    """Raise UserError with `message` unless `condition` holds."""
    if not condition:
        raise UserError(message)


def reason_of(error):
    """What an exception says, on one line."""
    return " ".join(str(error).split())[:200] or type(error).__name__


def full_path(text):
    """A path as the user means it: ~ is the home folder."""
    return Path(os.path.expanduser(text)).absolute()


def short_path(path):
    """A path as the user would type it: relative when it lies below the working directory."""
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)


@contextlib.contextmanager
def blaming(path):
    """Let an OSError name this path: it would name a temporary file, and on a full device none at all."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error


def write_file(path, content):
    """Write bytes to a file that appears whole or not at all; one that is there already stays until then."""
    path = Path(os.path.realpath(path))  # a link stays a link
    path.parent.mkdir(parents=True, exist_ok=True)
    # A folder and not just a file: its name is unique, and the file gets the permissions that files get.
    with blaming(path), tempfile.TemporaryDirectory(dir=path.parent, prefix=".", suffix=".tmp") as folder:
        unnamed = Path(folder, "content")
        unnamed.write_bytes(content)
        os.replace(unnamed, path)


# 2. Data -----------------------------------------------------------------------------------------------
DOWNLOADED = ("MNIST", "FashionMNIST", "KMNIST")  # torchvision's names; any other is a data set of the user's own


class Data(NamedTuple):
    """Images and their labels."""

    train_images: torch.Tensor  # [n, 784] uint8, 0 is the background; MNIST has 60000
    train_labels: torch.Tensor | None  # [n] int64
    test_images: torch.Tensor  # [m, 784] uint8; MNIST has 10000
    test_labels: torch.Tensor | None  # [m] int64
    name: str = "own"  # the data set's, which load_data gives


def load_data(dataset="MNIST", data_dir=ROOT / "data", for_training=True):
    """A data set as Data, from the four archives in `data_dir`/`dataset`/raw, where torchvision leaves them.

    Args:
        dataset: "MNIST", "FashionMNIST" or "KMNIST", of which torchvision downloads what is missing; or the name of a
            folder of the user's own, with archives of that form and those names, whose labels may be missing. An
            archive may lie there unpacked, without .gz.
        data_dir: a folder, torchvision's root.
        for_training: False reads only the first training images: until there is one of each label, or ten if there are
            no labels. To look at a trained model takes no more.

    Raises:
        UserError: an archive is missing and cannot be downloaded, or it is damaged or of another form.
    """
    folder = full_path(data_dir) / dataset / "raw"
    train_labels = read_archive(folder / "train-labels-idx1-ubyte", dataset)
    test_labels = read_archive(folder / "t10k-labels-idx1-ubyte", dataset)
    count = None
    if not for_training:
        count = 10 if train_labels is None else max(first_of_each(train_labels), default=0) + 1
        train_labels = None if train_labels is None else train_labels[:count]
    train_images = read_archive(folder / "train-images-idx3-ubyte", dataset, count)
    test_images = read_archive(folder / "t10k-images-idx3-ubyte", dataset)
    for images, labels in ((train_images, train_labels), (test_images, test_labels)):
        good = len(images) > 0 and images.shape[1:] == (28, 28) and (labels is None or labels.shape == images.shape[:1])
        fault = f"{dataset} has to have images of 28 x 28, and none or as many labels, in {short_path(folder)}"
        require(
            good, f"{fault}; found: images {list(images.shape)}, labels {labels is not None and list(labels.shape)}"
        )
    return Data(train_images.flatten(1), train_labels, test_images.flatten(1), test_labels, dataset)


def read_archive(unpacked, dataset, count=None):
    """The images [n, 28, 28] uint8 or labels [n] int64 of the archive NAME.gz, or of the file NAME where it lies
    unpacked; the first `count` if that is given. None when they are labels of the user's own that are not there."""
    path = unpacked.with_name(f"{unpacked.name}.gz")
    if not path.is_file() and unpacked.is_file():
        path = unpacked
    elif not path.is_file() and dataset in DOWNLOADED:
        download(path, dataset)
    elif not path.is_file():
        fault = f"{path.name} is missing in {short_path(path.parent)}, where the images of {dataset} belong"
        require("labels" in path.name, f"{fault}; {', '.join(DOWNLOADED)} are downloaded")
        return None
    try:
        with gzip.open(path) if path.suffix == ".gz" else open(path, "rb") as file:
            dimensions = file.read(4)[3]
            shape = np.frombuffer(file.read(4 * dimensions), ">i4").tolist()
            shape[0] = shape[0] if count is None else min(count, shape[0])
            content = file.read() if count is None else file.read(math.prod(shape))  # the end has a checksum
        values = torch.from_numpy(np.frombuffer(bytearray(content), np.uint8).reshape(shape))
    except (gzip.BadGzipFile, zlib.error, EOFError, IndexError, ValueError, OverflowError, MemoryError) as error:
        fault = f"{short_path(path)} is damaged, or not in the form of MNIST's archives ({reason_of(error)})"
        raise UserError(f"{fault}: replace it, or move it away") from error
    return values.long() if "labels" in path.name else values


def download(path, dataset):
    """Download the archive of one of torchvision's data sets that belongs to `path`; torchvision verifies it."""
    from torchvision import datasets  # only here: to import it takes as long as torch
    from torchvision.datasets.utils import download_url

    source = getattr(datasets, dataset)
    print(f"Downloading {path.name} of {dataset} to {short_path(path.parent)}")
    for mirror in source.mirrors:
        with tempfile.TemporaryDirectory() as folder:
            try:
                download_url(mirror + path.name, folder, path.name, dict(source.resources)[path.name])
                return write_file(path, Path(folder, path.name).read_bytes())
            except (OSError, RuntimeError) as error:  # no network; not what torchvision expects
                reason = reason_of(error)
    fault = f"{path.name} is missing in {short_path(path.parent)} and cannot be downloaded ({reason})"
    raise UserError(f"{fault}: put it there, or name another folder for the data")


def as_tensors(data):
    """The same Data with tensors in the place of numpy's arrays."""
    return Data(*(torch.as_tensor(part) if isinstance(part, np.ndarray) else part for part in data))


def to_float(images):
    """[n, 784] uint8 -> [n, 784] float32 in [0, 1], a tensor of its own. Raises UserError for other types."""
    images = torch.as_tensor(images)
    require(images.dtype == torch.uint8, f"to_float takes bytes, torch.uint8, not {images.dtype}")
    return images.float().div_(255)


def batches(images, batch_size, generator=None):
    """Minibatches [batch, 784] float32 in [0, 1] of images [n, 784] uint8, in the order that they have. For training
    they are in a new order, drawn from `generator`, a torch.Generator, and all of nearly one size, so that no step is
    made of what is left over. Each batch is one gather from bytes in memory: a DataLoader, which decodes every image
    again in every epoch, takes longer than the training."""
    if generator is None:
        return map(to_float, images.split(batch_size))
    order = torch.randperm(len(images), generator=generator).to(images.device)
    steps = math.ceil(len(images) / batch_size)
    return (to_float(images.index_select(0, chosen)) for chosen in order.tensor_split(steps))


def first_of_each(labels):
    """Where the first image of each label is, the labels in their order, of those that occur among labels [n]."""
    return np.unique(labels, return_index=True)[1].tolist()


def first_images(images, labels):
    """The first image of each label, or without labels (None) of all: [up to 10, 784] in [0, 1], of images [n, 784]
    uint8."""
    return to_float(images[:10] if labels is None else images[first_of_each(labels)[:10]])


def fingerprint_of(images):
    """A few letters that are others for other images [n, 784] uint8."""
    return hashlib.sha256(np.ascontiguousarray(images.cpu())).hexdigest()[:16]


# 3. Model ----------------------------------------------------------------------------------------------
class Autoencoder(nn.Module):
    """One linear layer to the code and one back:

        hidden         = encoder(x - mean)           [batch, hidden]
        code           = activation(hidden)          [batch, hidden]
        output         = decoder(code)               [batch, 784]
        reconstruction = squash(output)              [batch, 784], in [0, 1]

    Here `mean` is the mean image of the training set, or 0 with `plain`. Row j of `encoder.weight` is what unit j looks
    for, row j of `dictionary` what it draws.

    The loss is `reconstruction_loss` + `penalty`. A script's subclass declares its `hyperparameters`, and says what
    makes its method different:

        initialise()                         sets the weights that training starts from; `mean_image` is there already
        activation(hidden)                   the code, never negative
        penalty(hidden, code)                a scalar

    It may also say

        squash(output)                       the reconstruction; by default the sigmoid
        reconstruction_loss(output, images)  a scalar, a mean over images and pixels, with `loss_name` for its name; by
                                             default the binary cross-entropy, "BCE"
        schedule(progress)                   {name: value} of the hyperparameters that change in training, where
                                             progress runs from 0 to 1; by default none do. It is applied before each
                                             step, and all test losses and the trained model have the values of 1
        after_step()                         constraints on the weights, after each step and once before the first
        corrupt(images)                      what the encoder sees of images in training, such as noise added to them;
                                             by default None, and it sees the images

    `initialise` and `after_step` run without gradients. All parameters of the model are trained, also such as a
    subclass adds. What torch draws in a training follows from its `seed`, the start of layers that have
    `reset_parameters` too; all else that is random at the start has to be filled in `initialise`.

    Args:
        given: hyperparameters, by their names; all others are at their defaults. Each is an attribute of the model.

    Attributes:
        config: a dict of all hyperparameters, as they were asked for.
        name: of its files: "sparse_l1", "sparse_ksparse_k25", ...
        history: its History; None before it is trained, as the next two.
        fingerprint: of the test images.
        made_by: a dict of what else the weights depend on: torch's version, the device, its threads, the precision.

    Raises:
        UserError: there is no such hyperparameter, or it is out of its range.
    """

    method = None  # the name of the script and of its files: "sparse_l1"
    hyperparameters = {}  # of `common.hyperparameters`
    loss_name = "BCE"  # what the reconstruction loss is
    active_above = 0.0  # a unit is active on an image when its code is above this
    ties_to_multiple = True  # the tie pulls a unit's encoder row to the best multiple of its picture, or to itself
    corrupt = None  # or a function of the images, see above

    def __init__(self, **given):
        super().__init__()
        lacking = [part for part in ("initialise", "activation", "penalty") if not hasattr(self, part)]
        fault = f"{type(self).__name__} lacks {', '.join(lacking) or 'the name of its method'}"
        require(self.method and not lacking, f"{fault}: see the docstring of common.Autoencoder")
        classes = type(self).__mro__  # from the subclass up: the name has to stand where the loss does, or below
        has_name, has_loss = (
            next(place for place, cls in enumerate(classes) if part in vars(cls))
            for part in ("loss_name", "reconstruction_loss")
        )
        fault = f"{type(self).__name__} has a reconstruction loss of its own, and no loss_name for it"
        require(has_name <= has_loss, fault)
        compared = [key for key, declared in self.hyperparameters.items() if declared.is_compared]
        require(len(compared) <= 1, f"only one hyperparameter can be the compared one, not {', '.join(compared)}")
        for key in given:
            known = ", ".join(self.hyperparameters)
            require(key in self.hyperparameters, f"{self.method} has no hyperparameter {key!r}, but {known}")
        is_plain = given.get("plain", False)
        self.config = {
            key: declared.checked(key, given.get(key, declared.default_of(is_plain)))
            for key, declared in self.hyperparameters.items()
        }
        self.name = model_name(type(self), self.config)
        self.history = self.fingerprint = self.made_by = None
        self.encoder = nn.Linear(PIXELS, self.config["hidden"], dtype=torch.float32)
        self.decoder = nn.Linear(self.config["hidden"], PIXELS, dtype=torch.float32)
        self.register_buffer("mean_image", torch.zeros(PIXELS, dtype=torch.float32))
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

    def after_step(self):
        pass

    def encode(self, images):
        """[..., 784] images in [0, 1] -> [..., hidden] code. Raises UserError for anything else."""
        images = torch.as_tensor(images)
        good = images.shape[-1:] == (PIXELS,) and images.dtype == self.encoder.weight.dtype
        good = good and (images.numel() == 0 or (images.min() >= 0 and images.max() <= 1))
        wanted = f"encode takes images [n, 784] in [0, 1], {self.encoder.weight.dtype}, 0 being the background"
        require(good, f"{wanted}: see common.to_float")
        return self.activation(self.encoder(images - self.mean_image))

    def decode(self, code):
        """[..., hidden] code -> [..., 784] reconstruction in [0, 1]."""
        return self.squash(self.decoder(torch.as_tensor(code, dtype=self.decoder.weight.dtype)))

    def forward(self, images):
        """[..., 784] images -> ([..., 784] reconstruction in [0, 1], [..., hidden] code)."""
        code = self.encode(images)
        return self.decode(code), code


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
    """What a model is made with, declared once: the constructor, the command line, the names of files and the
    checkpoints all have it from here."""

    default: object  # its type is that of all values: bool, int, float or str
    help: str  # what it is
    allowed: str  # values in words: "... has to be <allowed>"
    is_allowed: Callable  # whether a value of that type is one of them
    alias: str | None = None  # another name on the command line
    is_compared: bool = False  # the command line takes several values, a model each; at most one of a method's
    is_always_named: bool = False  # in the name of a file also at its default
    is_advanced: bool = False  # stands further down in --help
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
        "seed": whole(0, "seed of all random numbers in the training", 0, 2**63 - 1),
        "dataset": Hyperparameter(
            "MNIST",
            f"the images, {', '.join(DOWNLOADED)} or a folder of your own",
            "the name of a folder",
            lambda value: value not in ("", "..") and Path(value).name == value,
        ),
        "encoder_speed": above_0(1, "so many times that rate for the encoder's weights", plain=1.0, is_advanced=True),
        "beta2": between_0_and_1(
            0.99, "Adam's β2, how slowly its mean of squared gradients changes", plain=0.999, is_advanced=True
        ),
        "cool_down": from_0_to_1(
            0.2, "last part of the training, in which the rate falls to 0", plain=0.0, is_advanced=True
        ),
        "weight_decay": at_least_0(
            0, "decay of the dictionary, fades the pixels that a unit does not need", plain=0.0, is_advanced=True
        ),
        "tie": at_least_0(
            0, "pull of each unit's encoder row and its picture towards each other", plain=0.0, is_advanced=True
        ),
        "precision": one_of(
            "auto",
            "of matrix products in training: what is fast here, float32 or bfloat16",
            "auto",
            "float32",
            "bfloat16",
            is_advanced=True,
        ),
    }
    for name, default in defaults.items():
        require(name in shared, f"{name} is no hyperparameter that all methods share: put it among the method's own")
        shared[name] = shared[name]._replace(default=shared[name].checked(name, default))
    shared["plain"] = plain
    for name, declared in own.items():
        require(name not in shared, f"{name} is a hyperparameter that all methods share: give its default by that name")
        declared.checked(name, declared.default)
    return {"plain": plain} | own | shared


def changed_from_default(cls, config):
    """The part of a config that differs from the defaults of a method."""
    defaults = {key: declared.default_of(config["plain"]) for key, declared in cls.hyperparameters.items()}
    return {key: value for key, value in config.items() if value != defaults[key]}


def model_name(cls, config):
    """The name of a model's files: the method, and each hyperparameter that differs from its default; a list of values
    names a comparison."""
    changed, parts = changed_from_default(cls, config), [cls.method]
    for key, declared in cls.hyperparameters.items():
        if key == "plain":
            parts += ["plain"] if config[key] else []
        elif key in changed or declared.is_always_named:
            values = config[key] if isinstance(config[key], list) else [config[key]]
            parts.append(key.replace("_", "-") + "_".join(str(value).removesuffix(".0") for value in values))
    return "_".join(parts)


# 4. Training -------------------------------------------------------------------------------------------
class History(NamedTuple):
    """One number per epoch. Losses are means over all images of the set, not over batches."""

    train_loss: list  # reconstruction loss + penalty, averaged while the weights moved
    train_reconstruction: list  # the reconstruction loss alone
    test_loss: list  # reconstruction loss on all test images, at the end of the epoch, in the training's precision


# What a schedule cannot change, since `train` reads it once, at the start.
READ_ONCE = {"plain", "hidden", "epochs", "batch_size", "beta2", "seed", "dataset", "precision"}
BAR = "{desc}{percentage:3.0f}% |{bar}| {elapsed}<{remaining}{postfix}"  # fits into 80 columns


def train(model, data):
    """Train a new model in place, from the start of its method to the end of its schedules. A trained model cannot be
    trained further. The same model and data on the same machine with the same number of threads give bit-identical
    weights, when one model at a time is trained in a process.

    Args:
        model: a new Autoencoder, on the device to train it on; it ends in evaluation mode, with a history.
        data: Data, of the model's data set, on the same device.

    Returns:
        History, that of the model.

    Raises:
        UserError: the model is not new, the images are not bytes or of another data set, or the model could not be
            loaded again; or a loss became NaN, infinite or absurd.
    """
    data = as_tensors(data)
    require_trainable(model, data)
    device = model.mean_image.device
    precision = fastest_precision(device) if model.precision == "auto" else model.precision
    order = torch.Generator().manual_seed(model.seed)
    steps = math.ceil(len(data.train_images) / model.batch_size)  # of an epoch
    total = model.epochs * steps
    print(f"{model.name}: training, {model.epochs} epochs of {steps} steps", flush=True)
    history = History([], [], [])
    bar = tqdm(total=total, bar_format=BAR, disable=None)  # None: only in a terminal
    with own_random_numbers(model.seed, device), bar:
        set_start(model, data.train_images)
        optimizer = make_optimizer(model)
        untrained_loss = mean_loss(model, data.test_images, precision)
        for epoch in range(model.epochs):
            bar.set_description_str(f"epoch {epoch + 1}/{model.epochs}: ", refresh=False)
            progress = [step / total for step in range(epoch * steps, (epoch + 1) * steps)]
            minibatches = batches(data.train_images, model.batch_size, order)
            loss, reconstruction_loss = train_epoch(model, progress, minibatches, optimizer, precision, bar)
            history.train_loss.append(loss)
            history.train_reconstruction.append(reconstruction_loss)
            history.test_loss.append(mean_loss(model, data.test_images, precision))
            require_not_diverged(history, untrained_loss, model)
            losses = f"train loss {loss:.5f}, test loss {history.test_loss[-1]:.5f}"
            bar.set_postfix_str(losses.replace(" loss", ""), refresh=False)
            if bar.disable:
                print(f"epoch {epoch + 1}/{model.epochs}: {losses}", flush=True)
    model.history, model.fingerprint = history, fingerprint_of(data.test_images)
    model.made_by = {
        "torch": str(torch.__version__),
        "device": device.type,
        "threads": torch.get_num_threads(),
        "precision": precision,
    }
    return history


def require_trainable(model, data):
    """Raise UserError unless `train` can train this model on these images."""
    good = model.history is None and model.mean_image.dtype == torch.float32
    good = good and all(getattr(model, key) == value for key, value in model.config.items())
    good = good and all(parameter.requires_grad for parameter in model.parameters())
    wanted = f"as {type(model).__name__}(...) makes it, with gradients for all parameters"
    require(good, f"train takes a new model of float32, {wanted}; constants are buffers")
    for images in (data.train_images, data.test_images):
        good = images.dtype == torch.uint8 and images.shape[1:] == (PIXELS,) and len(images) > 0
        require(good, f"train takes images as bytes, torch.uint8 [n, 784], not {images.dtype} {list(images.shape)}")
    require_own_data(model, data)


def require_trained(model):
    """Raise UserError unless a model has been trained."""
    require(model.history is not None, "this model is not trained yet: see train(model, data)")


def require_own_data(model, data):
    """Raise UserError unless the images are of the model's data set, and when it is trained, its test images."""
    name = f"{model.name} is a model of the data set {model.dataset}"
    require(data.name == model.dataset, f"{name}, and these images are of {data.name}: give it dataset={data.name!r}")
    same = model.fingerprint is None or model.fingerprint == fingerprint_of(data.test_images)
    require(same, f"{name}, and its test images were others: bring those back, or train anew")


@contextlib.contextmanager
def own_random_numbers(seed, device):
    """Inside, torch's random numbers are those of this seed; the caller's go on afterwards as if none had been drawn
    on the CPU or this card, if it is CUDA's."""
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield


@torch.no_grad()
def set_start(model, images):
    """Set the weights and the mean image that training on images [n, 784] uint8 begins with: on the CPU, so that they
    are the same on every device."""
    device = model.mean_image.device
    model.cpu()
    shapes = {name: values.shape for name, values in model.state_dict().items()}
    model.mean_image.copy_(sum(batch.sum(dim=0) for batch in batches(images.cpu(), 2_000)) / len(images))
    for part in model.modules():  # layers of a subclass's own
        if hasattr(part, "reset_parameters") and part not in (model.encoder, model.decoder):
            part.reset_parameters()
    model.initialise()
    if model.plain:  # torch's own layers, and pixels as they are
        model.encoder.reset_parameters()
        model.decoder.reset_parameters()
        model.mean_image.zero_()
    model.after_step()
    same = shapes == {name: values.shape for name, values in model.state_dict().items()}
    advice = "parameters and buffers are made in __init__, and filled in initialise"
    require(
        same, f"this model could not be loaded again, since it begins with other weights than it is made with: {advice}"
    )
    model.to(device)


def make_optimizer(model):
    """Adam, for the encoder's weights, the decoder's, and all other parameters; `set_rates` says how fast each
    moves."""
    encoder, decoder = model.encoder.weight, model.decoder.weight
    others = [parameter for parameter in model.parameters() if parameter is not encoder and parameter is not decoder]
    groups = [{"params": [encoder]}, {"params": [decoder]}, {"params": others}]
    fused = model.mean_image.device.type in ("cpu", "cuda")
    return torch.optim.Adam(groups, betas=(0.9, model.beta2), fused=fused)


def train_epoch(model, progress, minibatches, optimizer, precision, bar):
    """One pass over minibatches [batch, 784]; for each, `progress` says which part of the training lies behind, and
    `bar` counts it. Returns (loss with penalty, reconstruction loss), both means over all images while the weights
    moved."""
    model.train()
    count = 0
    loss_sum = torch.zeros((), device=model.mean_image.device)  # read once per epoch, not once per batch
    reconstruction_sum = torch.zeros_like(loss_sum)
    for part, batch in zip(progress, minibatches, strict=True):
        follow_schedule(model, part)
        set_rates(optimizer, model, part)
        reconstruction_loss, penalty = losses_of(model, batch, precision)
        loss = reconstruction_loss + penalty
        optimizer.zero_grad()
        loss.backward()
        add_tie_gradient(model)
        optimizer.step()
        with torch.no_grad():
            model.after_step()
        bar.update()
        count += len(batch)
        loss_sum += loss.detach() * len(batch)
        reconstruction_sum += reconstruction_loss.detach() * len(batch)
    return (loss_sum / count).item(), (reconstruction_sum / count).item()


def follow_schedule(model, progress):
    """Give the model the hyperparameters of its schedule when this part of the training lies behind, from 0 to 1, and
    return them."""
    for key, value in model.config.items():
        setattr(model, key, value)  # a schedule reads what was asked for
    values = model.schedule(progress)
    for key, value in values.items():
        good = key in model.config and key not in READ_ONCE
        require(good, f"{key} cannot change in training: it is no hyperparameter, or is read only once")
        setattr(model, key, value)
    return values


def set_rates(optimizer, model, progress):
    """The learning rates and the dictionary's decay for the next step, when this part of the training lies behind."""
    encoder, dictionary, others = optimizer.param_groups
    cooling = min(1.0, (1 - progress) / model.cool_down) if model.cool_down else 1.0  # on a straight line to 0
    encoder["lr"] = model.lr * model.encoder_speed * cooling
    dictionary["lr"] = others["lr"] = model.lr * cooling
    dictionary["weight_decay"] = model.weight_decay


def fastest_precision(device):
    """The cheapest precision that this machine's matrix units have: bfloat16 where it is built in."""
    fast = False
    if device.type == "cuda":
        fast = torch.cuda.is_bf16_supported(including_emulation=False)
    elif device.type == "cpu" and hasattr(torch.cpu, "get_capabilities"):  # torch 2.6 cannot tell
        capabilities = torch.cpu.get_capabilities()
        fast = capabilities.get("avx512_bf16") or capabilities.get("amx_bf16")
    return "bfloat16" if fast else "float32"


@torch.no_grad()
def add_tie_gradient(model):
    """The soft tie: add to the gradients those of tie · Σ_j ‖w_j - α_j d_j‖², so that a unit looks for what it draws.

    Here w_j is the encoder's row of unit j, d_j its picture, and α_j the factor at which α_j d_j comes closest to w_j,
    or 1 unless the model `ties_to_multiple`. A small change of that best α_j does not change the sum, so the
    gradients may take it for a constant. It is a decay of the weights towards each other instead of towards zero and,
    like Adam's decay, no part of the loss that is reported. Its gradients are written out because autograd takes three
    times as long: a quarter of a training step of k-sparse.
    """
    encoder, decoder, pictures = model.encoder.weight, model.decoder.weight, model.dictionary
    scale = torch.ones(1, 1, device=encoder.device)
    if model.ties_to_multiple:
        scale = (encoder * pictures).sum(dim=1, keepdim=True) / pictures.square().sum(dim=1, keepdim=True).clamp(1e-12)
    difference = torch.addcmul(encoder, scale, pictures, value=-1)  # w_j - α_j d_j
    encoder.grad.add_(difference, alpha=2 * model.tie)
    decoder.grad.addcmul_(scale.T, difference.T, value=-2 * model.tie)


def losses_of(model, images, precision):
    """(reconstruction loss, penalty) on images [batch, 784], with matrix products in `precision`."""
    seen = model.corrupt(images.clone()) if model.training and model.corrupt else images
    with torch.autocast(images.device.type, torch.bfloat16, enabled=precision == "bfloat16"):
        hidden = model.encoder(seen - model.mean_image)
        code = model.activation(hidden)
        output = model.decoder(code)
    penalty = torch.as_tensor(model.penalty(hidden.float(), code.float()))
    require(penalty.dim() == 0, f"penalty has to give one number, a mean over images, not {list(penalty.shape)}")
    return model.reconstruction_loss(output.float(), images), penalty


@torch.no_grad()
def mean_loss(model, images, precision="float32"):
    """Mean reconstruction loss, without the penalty, over images [n, 784] uint8, of a model as it is after training; it
    ends in evaluation mode."""
    model.eval()
    follow_schedule(model, 1.0)
    sums = [losses_of(model, batch, precision)[0] * len(batch) for batch in batches(images, 2_000)]
    return sum(sums).item() / len(images)


def require_not_diverged(history, untrained_loss, model):
    """Raise UserError when a loss of the last epoch is lost: NaN, infinite, or far worse than before the training (BCE
    on logits stays finite for long). The loss with penalty may be large."""
    loss, reconstruction_loss, test_loss = (losses[-1] for losses in history)
    finite = math.isfinite(loss) and math.isfinite(reconstruction_loss) and math.isfinite(test_loss)
    sound = finite and max(reconstruction_loss, test_loss) <= 100 * untrained_loss
    where = f"in epoch {len(history.train_loss)} of {model.epochs}: train {loss:.4g}, test loss {test_loss:.4g}"
    require(sound, f"training diverged {where}; no weights were written; try a smaller lr than {model.lr:g}")


# 5. Evaluation -----------------------------------------------------------------------------------------
KEPT = (25, 50)  # numbers of units for which the report says what they alone draw
FEW = 1000  # with fewer images the units' medians are those of the very images that are judged


@dataclass
class Report:
    """What a model is worth on test images."""

    loss: float  # the reconstruction loss, as in training and without the penalty: what `loss_name` says
    floor: float | None  # the least that BCE can be; None for another loss
    mse: float  # mean squared error per pixel of the reconstruction in [0, 1]: comparable between methods
    kept: dict  # {n: MSE when on each image the n units that add most keep their code, and all others their median};
    # empty with fewer than 1000 images
    active: float  # units per image, mean (L0)
    dead: int  # units whose code is 0 on every image, so that nothing changes without them
    idle: int  # units that are not dead and draw next to nothing: their amplitude is below a tenth of the root mean
    # square of all units'; it is the standard deviation over images of the code, times the norm of the unit's picture
    locality: float  # part of ‖d‖² in the 39 strongest pixels, 5 %, of a unit's picture d; the median over all units
    # that are not dead; noise has 0.28
    mean_code: float  # over images and units (mean ρ̂ for KL)
    code: torch.Tensor  # [n, hidden] of the n images
    median_code: torch.Tensor  # [hidden], over images: what each unit does on most of them
    frequency: torch.Tensor  # [hidden], part of the images on which a unit is active
    is_dead: torch.Tensor  # [hidden] bool


@torch.no_grad()
def evaluate(model, images):
    """Report on a model, which ends in evaluation mode, for test images [n, 784] uint8 on its device. Raises UserError
    when there are no images."""
    images = torch.as_tensor(images)
    require(len(images) > 0, "there are no images to evaluate the model on")
    model.eval()
    code = torch.cat([model.encode(batch) for batch in batches(images, 2_000)])
    median_code = code.median(dim=0).values
    counts = KEPT if len(images) >= FEW else ()
    loss, mse, kept = 0.0, 0.0, dict.fromkeys(counts, 0.0)
    for batch, batch_code in zip(batches(images, 2_000), code.split(2_000), strict=True):
        weight = len(batch) / len(images)
        output = model.decoder(batch_code)
        loss += weight * model.reconstruction_loss(output, batch).item()
        mse += weight * F.mse_loss(model.squash(output), batch).item()
        for n, kept_code in zip(counts, keep_strongest(model, batch_code, median_code, counts), strict=True):
            kept[n] += weight * F.mse_loss(model.decode(kept_code), batch).item()

    frequency = (code > model.active_above).float().mean(dim=0)
    is_dead = ~code.any(dim=0)
    energy = model.dictionary.square()  # of each pixel of each unit's picture
    total_energy = energy.sum(dim=1)
    strongest_energy = energy.topk(PIXELS // 20).values.sum(dim=1)
    locality = strongest_energy / total_energy.clamp(min=1e-12)
    amplitude = (code.var(dim=0, correction=0) * total_energy).sqrt()
    return Report(
        loss=loss,
        floor=pixel_entropy(images) if type(model).reconstruction_loss is Autoencoder.reconstruction_loss else None,
        mse=mse,
        kept=kept,
        active=frequency.sum().item(),
        dead=is_dead.sum().item(),
        idle=(~is_dead & (amplitude < 0.1 * amplitude.square().mean().sqrt())).sum().item(),
        locality=locality[~is_dead].median().item(),
        mean_code=code.mean().item(),
        code=code.cpu(),
        median_code=median_code.cpu(),
        frequency=frequency.cpu(),
        is_dead=is_dead.cpu(),
    )


def contributions(model, code, median_code):
    """How much each unit adds to each picture: |code - median_code| · ‖d‖, [batch, hidden], for the units' median codes
    [hidden]."""
    return (code - median_code).abs() * model.dictionary.norm(dim=1)


def keep_strongest(model, code, median_code, counts):
    """For each n of `counts` the code [batch, hidden] with all but the n units of largest contribution on each image at
    their median code [hidden]. It needs no threshold, so it compares all methods: what do n units draw?"""
    most = min(max(counts, default=0), code.shape[1])
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
    """The main figures of a trained model, one line each; `path` is where its weights are."""
    require_trained(model)
    hidden = len(model.dictionary)
    changed = ", ".join(f"{key} {value}" for key, value in changed_from_default(type(model), model.config).items())
    floor = "" if report.floor is None else f", {report.loss - report.floor:.5f} above the floor {report.floor:.5f}"
    kept = "".join(f"; {error:.5f} from {n} units an image" for n, error in report.kept.items())
    lines = {
        "model": f"{model.name}, {PIXELS} -> {hidden} -> {PIXELS}",
        "weights": short_path(path) if path else None,
        "trained with": changed or "its defaults",
        "test loss": f"{report.loss:.5f} {model.loss_name}{floor}; on {len(report.code)} images",
        "test MSE": f"{report.mse:.5f} per pixel{kept}",
        "active units": f"{report.active:.1f} of {hidden} on an image (their code is above {model.active_above:g})",
        "dead units": f"{report.dead} (their code is 0 on all {len(report.code)} images)",
        "idle units": f"{report.idle} (not dead, but they draw next to nothing)",
    }
    return "\n".join(f"{name:<13} {value}" for name, value in lines.items() if value is not None)


# 6. Checkpoints ----------------------------------------------------------------------------------------
FORMAT = 4


def save_checkpoint(model, path):
    """Write the weights of a trained model to `path`, with all that made it: hyperparameters, history, a fingerprint of
    the test images, versions. The file appears whole or not at all."""
    require_trained(model)
    content = {
        "format": FORMAT,
        "method": model.method,
        "config": model.config,
        "history": model.history._asdict(),
        "fingerprint": model.fingerprint,
        "made_by": model.made_by,
        "weights": {name: tensor.cpu() for name, tensor in model.state_dict().items()},
    }
    buffer = io.BytesIO()
    torch.save(content, buffer)
    write_file(full_path(path), buffer.getbuffer())


def load_checkpoint(path, cls=None):
    """Read a checkpoint, without trusting the file.

    Args:
        path: a file.
        cls: the subclass of Autoencoder that it has to be of; by default the one in the script that the file names.

    Returns:
        the model, on the CPU, in evaluation mode, its parameters without gradients.

    Raises:
        UserError: the file is missing, or it cannot be read as weights of this version of the program, or of this
            method.
    """
    path = full_path(path)
    require(path.is_file(), f"there are no weights at {short_path(path)}: check the name")
    try:
        content = read_untrusted(path.read_bytes())
        is_ours = isinstance(content, dict) and content.get("format") == FORMAT
        require(is_ours, "they were written by another program, or another version of this one")
        cls = cls or find_method(content["method"])
        require(cls.method == content["method"], f"they are of {content['method']!r}, not of {cls.method}")
        same = content["config"].keys() == cls.hyperparameters.keys()
        require(same, f"their hyperparameters are not those of {cls.method}")
        model = cls(**content["config"])
        model.load_state_dict(content["weights"])
        model.history, model.fingerprint = History(**content["history"]), content["fingerprint"]
        model.made_by = content["made_by"]
    except Exception as error:  # zipfile, pickle and torch raise many kinds on files that were garbled or made by hand
        raise UserError(f"the weights at {short_path(path)} cannot be used ({reason_of(error)})") from error
    follow_schedule(model, 1.0)
    model.name = path.name.removesuffix(".pt")
    return model.eval().requires_grad_(False)


def find_method(name):
    """The class of a method, which is in the script of the same name beside this file."""
    script = ROOT / f"{name}.py"
    advice = "give the class of the weights, load_checkpoint(path, cls)"
    require(
        name.isidentifier() and script.is_file(), f"there is no script {name}.py of a method beside common.py: {advice}"
    )
    module = sys.modules.get(name)
    if module is None or Path(module.__file__).resolve() != script:
        spec = importlib.util.spec_from_file_location(name, script)
        module = importlib.util.module_from_spec(spec)
        sys.modules.setdefault(name, module)
        spec.loader.exec_module(module)
    # By its name and not as a subclass of Autoencoder, which is another class after importlib.reload(common).
    classes = [cls for cls in vars(module).values() if isinstance(cls, type) and getattr(cls, "method", "") == name]
    require(classes, f"{name}.py has no class of a method of that name: {advice}")
    return classes[0]


def read_untrusted(data):
    """The content of a checkpoint, given as bytes. Nothing in it is executed, nothing unpacked that is larger than the
    file (torch would unpack a bomb), and its checksums are verified (torch does not look)."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        stored = all(entry.compress_type == zipfile.ZIP_STORED for entry in archive.infolist())
        unpacked = sum(entry.file_size for entry in archive.infolist())
        require(stored and unpacked <= len(data), "they claim to hold more than they do")
        require(archive.testzip() is None, "they do not match their checksums")
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


# 7. Pictures -------------------------------------------------------------------------------------------
INK, ACCENT, QUIET = "#1f2933", "#c2410c", "#7b8794"
INK_COLOURS = ("#f4fbff", "#b9e0ff", "#c9cdd3", "#cf6a4f", "#8a0712")  # from taken away over nothing to added
INK_IN_WORDS = "dark red adds ink, light blue takes it away"
DPI = 100  # screen pixels per inch
FEATURES = 160  # units in the picture of features, where there are more
ROWS, EXAMPLES = 12, 12  # units in the picture of units, and images of each
PARTS = 10  # units shown for each digit


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
    train_rows = {"input": train_digits, "output": model(train_digits)[0]}
    test_rows = {"input": test_digits, "output": model(test_digits)[0]}
    return {
        "loss": plot_loss(model, report),
        "test": plot_rows(test_rows, f"{model.name}: test images"),
        "train": plot_rows(train_rows, f"{model.name}: training images"),
        "features": plot_features(model, report),
        "units": plot_units(model, report, data.test_images),
        "parts": plot_parts(model, report, test_digits),
    }


def write_outputs(model, report, data, folder):
    """Write all pictures of a trained model to a folder.

    Args:
        model: an Autoencoder; it ends on the CPU.
        report: its Report, of the test images of `data`.
        data: Data that the model was trained with, on the CPU.
        folder: a path.

    Returns:
        the paths of the pictures, by their kind.
    """
    data = as_tensors(data)
    require_trained(model)
    require_own_data(model, data)
    figures = draw_pictures(model.cpu(), report, data)
    paths = {kind: full_path(folder) / f"{model.name}_{kind}.png" for kind in figures}
    for kind, figure in figures.items():
        save_figure(figure, paths[kind])
    return paths


@own_style()
def save_figure(figure, path):
    """Write a figure as a PNG that has the same bytes for the same picture."""
    figure.set_dpi(DPI)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    # Not savefig, which writes how transparent each pixel is: a third more bytes, in three times the time.
    pixels, buffer = np.asarray(canvas.buffer_rgba())[..., :3], io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(buffer, "png", compress_level=3, dpi=(DPI, DPI))
    write_file(path, buffer.getbuffer())


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


def new_mosaic_figure(pixels, title, left=12, top=44, **colours):
    """(figure, axes) that show an array [rows, columns] below a title, each element as 2 x 2 screen pixels. The room at
    the left and above is in screen pixels; the axes' unit is one element."""
    shown_height, shown_width = 2 * pixels.shape[0], 2 * pixels.shape[1]
    width = max(left + shown_width + 12, 24 + 8.4 * len(title))  # a letter has 7 or 8 pixels, more in long names
    height = top + shown_height + 12
    figure = Figure(figsize=(width / DPI, height / DPI))
    axes = figure.add_axes((left / width, 12 / height, shown_width / width, shown_height / height))
    axes.imshow(pixels, interpolation="none", aspect="auto", **colours)
    axes.axis("off")
    # Names may have a $ in them, which is no formula.
    figure.text(12 / width, 1 - 16 / height, title, size=11, color=INK, va="top", parse_math=False)
    return figure, axes


def plot_loss(model, report):
    """Loss against epochs: train with and without the penalty, test, and the floor; and, with an axis of their own, the
    hyperparameters that changed in training."""
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
    if report.floor is not None:
        axes.axhline(report.floor, color=INK, lw=1, ls=":", label=f"floor {report.floor:.5f}: the pixels' entropy")
    plot_schedule(axes, model)
    axes.set_title(f"{model.name}: losses", size=min(12, 950 / (8 + len(model.name))), parse_math=False)
    axes.set(xlabel="epoch", ylabel=f"{model.loss_name} per pixel")
    axes.set_xlim(0 if len(figure.axes) > 1 else 1, max(2, len(epochs)))
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.spines[["top", "right"]].set_visible(False)
    lines = [line for part in figure.axes for line in part.lines]
    figure.legend(handles=lines, loc="outside lower left", frameon=False)
    return figure


def plot_schedule(axes, model):
    """Add to a graph of losses each hyperparameter that changed in training, on an axis at the right. (All test losses
    are those of the model with its last value.)"""
    progress = np.linspace(0, 1, 20 * model.epochs + 1)
    schedules = [model.config | follow_schedule(model, part) for part in progress.tolist()]
    for key in model.config:
        values = np.array([schedule[key] for schedule in schedules])
        if (values == values[0]).all():
            continue
        arrival = model.epochs * progress[np.flatnonzero(values != values[-1])[-1] + 1]
        first, last = values[0], values[-1]
        label = (
            f"{key} in training (right axis): from {first:g} to {last:g} by epoch {arrival:.3g}; {last:g} in each test"
        )
        twin = axes.twinx()
        twin.plot(model.epochs * progress, values, color=QUIET, lw=1, ls=(0, (1, 1)), label=label)
        twin.set(ylim=(0, 1.05 * values.max()), ylabel=f"{key} in training")
        twin.spines["top"].set_visible(False)


@own_style()
def plot_rows(rows, title):
    """Rows of images [n, 784] in [0, 1], by their names."""
    gap, images = 2, list(rows.values())
    tiled = mosaic(torch.cat(images), len(images[0]), gap, between=0)
    left = max(102, 24 + 8 * max(map(len, rows)))
    figure, axes = new_mosaic_figure(tiled, title, left=left, cmap="gray_r", vmin=0, vmax=1)
    for row, name in enumerate(rows):
        _, top = corner(row, 0, gap)
        axes.text(-5, top + 14, name, size=10, color=INK, ha="right", va="center")
    return figure


def units_from_most_active(report, count):
    """`count` units, or all if there are fewer, evenly chosen from the most to the least often active."""
    order = report.frequency.argsort(descending=True, stable=True)
    return order[torch.linspace(0, len(order) - 1, min(count, len(order))).round().long()]


def plot_features(model, report):
    """The pictures that units draw, rows of the dictionary, the most often active unit first."""
    units, columns = units_from_most_active(report, FEATURES), 20
    features = model.dictionary[units]
    limit = torch.quantile(features.abs(), 0.998).clamp(min=1e-12).item()  # 0.2 % of the pixels are beyond the colours
    chosen = f"{len(units)} of {len(model.dictionary)} units" if len(units) < len(model.dictionary) else "units"
    title = f"{model.name}: what {chosen} draw, most often active first ({INK_IN_WORDS})"
    figure, axes = new_mosaic_figure(mosaic(features, columns), title, cmap=ink_colours(), vmin=-limit, vmax=limit)
    cross_out(axes, [place for place, unit in enumerate(units) if report.is_dead[unit]], columns)
    return figure


def cross_out(axes, places, columns):
    """Cross out the images of a mosaic at these places: of dead units."""
    for place in places:
        left, top = corner(*divmod(place, columns))
        axes.plot([left, left + 27], [top, top + 27], [left, left + 27], [top + 27, top], color="black", lw=1)


def ink_colours():
    """Colours of ink that a unit adds or takes away. What it adds is darker than the ground and what it takes away is
    brighter, so that it can be told apart in grey, too."""
    colours = matplotlib.colors.LinearSegmentedColormap.from_list("ink", INK_COLOURS)
    return colours.with_extremes(bad="#ffffff")


def plot_units(model, report, images):
    """What units stand for: a row each for a dozen units, from the most to the least often active, with what it draws
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
        f"{model.name}: units, and the images that light each most (red: ink that it draws, blue: ink that it removes)"
    )
    pixels = mosaic(tiles.reshape(-1, PIXELS, 4), columns, gap, between=white)
    figure, axes = new_mosaic_figure(pixels, title, left=96, top=62)
    for column, heading in enumerate(("draws", "looks for")):
        left, _ = corner(0, column, gap)
        axes.text(left + 14, -2, heading, size=9, color=INK, ha="center")
    for row, unit in enumerate(units.tolist()):
        _, top = corner(row, 0, gap)
        axes.text(2, top + 10, f"unit {unit}", size=10, color=INK, ha="right", va="center")
        frequency = f"on {100 * report.frequency[unit]:.2g} %"
        axes.text(2, top + 19, frequency, size=9, color=QUIET, ha="right", va="center")
    return figure


def tint_explained(images, picture):
    """Images [n, 784] in [0, 1] in grey, as colours [n, 784, 3], with what a unit that draws `picture` [784] explains
    of each: ink that it draws in red, and paper that it clears in blue."""
    grey, red, blue = (torch.tensor(matplotlib.colors.to_rgb(colour)) for colour in ("#9aa5b1", "#d00000", "#2166ac"))
    share = picture / picture.abs().max().clamp(min=1e-12)
    drawn, cleared = share.clamp(min=0).sqrt()[:, None], share.neg().clamp(min=0)[:, None]
    ink, paper = grey + drawn * (red - grey), 1 + 0.6 * cleared * (blue - 1)
    return paper + images[..., None] * (ink - paper)


def plot_parts(model, report, images):
    """What the images [n, 784] are made of. Before `squash`, a reconstruction is the average, which is what the units
    draw at their median code, and what each unit adds to it: the units that add most, and all others as one picture."""
    reconstruction, code = model(images)
    strength = contributions(model, code, report.median_code)
    n = min(PARTS, max(1, (strength > 0).sum(dim=1).max().item()))
    units = strength.topk(n).indices
    average = model.decoder(report.median_code)
    added = (code - report.median_code).gather(1, units)[..., None] * model.dictionary[units]  # [images, n, 784]
    rest = model.decoder(code) - average - added.sum(dim=1)
    limit = added.abs().max().clamp(min=1e-12) / 2  # of the colours: few pixels are above it, and faint ones show
    ink = torch.cat([added, rest[:, None]], dim=1) / limit
    shown = torch.stack([images, reconstruction, model.squash(average).expand_as(images)], dim=1)
    grey = matplotlib.colormaps["gray_r"](shown.numpy(), bytes=True)
    tiles = np.concatenate([grey, ink_colours()(ink.numpy() / 2 + 0.5, bytes=True)], axis=1)
    squash = "sigmoid" if type(model).squash is Autoencoder.squash else "squash"
    title = f"{model.name}: image, reconstruction = {squash}(average + its {n} main units + the rest); {INK_IN_WORDS}"
    pixels = mosaic(tiles.reshape(-1, PIXELS, 4), tiles.shape[1], gap=4, between=np.uint8(255))
    return new_mosaic_figure(pixels, title)[0]


# 8. Command line ---------------------------------------------------------------------------------------
def main(cls):
    """What `python SCRIPT` does: load or train each model that the command line asks for, report on it, draw it, and
    compare them. What the user can mend becomes one line and an exit status."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError):  # a notebook's streams have no reconfigure
            stream.reconfigure(errors="replace")  # a terminal that has no ρ shows ? and goes on
    gc.freeze()  # to look for garbage among all that was imported takes a fifth of a view
    atexit.register(gc.freeze)
    torch.set_flush_denormal(True)  # Adam's averages of pixels that are never lit are, and an epoch a quarter longer
    try:
        run(cls)
        return
    except UserError as error:
        message = f"error: {error}"
    except OSError as error:
        if not error.filename:  # such as a pipe that nobody reads any more
            raise
        message = f"error: {error.filename}: {error.strerror}; name another file or folder, see --help"
    except KeyboardInterrupt:
        message = "interrupted: files that were complete stay as they were"
    sys.exit(f"{Path(sys.argv[0]).name}: {message}")


def run(cls):
    """What `main` does when nothing is wrong."""
    script = Path(sys.argv[0]).stem  # a copy under another name would load or replace the original's weights
    require(cls.method == script, f"the method has to be called like its file, {script!r}, not {cls.method!r}")
    options, models = parse_arguments(cls)
    device = pick_device(options.device)
    paths = [options.checkpoint or checkpoint_path(model.name) for model in models]
    models = [load_or_keep(model, path, options) for model, path in zip(models, paths, strict=True)]
    require_writable(options.output_dir)
    for_training = not all(model.history for model in models)
    data = load_data(models[0].dataset, options.data_dir, for_training)
    on_device = Data(*(part.to(device) if torch.is_tensor(part) else part for part in data))

    reports, pictures = [], []
    for model, path in zip(models, paths, strict=True):
        model.to(device)
        if not model.history:
            train(model, on_device)
            save_checkpoint(model, path)
        require_own_data(model, data)
        report = evaluate(model, on_device.test_images)
        if len(models) == 1:
            print(report_text(model, report, path), flush=True)
        pictures = write_outputs(model, report, data, options.output_dir)
        report.code = None  # a comparison needs no more memory than one model
        reports.append(report)
    names = [model.name for model in models]
    if len(models) > 1:
        print(f"comparison    {short_path(compare(models, reports, data, options.output_dir))}")
    for name in names:
        print(f"pictures      {short_path(options.output_dir / name)}_{{{','.join(pictures)}}}.png")
    print(page_line(names, paths))
    if options.show:
        for path in pictures.values():
            Image.open(path).show()


@torch.no_grad()
def compare(models, reports, data, folder):
    """Print a table of models of one method that differ in the compared hyperparameter, and draw what they make of
    test images; the path of the picture."""
    cls, key = type(models[0]), compared_key(type(models[0]))
    rows = [figures_of(report) for report in reports]
    print("".join(f"{heading:>13}" for heading in (key, *rows[0])))
    for model, row in zip(models, rows, strict=True):
        print(f"{model.config[key]:>13}" + "".join(f"{text:>13}" for text in row.values()))
    images = first_images(data.test_images, data.test_labels)
    drawn = {f"{key} = {model.config[key]}": model(images)[0] for model in models}
    name = model_name(cls, models[0].config | {key: [model.config[key] for model in models]})
    path = folder / f"{name}_comparison.png"
    save_figure(plot_rows({"input": images} | drawn, f"{name}: test images and their reconstructions"), path)
    return path


def figures_of(report):
    """What a comparison has of one report, as texts by their names."""
    return {
        "test loss": f"{report.loss:.5f}",
        "test MSE": f"{report.mse:.5f}",
        **{f"MSE from {n}": f"{error:.5f}" for n, error in report.kept.items()},
        "active": f"{report.active:.1f}",
        "dead": str(report.dead),
        "idle": str(report.idle),
    }


def page_line(names, paths):
    """How to see models on the page: the address of the first, if all were put there after their weights at `paths`
    were written, else the command that puts them there."""
    page = ROOT / "explore" / "index.html"
    missing = []
    for name, path in zip(names, paths, strict=True):
        there = page.with_name("models") / f"{name}.js"
        if not there.is_file() or there.stat().st_mtime < path.stat().st_mtime:
            missing.append(name if path == checkpoint_path(name) else short_path(path))
    if missing:
        return f"page          python {shlex.join([short_path(page.with_name('write.py')), *missing])}"
    return f"page          {page.as_uri()}#{quote(names[0])}"


class OptionParser(argparse.ArgumentParser):
    """argparse's, except that an error is one line."""

    def error(self, message):
        self.exit(2, f"{self.prog}: error: {message} (--help lists the options)\n")


def parse_arguments(cls, arguments=None):
    """(options, models): all options, and an untrained model for each that is asked for. Anything wrong ends the
    process with status 2 and one line."""
    parser = option_parser(cls)
    options = parser.parse_args(arguments)
    options.given = {key: value for key, value in vars(options).items() if key in cls.hyperparameters}
    key = compared_key(cls)
    values = options.given.pop(key, [])
    if len(set(values)) < len(values) or (len(values) > 1 and options.checkpoint):
        parser.error(f"--{key.replace('_', '-')} takes several values if they differ, and without --checkpoint")
    try:
        models = [cls(**options.given, **{key: value}) for value in values] or [cls(**options.given)]
    except UserError as error:
        parser.error(str(error))
    if len(values) == 1:
        options.given[key] = values[0]
    weights = options.checkpoint
    is_elsewhere = weights and weights.parent != ROOT / "checkpoints"
    # Their pictures lie beside them: two files in two folders may have one name.
    default = weights.with_name(f"{weights.stem}_outputs") if is_elsewhere else ROOT / "outputs"
    options.output_dir = options.output_dir or default
    return options, models


def compared_key(cls):
    """The hyperparameter of which the command line takes several values; None when there is none."""
    return next((key for key, declared in cls.hyperparameters.items() if declared.is_compared), None)


def option_parser(cls):
    """The command line of a method's script. What is not given of its hyperparameters is not in the result."""
    about = (sys.modules[cls.__module__].__doc__ or "").split("\n")[0]
    parser = OptionParser(description=about, allow_abbrev=False)  # --beta of another method is not --beta2
    parser.add_argument("--train", action="store_true", help="train anew, and replace the weights of that name")
    model = parser.add_argument_group("model", "these define the model, and name its weights: checkpoints/NAME.pt")
    advanced = parser.add_argument_group("model, advanced")
    for key, declared in cls.hyperparameters.items():
        kind, group = type(declared.default), advanced if declared.is_advanced else model
        names = [f"--{key.replace('_', '-')}", *([declared.alias] if declared.alias else [])]
        if kind is bool:
            group.add_argument(*names, action="store_true", default=argparse.SUPPRESS, help=declared.help)
            continue
        plain = "" if declared.plain is None else f", plain: {declared.plain}"
        several = "; several values: a model each, compared" if declared.is_compared else ""
        group.add_argument(
            *names,
            type=kind,
            nargs="+" if declared.is_compared else None,
            metavar={int: "N", float: "X", str: "NAME"}[kind],
            default=argparse.SUPPRESS,
            help=f"{declared.help} (default: {declared.default}{plain}{several})".replace("%", "%%"),
        )
    places = parser.add_argument_group("where and how")
    places.add_argument("--device", default="auto", help="auto, cpu, cuda or mps (default: %(default)s)")
    places.add_argument("--data-dir", default=ROOT / "data", metavar="DIR", help="of the images, in NAME/raw (data)")
    places.add_argument(
        "--checkpoint", type=full_path, metavar="FILE", help="of weights to load, or with --train to write"
    )
    places.add_argument(
        "--output-dir", type=full_path, metavar="DIR", help="for the pictures (outputs, or beside FILE)"
    )
    places.add_argument("--show", action="store_true", help="open the pictures, too")
    return parser


def load_or_keep(model, path, options):
    """The model whose weights lie at `path`, or else the untrained one, which is to be trained. What would keep it from
    being saved is found here, before the work."""
    is_named = path == checkpoint_path(model.name)
    if options.train or (is_named and not path.is_file()):
        if not options.train:
            print(f"There are no weights at {short_path(path)}: training them.")
        require(not path.is_dir(), f"{short_path(path)} is a folder: name a file")
        if path.is_file() and not is_named:
            require_same_method(model, path)
        require_writable(path.parent)
        model.name = path.name.removesuffix(".pt")
        return model
    try:
        loaded = load_checkpoint(path, type(model))
    except UserError as error:
        advice = "add --train to train them" if is_named or not path.exists() else "name another file"
        raise UserError(f"{error}; {advice}") from error
    # Under a name of ours, a file has to agree in all hyperparameters, and elsewhere in those that are given.
    for key in model.config if is_named else options.given:
        found, value = loaded.config[key], model.config[key]
        fault = f"{short_path(path)} was trained with {key} = {found}, not {value}"
        require(found == value, f"{fault}: leave that option out, name another file, or add --train to replace it")
    return loaded


def require_same_method(model, path):
    """Raise UserError unless --train may replace what lies at `path`, which has a name of the user's own."""
    try:
        load_checkpoint(path, type(model))
    except UserError as error:
        advice = f"--train replaces only weights of {model.method}, so name another file"
        raise UserError(f"{error}; {advice}") from error


def require_writable(folder):
    """Raise OSError unless files can be written to a folder, which is made if need be."""
    with blaming(folder):
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()


def pick_device(name):
    """--device as a torch.device; auto is the fastest that there is. UserError when another one cannot be used."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        return torch.ones(1, device=name).device
    except (RuntimeError, AssertionError) as error:  # AssertionError: a torch that was built without CUDA
        fault = f"--device {name} cannot be used here ({reason_of(error)})"
        raise UserError(f"{fault}: take auto, cpu, cuda or mps") from error
