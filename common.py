"""What the three sparse autoencoders share, in reading order:

1. errors     one exception for the user, one place that prints it
2. data       MNIST, decoded once, and minibatches of it
3. model      one linear layer each way; a script adds the activation and the penalty
4. training   the loop
5. evaluation what a model is worth: loss above the floor, active units, dead units, a linear probe
6. checkpoints
7. pictures
8. command line

Shapes are written [batch, 784] and [batch, hidden]. Images are float32 in [0, 1], 0 being the background.
"""

import os
import sys

METHODS = ("sparse_l1", "sparse_kl", "sparse_ksparse")

# ---------------------------------------------------------------------------------------------------------
# 1. Errors


class UserError(Exception):
    """Something the user can mend. Its text is one line: what is wrong, and what to do.

    Attributes:
        status: exit status of the script, 2 for a wrong command line and 1 for everything else.
    """

    def __init__(self, message, status=1):
        super().__init__(" ".join(str(message).split()))
        self.status = status


class DamagedCheckpoint(UserError):
    """A file that is no checkpoint; --train may replace it, as nothing else may."""


def exit_with_one_line(kind, error, traceback):
    """`sys.excepthook` of the three scripts: the one place where an error meets the user."""
    if issubclass(kind, UserError):
        message, status = f"error: {error}", error.status
    elif issubclass(kind, KeyboardInterrupt):
        message, status = "interrupted: files that were complete stay as they were", 130
    elif issubclass(kind, BrokenPipeError):
        message, status = "error: standard output was closed early", 1
    elif issubclass(kind, MemoryError) or (issubclass(kind, RuntimeError) and "memory" in str(error)):
        message, status = "error: there is not enough memory: try a smaller --hidden or --batch-size", 1
    else:
        return sys.__excepthook__(kind, error, traceback)  # a bug of ours: show all of it
    print(f"{os.path.basename(sys.argv[0])}: {message}", file=sys.stderr, flush=True)
    os._exit(status)  # an excepthook cannot choose the exit status in any other way


# Set before the slow imports below, so that Ctrl-C during them is a clean line too.
if os.path.splitext(os.path.basename(sys.argv[0]))[0] in METHODS:
    sys.excepthook = exit_with_one_line

import argparse
import contextlib
import hashlib
import http.client
import importlib
import io
import json
import math
import shutil
import tempfile
import zipfile
from pathlib import Path
from typing import NamedTuple

import matplotlib
import numpy as np
import torch
import torch.nn.functional as F
from matplotlib.figure import Figure
from torch import nn
from torchvision.datasets import MNIST
from torchvision.datasets.mnist import read_image_file, read_label_file
from torchvision.datasets.utils import check_integrity
from tqdm import tqdm

ROOT = Path(__file__).resolve().parent
PIXELS = 28 * 28

# ---------------------------------------------------------------------------------------------------------
# 2. Data


class Data(NamedTuple):
    """MNIST, all of it, as torchvision decodes it."""

    train_images: torch.Tensor  # [60000, 784] uint8, 0 is the background
    train_labels: torch.Tensor  # [60000] int64, the digit
    test_images: torch.Tensor  # [10000, 784] uint8
    test_labels: torch.Tensor  # [10000] int64


UNPACKED_BYTES = {
    "train-images-idx3-ubyte": 16 + 60_000 * PIXELS,
    "train-labels-idx1-ubyte": 8 + 60_000,
    "t10k-images-idx3-ubyte": 16 + 10_000 * PIXELS,
    "t10k-labels-idx1-ubyte": 8 + 10_000,
}


def load_mnist(data_dir):
    """Read MNIST from `data_dir`/MNIST/raw, unpacking the archives there when that has not been done yet.

    Args:
        data_dir: the folder that `torchvision.datasets.MNIST` calls its root.

    Returns:
        Data.

    Raises:
        UserError: an archive is missing or damaged and cannot be downloaded, or a file cannot be read.
    """
    raw = Path(data_dir) / "MNIST" / "raw"
    try:
        # torchvision trusts any unpacked file that exists; a run killed while unpacking leaves a short one.
        if all(_size(raw / name) == size for name, size in UNPACKED_BYTES.items()):
            with contextlib.suppress(AssertionError, ValueError):  # the right size, but not these files
                return _read_unpacked(raw)
        return _unpack(Path(data_dir), raw)
    except OSError as error:
        raise UserError(f"cannot read MNIST in {raw}: {error.strerror or error}; see --data-dir") from error


def _size(path):
    return path.stat().st_size if path.is_file() else -1


def _read_unpacked(raw):
    def read(reader, name):
        return reader(str(raw / name))

    return Data(
        read(read_image_file, "train-images-idx3-ubyte").view(-1, PIXELS),
        read(read_label_file, "train-labels-idx1-ubyte"),
        read(read_image_file, "t10k-images-idx3-ubyte").view(-1, PIXELS),
        read(read_label_file, "t10k-labels-idx1-ubyte"),
    )


def _unpack(data_dir, raw):
    """Unpack in a private folder and move the files into place whole: two runs at once cannot disturb one
    another, nor a killed one the next. A data folder that cannot be written to is left as it is."""
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
        scratch = tempfile.TemporaryDirectory(prefix=".unpack-", dir=data_dir)
    except OSError:
        scratch = tempfile.TemporaryDirectory(prefix="mnist-")
    with scratch as root:
        private = Path(root) / "MNIST" / "raw"
        private.mkdir(parents=True)
        lacking = []
        for name, md5 in MNIST.resources:
            if check_integrity(str(raw / name), md5):
                shutil.copyfile(raw / name, private / name)
            else:
                lacking.append(f"{name} ({'damaged' if (raw / name).exists() else 'missing'})")
        if lacking:
            say(f"Downloading MNIST: {', '.join(lacking)} in {raw}")
        try:
            with contextlib.redirect_stdout(io.StringIO()):
                MNIST(root, download=True)
        except (RuntimeError, http.client.HTTPException) as error:
            raise UserError(
                f"MNIST cannot be downloaded, and in {raw} there is no good copy of {', '.join(lacking)}: "
                "restore the archives with `git checkout data`, or connect to a network"
            ) from error
        data = _read_unpacked(private)
        with contextlib.suppress(OSError):  # a read-only data folder: the next run unpacks again
            raw.mkdir(parents=True, exist_ok=True)
            for name in UNPACKED_BYTES:
                os.replace(private / name, raw / name)
        return data


class Batches:
    """Minibatches of images, [batch, 784] float32 in [0, 1]: iterate over it once per epoch.

    The images stay in memory as bytes and each batch is one gather from them. Decoding every image again
    in every epoch, as `DataLoader(MNIST(transform=ToTensor()))` does, takes longer than the training.

    Args:
        images: [n, 784] uint8, on the device where the batches are wanted.
        batch_size: images per batch; the last batch of an epoch holds what is left over.
        seed: draw a new order in every epoch, from a generator with this seed. None keeps the order.
    """

    def __init__(self, images, batch_size, seed=None):
        self.images, self.batch_size = images, batch_size
        self.generator = None if seed is None else torch.Generator().manual_seed(seed)

    def __len__(self):
        return math.ceil(len(self.images) / self.batch_size)

    def __iter__(self):
        if self.generator is None:
            batches = self.images.split(self.batch_size)
        else:
            order = torch.randperm(len(self.images), generator=self.generator).to(self.images.device)
            batches = (self.images.index_select(0, chosen) for chosen in order.split(self.batch_size))
        for batch in batches:
            yield to_float(batch)


def to_float(images):
    """[n, 784] uint8 -> [n, 784] float32 in [0, 1]."""
    return images.float().div_(255)


def first_of_each_digit(labels):
    """The index of the first image of each digit, [10]: the same ten pictures for every model."""
    return torch.stack([(labels == digit).nonzero()[0, 0] for digit in range(10)])


def pixel_entropy(images):
    """The floor of the binary cross-entropy: what a perfect reconstruction of these images still costs.

    A pixel of brightness x reconstructed as x costs -x log x - (1 - x) log(1 - x), which is 0 only for
    black and white. Grey pixels make it 0.05808 on MNIST's test set.

    Args:
        images: [n, 784] uint8.

    Returns:
        nats per pixel, a float.
    """
    x = torch.arange(256, dtype=torch.float64) / 255
    entropy = -(torch.xlogy(x, x) + torch.xlogy(1 - x, 1 - x))
    return (torch.bincount(images.flatten().cpu(), minlength=256).double() @ entropy).item() / images.numel()


# ---------------------------------------------------------------------------------------------------------
# 3. Model


class Autoencoder(nn.Module):
    """One linear layer to the code and one back; a script's subclass adds the activation and the penalty.

        hidden         = s · (x - mean) Wᵀ + b       [batch, hidden]
        code           = activation(hidden)          [batch, hidden]
        output         = t · code · dictionary + c   [batch, 784], the logits
        reconstruction = sigmoid(output)             [batch, 784], in [0, 1]

    Row j of `dictionary` (column j of the decoder's matrix) is, up to the factor t, the picture that unit j draws.

    Args:
        hidden: number of units in the code.
    """

    active_above = 0.0  # a unit is active on an image when its code is above this
    input_scale = 1.0  # s above; see SparseL1
    code_scale = 1.0  # t above; see SparseKL
    probe_widths = (1,)  # multiples of the training's active units that the linear probe tries
    bfloat16_code = True  # with --precision bfloat16, whether training keeps code and logits in bfloat16 too
    loss_name = "BCE"
    loss_note = ""  # what a reader of the loss graph has to know

    def __init__(self, hidden):
        super().__init__()
        self.encoder = nn.Linear(PIXELS, hidden)
        self.dictionary = nn.Parameter(torch.empty(hidden, PIXELS))
        self.decoder_bias = nn.Parameter(torch.empty(PIXELS))
        self.register_buffer("mean_image", torch.empty(PIXELS))

    def activation(self, hidden):
        """[batch, hidden] pre-activations -> [batch, hidden] code."""
        raise NotImplementedError

    def penalty(self, code):
        """[batch, hidden] code as `training_pass` gives it -> float32 scalar, what sparsity costs, already weighted."""
        raise NotImplementedError

    def pre_activation(self, images):
        """[batch, 784] images in [0, 1] -> [batch, hidden] pre-activations."""
        centred = images - self.mean_image
        return torch.addmm(self.encoder.bias, centred, self.encoder.weight.T, alpha=self.input_scale)

    def encode(self, images):
        """[batch, 784] images in [0, 1] -> [batch, hidden] code."""
        return self.activation(self.pre_activation(images))

    def output(self, code):
        """[batch, hidden] code -> [batch, 784] what the loss is taken on: the logits."""
        return torch.addmm(self.decoder_bias, code, self.dictionary, alpha=self.code_scale)

    def decode(self, code):
        """[batch, hidden] code -> [batch, 784] images in [0, 1]."""
        return self.squash(self.output(code))

    def squash(self, output):
        """[batch, 784] output -> [batch, 784] images in [0, 1]."""
        return output.sigmoid()

    def forward(self, images):
        """[batch, 784] images -> ([batch, 784] reconstruction in [0, 1], [batch, hidden] code)."""
        code = self.encode(images)
        return self.decode(code), code

    def reconstruction_loss(self, output, images):
        """Binary cross-entropy on logits, mean over images and pixels, in nats: a scalar."""
        return BinaryCrossEntropy.apply(output, images)

    def training_pass(self, images):
        """[batch, 784] images -> ([batch, 784] output, [batch, hidden] code) that training takes its loss on. A method
        may train with more active units than it has later, and give their values alone: [batch, active units]."""
        code = self.encode(images)
        return self.output(code), code

    def probe_code(self, images, width):
        """As `encode`, with `width` times as many active units where the method sets their number."""
        return self.encode(images)

    def own_figures(self, report):
        """Lines that only this method's report has: a dict from a label to a text."""
        return {}

    def start_epoch(self, progress):
        """Called before each epoch of training with the part of it that lies behind, in [0, 1): the factor on the
        learning rate."""
        return 1.0

    @torch.no_grad()
    def initialise(self, images):
        """Start from what the training images say, [n, 784] uint8; torch's default start leaves more than
        half of a ReLU code dead, for it sees only positive inputs.

        - The encoder sees deviations from the mean image, and the decoder starts by drawing that image.
        - Units come in pairs that point along a direction and against it, in the decoder too: with a ReLU, a pair
          passes its direction on exactly. The directions are orthonormal and span the first principal components,
          so training starts from the best linear code. They are turned at random within that span, or else the
          units of the last components would have next to nothing to fire on.
        """
        mean, components = principal_components(images.cpu())  # in float64, which not every device has
        self.mean_image.copy_(mean)
        self.decoder_bias.copy_(mean.clamp(1e-3, 1 - 1e-3).logit())
        pairs = min(len(self.dictionary) // 2, 256)  # later components are border pixels that hardly change
        turn = torch.linalg.qr(torch.randn(pairs, pairs)).Q
        directions = torch.randn(self.dictionary.shape) / math.sqrt(PIXELS)  # for the units that are left over
        directions[:pairs] = turn @ components[:pairs]
        directions[pairs : 2 * pairs] = -directions[:pairs]
        self.dictionary.copy_(directions)
        self.encoder.weight.copy_(directions / self.input_scale)
        self.encoder.bias.zero_()


class BinaryCrossEntropy(torch.autograd.Function):
    """Mean over images and pixels of softplus(z) - x z, in nats, for logits z and images x, both [batch, 784].

    The same as torch's `binary_cross_entropy_with_logits`, but quicker: the gradient, (sigmoid(z) - x) / numel, needs
    the sigmoid anyway, and softplus(z) = z - log sigmoid(z). The images are constants to it.
    """

    @staticmethod
    def forward(ctx, logits, images):
        logits = logits.float()
        reward = torch.dot(logits.flatten(), images.flatten())
        logits = logits.clamp(min=-80)  # softplus is 0 there, and below it float32's sigmoid would be 0, without a log
        linear = logits.sum(dim=1)
        sigmoid = logits.sigmoid_()  # in place: `logits` is our own copy
        # Image by image, for these are small differences of large sums.
        softplus = linear - sigmoid.log().sum(dim=1)
        ctx.save_for_backward(sigmoid.sub_(images))
        return (softplus.sum() - reward) / images.numel()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad):
        (error,) = ctx.saved_tensors
        return error * (grad / error.numel()), None


def principal_components(images):
    """Mean and principal components of images.

    Args:
        images: [n, 784] uint8.

    Returns:
        the mean image, [784], and the components, [784, 784] with orthonormal rows, largest variance first.
    """
    total = sum(batch.sum(dim=0, dtype=torch.float64) for batch in Batches(images, 2_000))
    mean = (total / len(images)).float()
    centred = (batch.sub_(mean) for batch in Batches(images, 2_000))
    covariance = sum(batch.T @ batch for batch in centred)
    return mean, torch.linalg.eigh(covariance.double()).eigenvectors.flip(1).T.float()


# ---------------------------------------------------------------------------------------------------------
# 4. Training


class History(NamedTuple):
    """One number per epoch. Losses are means over all images of the set, not over batches."""

    train_loss: list  # reconstruction loss and penalty, averaged while the weights moved
    train_reconstruction: list  # the reconstruction loss alone
    test_loss: list  # reconstruction loss on all test images, at the end of the epoch


def train(model, data, *, epochs, batch_size, lr, seed, precision="float32", label="training"):
    """Train `model` in place, on the device that it and `data` are on, with Adam; it ends in evaluation mode.

    The same arguments on the same machine give bit-identical weights.

    Args:
        model: an Autoencoder; it is initialised here.
        data: Data.
        epochs, batch_size, lr, seed: as on the command line.
        precision: of the matrix products, and of what `Autoencoder.bfloat16_code` says: "float32" or "bfloat16".
        label: what the progress bar is called.

    Returns:
        History.

    Raises:
        UserError: the loss became NaN, infinite or absurd.
    """
    torch.manual_seed(seed)
    model.initialise(data.train_images)
    untrained = test_loss(model.eval(), data.test_images)
    batches = Batches(data.train_images, batch_size, seed)
    optimizer = make_optimizer(model, lr)
    history = History([], [], [])
    interactive = sys.stderr.isatty()
    with tqdm(total=epochs, desc=label, unit="epoch", disable=not interactive) as bar:
        for epoch in range(epochs):
            optimizer.param_groups[0]["lr"] = lr * model.start_epoch(epoch / epochs)
            train_loss, train_reconstruction = train_epoch(model, batches, optimizer, precision)
            after = test_loss(model.eval(), data.test_images)
            # Far worse than before training is as lost as NaN: BCE on logits stays finite for long.
            worst = max(train_reconstruction, after)
            if not (math.isfinite(train_loss + worst) and worst < 100 * untrained):
                raise UserError(
                    f"training diverged in epoch {epoch + 1} of {epochs}: train loss {train_loss:.4g}, test "
                    f"loss {after:.4g}; no weights were written; try a smaller --lr than {lr:g}"
                )
            for values, value in zip(history, (train_loss, train_reconstruction, after), strict=True):
                values.append(value)
            bar.set_postfix_str(f"train loss {train_loss:.4f}, test loss {after:.4f}", refresh=False)
            bar.update()
            if not interactive and (epoch + 1) % math.ceil(epochs / 20) == 0:
                say(f"{label}: epoch {epoch + 1}/{epochs}, train loss {train_loss:.4f}, test loss {after:.4f}")
    return history


def make_optimizer(model, lr):
    """Adam over the model's parameters, all of them in one fused step where torch has one."""
    fused = next(model.parameters()).device.type in ("cpu", "cuda")
    return torch.optim.Adam(model.parameters(), lr=lr, fused=fused)


def train_epoch(model, batches, optimizer, precision):
    """One pass over `batches`: the mean loss with penalty, and of the reconstruction alone, over all images."""
    model.train()
    device = batches.images.device
    total = torch.zeros(2, device=device)
    # matmul_precision rounds the factors of a product only; autocast keeps its result in bfloat16 too.
    autocast = precision == "bfloat16" and model.bfloat16_code
    with matmul_precision(precision):
        for images in batches:
            with torch.autocast(device.type, torch.bfloat16, enabled=autocast):
                output, code = model.training_pass(images)
            reconstruction = model.reconstruction_loss(output, images)
            loss = reconstruction + model.penalty(code)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            # Weighted by images, for the last batch may be short; read once per epoch, not once per batch.
            total += torch.stack([loss.detach(), reconstruction.detach()]) * len(images)
    return (total / len(batches.images)).tolist()


@contextlib.contextmanager
def matmul_precision(precision):
    """float32 matrix products inside the block with bfloat16 factors (on CUDA: TF32), or in full."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium" if precision == "bfloat16" else "highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def fastest_precision(device):
    """The cheapest precision that this machine's matrix units have: bfloat16 where it is built in."""
    if device.type == "cpu":
        capabilities = getattr(torch.cpu, "get_capabilities", dict)()  # torch 2.6 cannot tell
        built_in = capabilities.get("avx512_bf16") or capabilities.get("amx_bf16")
    else:
        built_in = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    return "bfloat16" if built_in else "float32"


# ---------------------------------------------------------------------------------------------------------
# 5. Evaluation


class Report(NamedTuple):
    """What a model is worth, on all test images."""

    loss: float  # reconstruction loss, as in training and without the penalty
    floor: float  # the least that loss can be: the pixel entropy for BCE, 0 for MSE
    mse: float  # mean squared error per pixel of the reconstruction in [0, 1]: comparable between methods
    active: float  # active units per image, mean (L0)
    dead: int  # units that are active on no test image
    mean_code: float  # mean of the code over images and units (mean ρ̂ for KL)
    frequency: torch.Tensor  # [hidden], part of the test images on which a unit is active
    class_means: torch.Tensor  # [10, hidden], mean code per digit


@torch.no_grad()
def test_loss(model, images):
    """Mean reconstruction loss, without the penalty, over [n, 784] uint8 images: a float."""
    total = sum(
        model.reconstruction_loss(model.output(model.encode(batch)), batch) * len(batch)
        for batch in Batches(images, 2_000)
    )
    return total.item() / len(images)


@torch.no_grad()
def evaluate(model, images, labels):
    """Measure `model` on [n, 784] uint8 images with labels [n].

    Returns:
        Report.
    """
    hidden = len(model.dictionary)
    loss, squared_error, fired = 0.0, 0.0, torch.zeros(hidden, device=images.device)
    class_sums = torch.zeros(10, hidden, device=images.device)
    for batch, digits in zip(Batches(images, 2_000), labels.split(2_000), strict=True):
        code = model.encode(batch)
        output = model.output(code)
        loss += model.reconstruction_loss(output, batch) * len(batch)
        squared_error += (model.squash(output) - batch).square().mean() * len(batch)
        fired += (code > model.active_above).sum(dim=0)
        class_sums.index_add_(0, digits, code)
    frequency = fired / len(images)
    return Report(
        loss=loss.item() / len(images),
        floor=pixel_entropy(images) if model.loss_name == "BCE" else 0.0,
        mse=squared_error.item() / len(images),
        active=frequency.sum().item(),
        dead=(fired == 0).sum().item(),
        mean_code=class_sums.sum().item() / (len(images) * hidden),
        frequency=frequency.cpu(),
        class_means=(class_sums / torch.bincount(labels, minlength=10)[:, None]).cpu(),
    )


class Probe(NamedTuple):
    """How well a linear classifier reads the digit off a code."""

    error: float  # percent of the test images that it gets wrong
    validation_error: float  # percent of the last 10,000 training images, for the choices below
    width: int  # the code was encoded with this multiple of the active units of the training
    l2: float  # weight of the squared norm of the classifier's weights


PROBE_L2 = (1e-3, 3e-4, 1e-4, 3e-5, 1e-5)


def probe(encode, data, widths=(1,), l2_grid=PROBE_L2):
    """Multinomial logistic regression on frozen codes, as in Makhzani and Frey 2013, section 4.

    Strength of the L2 penalty and width are chosen on the last sixth of the training images; then the classifier is
    fitted to all of them, and the test labels are looked at once.

    Args:
        encode: (images [batch, 784], width) -> code [batch, units]; for raw pixels, give the images back.
        data: Data.
        widths: what to try as `width`.
        l2_grid: what to try as strength, strongest first.

    Returns:
        Probe.
    """

    def codes(images, width):
        with torch.no_grad():
            return torch.cat([encode(batch, width) for batch in Batches(images, 5_000)])

    labels, fitted = data.train_labels, len(data.train_labels) * 5 // 6
    choices = []
    for width in widths:
        code, weights = codes(data.train_images, width), None
        code *= unit_scale(code)
        for l2 in l2_grid:
            weights = logistic_regression(code[:fitted], labels[:fitted], l2, weights)
            choices.append((error_percent(weights, code[fitted:], labels[fitted:]), width, l2))
    validation_error, width, l2 = min(choices)
    del code  # before the next of its size
    code = codes(data.train_images, width)
    scale = unit_scale(code)
    weights = logistic_regression(code.mul_(scale), labels, l2)
    error = error_percent(weights, codes(data.test_images, width) * scale, data.test_labels)
    return Probe(error, validation_error, width, l2)


def unit_scale(code):
    """One factor for all units that brings a code's mean squared norm to 100, so that one range of L2 strengths suits
    every code."""
    return 10 / code.square().sum(dim=1).mean().sqrt().clamp(min=1e-12)


def logistic_regression(code, labels, l2, start=None):
    """Minimise cross-entropy + `l2` · |weights|² with L-BFGS, to convergence.

    Args:
        code: [n, units].
        labels: [n], 0 to 9.
        l2: strength.
        start: weights to start from.

    Returns:
        weights, [10, units + 1], the bias last.
    """
    weights = torch.zeros(10, code.shape[1] + 1, device=code.device) if start is None else start.clone()
    weights.requires_grad_()
    optimizer = torch.optim.LBFGS(
        [weights], max_iter=300, history_size=20, tolerance_grad=1e-6, tolerance_change=0, line_search_fn="strong_wolfe"
    )

    def closure():
        optimizer.zero_grad()
        loss = F.cross_entropy(F.linear(code, weights[:, :-1], weights[:, -1]), labels)
        loss = loss + l2 * weights[:, :-1].square().sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    return weights.detach()


def error_percent(weights, code, labels):
    """Percent of the codes [n, units] that logistic-regression weights [10, units + 1] misjudge."""
    wrong = F.linear(code, weights[:, :-1], weights[:, -1]).argmax(dim=1) != labels
    return 100 * wrong.sum().item() / len(labels)


# ---------------------------------------------------------------------------------------------------------
# 6. Checkpoints


class Info(NamedTuple):
    """What a checkpoint says of the weights in it."""

    name: str  # "sparse_l1", "sparse_kl", "sparse_ksparse_k25", ...
    config: dict  # every hyperparameter that the training depended on, by its option's name
    history: History


MAX_CHECKPOINT_BYTES = 1 << 28


def save_checkpoint(path, method, model, info):
    """Write the weights of a model on the CPU, hyperparameters and history to `path`, as `write_whole` does."""
    content = {
        "method": method.name,
        "config": info.config,
        "history": info.history._asdict(),
        "weights": dict(model.state_dict()),
    }
    buffer = io.BytesIO()
    torch.save(content | {"sha256": _digest(content)}, buffer)
    write_whole(path, buffer.getbuffer(), "make room or see --checkpoint")


def write_whole(path, content, advice):
    """Write bytes to a file that appears whole or not at all; one that is there already stays until then.

    Raises:
        UserError: the file cannot be written; its text ends in `advice`.
    """
    temporary = path.with_name(f".{os.getpid()}.tmp")  # a dot-file, never taken for what it may be a part of
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(temporary, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        raise UserError(f"cannot write {shown(path)}: {error.strerror or error}; {advice}") from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def load_checkpoint(path, methods):
    """Read a checkpoint and build its model, without trusting the file.

    Args:
        path: the file.
        methods: the Methods that it may belong to.

    Returns:
        (model on the CPU in evaluation mode, Info).

    Raises:
        UserError: the file is missing, damaged, of another method, or claims more than it holds.
    """
    content = _read_untrusted(path)
    try:
        checksum = content.pop("sha256")
        name, config, weights = content["method"], content["config"], content["weights"]
        history = History(**content["history"])
        if _digest(content) != checksum:
            raise ValueError("its contents do not match its checksum")
        method = next((method for method in methods if method.name == name), None)
        if method is not None:
            model = _build_checked(method, config, history, weights)
    except Exception as error:  # whatever a hand-made file makes of the lines above
        raise _damaged(path, error) from error
    if method is None:
        wanted = " or ".join(method.name for method in methods)
        raise UserError(f"{shown(path)} holds weights of {name!r:.40}, not of {wanted}: see --checkpoint")
    return model.eval(), Info(method.full_name(config), config, history)


def _build_checked(method, config, history, weights):
    if set(config) != {"precision", *(option.name for option in method.all_options())}:
        raise ValueError("its hyperparameters are not this method's")
    for option in method.all_options():
        if option.parse(str(config[option.name])) != config[option.name]:
            raise ValueError(f"its {option.name} is not a number")
    if config["precision"] not in ("float32", "bfloat16"):
        raise ValueError("its precision is unknown")
    if not all(type(value) is float and math.isfinite(value) for values in history for value in values):
        raise ValueError("its history is not made of finite numbers")
    if len({len(values) for values in history} | {config["epochs"]}) != 1:
        raise ValueError("its history does not have one entry per epoch")
    with torch.device("meta"):  # shapes only: a claim of ten billion units allocates nothing
        expected = method.build(config).state_dict()
    if {key: value.shape for key, value in expected.items()} != {key: value.shape for key, value in weights.items()}:
        raise ValueError("the shapes of its weights do not fit its hyperparameters")
    if not all(value.dtype == torch.float32 and value.isfinite().all() for value in weights.values()):
        raise ValueError("its weights are not all finite float32 numbers")
    model = method.build(config)
    model.load_state_dict(weights)
    return model


def _read_untrusted(path):
    if not path.is_file():
        raise UserError(f"there are no weights at {shown(path)}: train them with --train")
    try:
        size = path.stat().st_size
        if size > MAX_CHECKPOINT_BYTES:
            raise ValueError(f"it is {size:,} bytes long")
        # The zip's checksums are verified before torch sees the file, since torch does not look at them.
        file = io.BytesIO(path.read_bytes())
        with zipfile.ZipFile(file) as archive:
            entries = archive.infolist()
            if any(e.compress_type != zipfile.ZIP_STORED for e in entries) or sum(e.file_size for e in entries) > size:
                raise ValueError("it claims to hold more than it does")
            if archive.testzip() is not None:
                raise ValueError("its contents do not match their checksums")
        file.seek(0)
        return torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # zipfile, pickle and torch raise many kinds on damaged files
        raise _damaged(path, error) from error


def _damaged(path, error):
    why = str(error).split("\n")[0][:100] or type(error).__name__
    return DamagedCheckpoint(f"{shown(path)} is not a good checkpoint ({why}): restore it, or replace it with --train")


def _digest(content):
    """SHA-256 of a checkpoint's content: names and numbers as JSON, then the weights in the order of their
    names, shape and bytes."""
    plain = {key: value for key, value in content.items() if key != "weights"}
    digest = hashlib.sha256(json.dumps(plain, sort_keys=True).encode())
    for key, value in sorted(content["weights"].items()):
        if value.nbytes > value.untyped_storage().nbytes():  # a view that repeats few numbers many times
            raise ValueError("it claims to hold more than it does")
        digest.update(f"{key} {tuple(value.shape)}".encode() + value.contiguous().numpy().tobytes())
    return digest.hexdigest()


def load_pretrained(name):
    """The model of a shipped checkpoint, ready to use from Python.

    Args:
        name: "sparse_l1", "sparse_kl", "sparse_ksparse_k25", ..., or the path of a checkpoint file.

    Returns:
        (model, info): an Autoencoder on the CPU in evaluation mode, and its Info. `model.encode(images)`
        gives the code, `model.decode(code)` images, `model(images)` both.

    Raises:
        UserError: there is no such checkpoint, or it is damaged.
    """
    path = Path(name)
    if not path.is_file():
        path = ROOT / "checkpoints" / f"{name}.pt"
    return load_checkpoint(path, [importlib.import_module(module).METHOD for module in METHODS])


def shown(path):
    """A path as the user would type it: short when it lies below the working directory."""
    with contextlib.suppress(ValueError, OSError):
        return str(Path(path).resolve().relative_to(Path.cwd()))
    return str(path)


# ---------------------------------------------------------------------------------------------------------
# 7. Pictures

INK, ACCENT, QUIET = "#1f2933", "#c2410c", "#7b8794"
DPI = 100


def save_figure(figure, path):
    """Write a PNG, the same bytes for the same picture, as `write_whole` does."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=DPI, facecolor="white", metadata={"Software": None})
    write_whole(path, buffer.getbuffer(), "make room or see --output-dir")


def mosaic(images, columns, gap=1, zoom=1):
    """Tile pictures, row by row, with NaN in the gaps between them.

    Args:
        images: [n, 784].
        columns: pictures per row.
        gap: pixels between pictures.
        zoom: screen pixels per image pixel.

    Returns:
        a 2-d float array.
    """
    rows, side = math.ceil(len(images) / columns), 28 * zoom + gap
    tiled = np.full((rows * side + gap, columns * side + gap), np.nan, dtype=np.float32)
    for index, image in enumerate(images.view(-1, 28, 28).numpy().repeat(zoom, axis=1).repeat(zoom, axis=2)):
        top, left = gap + index // columns * side, gap + index % columns * side
        tiled[top : top + 28 * zoom, left : left + 28 * zoom] = image
    return tiled


def picture(pixels, title, left=0, bottom=0, **imshow):
    """A figure that shows a 2-d array pixel for pixel under a title.

    Args:
        pixels: the array.
        title: one line above it.
        left, bottom: screen pixels kept free beside and below it.
        **imshow: passed on to matplotlib.

    Returns:
        (figure, axes): the axes' unit is one element of the array.
    """
    margin, top = 12, 44
    height, width = pixels.shape[0] + top + margin + bottom, pixels.shape[1] + left + 2 * margin
    figure = Figure(figsize=(width / DPI, height / DPI))
    box = (left + margin) / width, (margin + bottom) / height, pixels.shape[1] / width, pixels.shape[0] / height
    axes = figure.add_axes(box)
    axes.imshow(pixels, interpolation="nearest", aspect="auto", **imshow)
    axes.axis("off")
    figure.text((left + margin) / width, 1 - 16 / height, title, size=11, color=INK, va="top")
    return figure, axes


def plot_loss(info, model, floor):
    """Loss against epochs: train with and without the penalty, test, and the floor."""
    history = info.history
    epochs = range(1, len(history.test_loss) + 1)
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.add_subplot()
    marker = "o" if len(epochs) == 1 else None  # one point makes no line
    if history.train_loss != history.train_reconstruction:
        axes.plot(epochs, history.train_loss, color=QUIET, label="train, with penalty (while learning)")
    axes.plot(
        epochs, history.train_reconstruction, color=INK, marker=marker, label="train, reconstruction (while learning)"
    )
    axes.plot(epochs, history.test_loss, color=ACCENT, marker=marker, label="test, reconstruction (end of epoch)")
    if floor:
        axes.axhline(floor, color=INK, lw=1, ls=":", label=f"floor {floor:.4f}: the pixels' entropy")
    else:
        axes.set_yscale("log")
    if model.loss_note:
        axes.plot([], [], " ", label=model.loss_note)
    axes.set(xlabel="epoch", ylabel=f"{model.loss_name} per pixel", title=f"{info.name}: loss while training")
    axes.set_xlim(1, max(2, len(epochs)))
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    return figure


def plot_rows(rows, title):
    """Ten pictures per row, every row with its name at the left.

    Args:
        rows: a dict from a row's name to images, [10, 784] in [0, 1].
        title: one line above.
    """
    gap, zoom = 4, 2
    tiled = np.nan_to_num(mosaic(torch.cat(list(rows.values())), 10, gap, zoom))
    figure, axes = picture(tiled, title, left=90, cmap="gray_r", vmin=0, vmax=1)
    for row, name in enumerate(rows):
        axes.text(-10, (row + 0.5) * (28 * zoom + gap), name, size=10, color=INK, ha="right", va="center")
    return figure


def plot_features(model, info, report):
    """The pictures that the units draw: the rows of the dictionary, the most often active unit first."""
    order = report.frequency.argsort(descending=True, stable=True)
    features = model.dictionary.detach().cpu()[order]
    columns = 32 if len(features) <= 512 else 40
    limit = torch.quantile(features.abs().flatten()[::5], 0.998).item()
    colours = matplotlib.colormaps["RdBu_r"].with_extremes(bad="#d9dde2")
    title = f"{info.name}: what each unit draws, most often active first (red adds ink, blue takes it away)"
    figure, axes = picture(mosaic(features, columns), title, cmap=colours, vmin=-limit, vmax=limit)
    for index in (report.frequency[order] == 0).nonzero().flatten().tolist():  # cross out the dead
        x, y = index % columns * 29 + 1, index // columns * 29 + 1
        axes.plot([x, x + 27, None, x, x + 27], [y, y + 27, None, y + 27, y], color="black", lw=1)
    return figure


def plot_codes(info, report):
    """Mean code per digit: one row a digit, one column a unit, units grouped by the digit they prefer."""
    means = report.class_means
    peak, preferred = means.max(dim=0)
    share = peak / means.sum(dim=0).clamp(min=1e-12)  # 1: fires for one digit alone; 0.1: for all alike
    order = np.lexsort((-share.numpy(), preferred.numpy()))
    relative = (means / peak.clamp(min=1e-12))[:, order].numpy()
    zoom = max(1, round(960 / len(order)))
    pixels = relative.repeat(zoom, axis=1).repeat(24, axis=0)
    title = f"{info.name}: mean code per digit, each unit relative to its highest"
    figure, axes = picture(pixels, title, left=30, bottom=26, cmap="magma_r", vmin=0, vmax=1)
    for digit in range(10):
        axes.text(-8, digit * 24 + 12, digit, size=10, color=INK, ha="right", va="center")
    for edge in np.flatnonzero(np.diff(preferred.numpy()[order])):
        axes.axvline((edge + 1) * zoom - 0.5, color=QUIET, lw=0.6)
    note = f"{len(order)} units, grouped by the digit they prefer, the most selective of each group first"
    axes.text(0, pixels.shape[0] + 8, note, size=9, color=QUIET, va="top")
    return figure


def show(paths):
    """Open a window for each PNG, when there is a display."""
    from matplotlib import pyplot  # only here: it picks a window system

    if pyplot.get_backend().lower() == "agg":
        return say("There is no display for --show: look at the files above.")
    for path in paths:
        pixels = pyplot.imread(path)
        figure = pyplot.figure(path.stem, figsize=(pixels.shape[1] / DPI, pixels.shape[0] / DPI))
        figure.add_axes((0, 0, 1, 1)).imshow(pixels)
        figure.axes[0].axis("off")
    pyplot.show()


# ---------------------------------------------------------------------------------------------------------
# 8. Command line


class Option(NamedTuple):
    """A hyperparameter as an option of the command line."""

    name: str  # "l1_weight" is --l1-weight
    parse: callable  # str -> value; raises argparse.ArgumentTypeError
    help: str
    several: bool = False  # takes one or more values and makes a model for each


class Method(NamedTuple):
    """What a script tells common.main about its method."""

    name: str  # the script's, without .py
    model: type  # a subclass of Autoencoder; takes `hidden` and the method's own options
    defaults: dict  # hyperparameters: hidden, epochs, batch_size, lr, and the method's own
    options: list  # an Option for each of the method's own

    def all_options(self):
        """The method's own options and those that every training has."""
        return [*self.options, *SHARED_OPTIONS]

    def build(self, config):
        """The method's model with the hyperparameters in the dict `config`."""
        return self.model(config["hidden"], **{option.name: config[option.name] for option in self.options})

    def full_name(self, config):
        """The name of the files: the method's, with the value of an option that takes several: sparse_ksparse_k25."""
        return self.name + "".join(f"_{o.name}{config[o.name]}" for o in self.options if o.several)


def number(kind=float, *, above=None, at_least=None, below=None):
    """An argparse type: a finite number of `kind` in a range."""

    def parse(text):
        with contextlib.suppress(ValueError, OverflowError):
            value = kind(text)
            if (
                math.isfinite(value)
                and (above is None or value > above)
                and (at_least is None or value >= at_least)
                and (below is None or value < below)
            ):
                return value
        bounds = [("above", above), ("at least", at_least), ("below", below)]
        wanted = " and ".join(f"{word} {bound:g}" for word, bound in bounds if bound is not None)
        raise argparse.ArgumentTypeError(f"{text!r} is not a {'whole ' * (kind is int)}number {wanted}")

    return parse


class Parser(argparse.ArgumentParser):
    def error(self, message):
        raise UserError(f"{message} (--help lists the options)", status=2)


SHARED_OPTIONS = [
    Option("epochs", number(int, at_least=1), "passes over the 60,000 training images"),
    Option("batch_size", number(int, at_least=1), "images per step"),
    Option("lr", number(above=0), "Adam's learning rate"),
    Option("hidden", number(int, at_least=1, below=32_769), "units in the code"),
    Option("seed", number(int, at_least=0, below=2**63), "of the weights' start and the order of the images"),
]


def parse_arguments(method, arguments=None):
    """The command line as an argparse.Namespace; training options that were not given are None."""
    script = sys.modules[method.model.__module__]
    parser = Parser(
        description=script.__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--train", action="store_true", help="train anew and replace the weights")
    parser.add_argument("--probe", action="store_true", help="fit a linear classifier to the code (minutes)")
    training = parser.add_argument_group("training", "without --train they must agree with the loaded weights")
    defaults = {**method.defaults, "seed": 0}
    for option in method.all_options():
        training.add_argument(
            "--" + option.name.replace("_", "-"),
            type=option.parse,
            nargs="+" if option.several else None,
            metavar=option.name.split("_")[-1].upper(),
            help=f"{option.help} (default: {defaults[option.name]:g})",
        )
    training.add_argument(
        "--precision",
        choices=("auto", "float32", "bfloat16"),
        help="of training's matrix products, for L1 and KL of code and logits too; auto: bfloat16 where the hardware "
        "has it (default: auto)",
    )
    add = parser.add_argument_group("where and how").add_argument
    add("--device", default="auto", help="auto, cpu, cuda or mps (default: %(default)s)")
    add("--data-dir", type=Path, default=ROOT / "data", metavar="DIR", help="(default: data)")
    add("--checkpoint", type=Path, metavar="FILE", help="(default: checkpoints/NAME.pt)")
    add("--output-dir", type=Path, default=ROOT / "outputs", metavar="DIR", help="(default: outputs)")
    add("--show", action="store_true", help="open the pictures in windows too")
    return parser.parse_args(arguments)


def main(method, arguments=None):
    """What `python SCRIPT` does: load or train each model that is asked for, report on it, draw it.

    Args:
        method: the script's Method.
        arguments: list of command line words, None for the process's own.

    Raises:
        UserError: anything that the user can mend.
    """
    # For pixels that no image lights, Adam's averages decay into subnormal numbers, which are so slow on a CPU that an
    # epoch of k-sparse took a quarter longer. A thread takes the setting from its parent: so here, before there is any.
    torch.set_flush_denormal(True)
    sys.stdout, sys.stderr = (stream or open(os.devnull, "w") for stream in (sys.stdout, sys.stderr))
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="replace")  # a terminal that has no ρ shows ? and goes on
    options = parse_arguments(method, arguments)
    device = pick_device(options.device)
    plans = [plan(method, options, device, values) for values in requested(method, options)]
    check_writable(options.output_dir, "--output-dir")  # before the work, not after it
    data = Data(*(tensor.to(device) for tensor in load_mnist(options.data_dir)))
    paths, rows = [], {}
    for path, config, loaded in plans:
        model, info = loaded or train_and_save(method, config, path, data)
        report = evaluate(model.to(device), data.test_images, data.test_labels)
        say(describe(info, model, report, path))
        pairs = {"test": reconstructions(model, *data[2:]), "train": reconstructions(model, *data[:2])}
        figures = draw(model, info, report, pairs)
        for kind, figure in figures.items():
            paths.append(options.output_dir / f"{info.name}_{kind}.png")
            save_figure(figure, paths[-1])
        say("\n".join(f"  {shown(path)}" for path in paths[-len(figures) :]))
        label = ", ".join(f"{option.name} = {config[option.name]}" for option in method.options if option.several)
        rows["input"], rows[label] = pairs["test"]
        if options.probe:
            say(describe_probe(probe(model.probe_code, data, model.probe_widths)))
    if len(plans) > 1:
        paths.append(options.output_dir / f"{method.name}_comparison.png")
        save_figure(plot_rows(rows, "test images and their reconstructions"), paths[-1])
        say(f"comparison\n  {shown(paths[-1])}")
    if options.show:
        show(paths)
    if sys.stdout.name == os.devnull:
        raise UserError("standard output was closed early; weights and pictures were written all the same")


class Plan(NamedTuple):
    """One model that the command line asks for."""

    path: Path  # of its checkpoint
    config: dict  # hyperparameters to train it with
    loaded: tuple  # (model, Info), or None when it has to be trained


def requested(method, options):
    """The training options that were given: a dict for each model, {} where nothing was."""
    keys = ["precision", *(option.name for option in method.all_options())]
    given = {key: value for key in keys if (value := getattr(options, key)) not in (None, "auto")}
    for option in method.options:
        if option.several and option.name in given:
            values = given[option.name]
            if len(set(values)) < len(values):
                raise UserError(f"--{option.name} has the same value twice", status=2)
            if len(values) > 1 and options.checkpoint:
                raise UserError(f"--checkpoint takes one model, not {len(values)}: leave one of them out", status=2)
            return [{**given, option.name: value} for value in values]
    return [given]


def plan(method, options, device, given):
    """Decide what one model takes, and find everything wrong with it that can be found beforehand."""
    config = {**method.defaults, "seed": 0, "precision": fastest_precision(device), **given}
    if config["batch_size"] > 60_000:
        raise UserError(f"--batch-size {config['batch_size']} is more than the 60,000 training images", status=2)
    with torch.device("meta"):
        method.build(config)  # raises what is wrong with the method's own options
    path = options.checkpoint or ROOT / "checkpoints" / f"{method.full_name(config)}.pt"
    try:
        there = path.exists()
    except OSError as error:
        raise UserError(f"cannot look at {shown(path)}: {error.strerror}; see --checkpoint") from error
    if there and not path.is_file():
        raise UserError(f"--checkpoint {shown(path)} is a folder or a device: name a file", status=2)
    if not there or options.train:
        check_writable(path.parent, "--checkpoint")
    if not there:
        say(f"There are no weights at {shown(path)}: training them.")
        return Plan(path, config, None)
    try:
        model, info = load_checkpoint(path, [method])
    except DamagedCheckpoint as error:
        if not options.train:
            raise
        say(f"{error}\nIt stays until the new weights are complete.")
    if options.train:
        return Plan(path, config, None)
    for key, value in given.items():
        if info.config[key] != value:
            flag = "--" + key.replace("_", "-")
            raise UserError(
                f"{shown(path)} was trained with {flag} {info.config[key]}, not {value}: "
                f"add --train to train anew and replace it, or leave {flag} out",
                status=2,
            )
    return Plan(path, config, (model, info))


def train_and_save(method, config, path, data):
    """Train a model with the hyperparameters in `config` and write it to `path`; (model, Info)."""
    name = method.full_name(config)
    model = method.build(config).to(data.train_images.device)
    history = train(model, data, label=name, **{key: config[key] for key in TRAIN_KEYS})
    info = Info(name, config, history)
    model.cpu()
    save_checkpoint(path, method, model, info)
    return model, info


TRAIN_KEYS = ("epochs", "batch_size", "lr", "seed", "precision")


def describe(info, model, report, path):
    """The report, as text."""
    hidden = len(model.dictionary)
    config = ", ".join(f"{key} {value}" for key, value in info.config.items())
    above = f": {report.loss - report.floor:.4f} above the floor {report.floor:.4f}" if report.floor else ""
    lines = {
        info.name: f"{PIXELS} -> {hidden} -> {PIXELS}",
        "weights": shown(path),
        "trained with": config,
        "train loss": f"{info.history.train_loss[-1]:.4f} {model.loss_name} with penalty, in the last epoch",
        "test loss": f"{report.loss:.4f} {model.loss_name}{above}",
        "test MSE": f"{report.mse:.5f} per pixel",
        "active units": f"{report.active:.1f} of {hidden} per image",
        "dead units": f"{report.dead} of {hidden}",
        **model.own_figures(report),
        "pictures": "",
    }
    return "\n".join(f"{key:<13} {value}".rstrip() for key, value in lines.items())


def describe_probe(result):
    """A Probe, as text."""
    how = f"L2 {result.l2:g}" + (f" and {result.width} k active units" if result.width > 1 else "")
    return (
        f"{'linear probe':<13} {result.error:.2f} % test error of logistic regression on the code\n"
        f"{'':<13} ({how} chosen on the last 10,000 training images: {result.validation_error:.2f} %)"
    )


def reconstructions(model, images, labels):
    """The first image of each digit and what the model makes of it: two tensors [10, 784] on the CPU."""
    inputs = to_float(images[first_of_each_digit(labels)])
    with torch.no_grad():
        return inputs.cpu(), model(inputs)[0].cpu()


def draw(model, info, report, pairs):
    """All pictures of one model: a dict from the last part of the file's name to a figure. `pairs` has what
    `reconstructions` gives for the "test" and the "train" images."""
    figures = {
        "loss": plot_loss(info, model, report.floor),
        "features": plot_features(model, info, report),
        "codes": plot_codes(info, report),
    }
    for part, (inputs, outputs) in pairs.items():
        title = f"{info.name}: {part} images and their reconstructions"
        figures[part] = plot_rows({"input": inputs, "output": outputs}, title)
    return figures


def pick_device(name):
    """--device as a torch.device; auto takes the fastest that there is.

    Raises:
        UserError: there is no such device here.
    """
    here = ["cpu"]
    if torch.backends.mps.is_available():
        here.insert(0, "mps")
    if torch.cuda.is_available():
        here.insert(0, "cuda")
    if name == "auto":
        return torch.device(here[0])
    if name.split(":")[0] not in here:
        raise UserError(f"--device {name} is not to be had here: take one of {', '.join(here)}", status=2)
    try:
        return torch.empty(0, device=name).device
    except (RuntimeError, AssertionError) as error:
        raise UserError(f"--device {name} cannot be used: take one of {', '.join(here)}", status=2) from error


def check_writable(folder, flag):
    """Make sure, before any work, that a file can be written to `folder`, which is made if need be.

    Raises:
        UserError: it cannot.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        why = "it is not a folder" if isinstance(error, FileExistsError | NotADirectoryError) else error.strerror
        raise UserError(f"cannot write to {shown(folder)}: {why}; choose another with {flag}") from error


def say(text):
    """Print a line. A reader who left (`| head -1`) or a full disk stops the printing, not the work."""
    try:
        print(text, flush=True)
    except OSError:
        sys.stdout = open(os.devnull, "w")
