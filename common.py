"""What the three sparse autoencoders share, in the order of its use:

1. data          MNIST, and minibatches of it
2. model         one linear layer each way; a script adds activation, loss and start
3. training      the loop
4. evaluation    what a model is worth, and how few of its units carry the picture
5. checkpoints   weights in a file that nobody has to trust
6. pictures      losses, reconstructions, dictionary, codes, parts
7. explore.html  the weights as the page wants them
8. command line  the options are the model, and name its files
9. files, words  what is written appears whole, what is said never stops the work

Shapes are written [batch, 784] and [batch, hidden]. Images are float32 in [0, 1], 0 being the background.
"""

import argparse
import base64
import contextlib
import difflib
import gzip
import importlib
import inspect
import io
import json
import math
import os
import re
import sys
import tempfile
import zipfile
import zlib
from numbers import Integral
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple
from urllib.parse import quote

import matplotlib
import numpy as np
import torch
import torch.nn.functional as F
from matplotlib.figure import Figure
from torch import nn
from torch.optim.lr_scheduler import LambdaLR
from tqdm import tqdm

ROOT = Path(__file__).resolve().parent
PIXELS = 28 * 28


class UserError(ValueError):
    """Something the user can mend. Its text is one line: what is wrong, and what to do."""


def require(condition, message):
    """Raise UserError with `message` unless `condition` holds."""
    if not condition:
        raise UserError(message)


def whole(number, low, high):
    """Whether `number` is a whole number, Python's or numpy's, from `low` to `high`."""
    return isinstance(number, Integral) and low <= number <= high


# 1. Data -------------------------------------------------------------------------------------------------
class Data(NamedTuple):
    train_images: torch.Tensor  # [60000, 784] uint8, 0 is the background
    train_labels: torch.Tensor  # [60000] int64, the digit
    test_images: torch.Tensor  # [10000, 784] uint8
    test_labels: torch.Tensor  # [10000] int64


def load_mnist(data_dir=ROOT / "data", train_count=60_000):
    """Data, from the archives in `data_dir`/MNIST/raw (`data_dir` is what torchvision calls the root), with the first
    `train_count` of the training images, since a few are quickly read. An archive that is missing or damaged is
    downloaded; UserError when that cannot be done."""
    require(whole(train_count, 0, 60_000), f"train_count has to be a whole number from 0 to 60000, not {train_count}")
    raw, parts = Path(data_dir) / "MNIST" / "raw", []
    for part, total, count in (("train", 60_000, train_count), ("t10k", 10_000, 10_000)):
        for kind, shape in (("images-idx3", (total, 28, 28)), ("labels-idx1", (total,))):
            path = raw / f"{part}-{kind}-ubyte.gz"
            try:
                entries = read_archive(path, shape, count)
            except (FileNotFoundError, gzip.BadGzipFile, EOFError, ValueError, zlib.error) as error:
                fetch_archive(path, "missing" if isinstance(error, FileNotFoundError) else "damaged")
                entries = read_archive(path, shape, count)
            parts.append(entries.view(count, PIXELS) if shape[1:] else entries.long())
    return Data(*parts)


def read_archive(path, shape, count):
    """The first `count` entries of an archive of bytes of this shape, as a tensor. Reading all of them verifies gzip's
    checksum. Raises OSError, EOFError, ValueError or zlib.error when the file is not there or not such an archive."""
    with gzip.open(path) as file:
        header = np.frombuffer(file.read(4 + 4 * len(shape)), dtype=">i4").tolist()
        content = bytearray(file.read(count * math.prod(shape[1:])))
        if header != [0x800 + len(shape), *shape] or (count == shape[0] and file.read(1)):
            raise ValueError("something else is in the archive")
    return torch.from_numpy(np.frombuffer(content, dtype=np.uint8).reshape(count, *shape[1:]))


def fetch_archive(path, fault):
    """Download one of MNIST's archives to `path` and verify it; UserError when that cannot be done."""
    say(f"Downloading MNIST: {path.name} is {fault} in {shown(path.parent)}")
    content = b""
    with tempfile.TemporaryDirectory() as folder, contextlib.suppress(ImportError, RuntimeError):
        from torchvision.datasets import MNIST  # only here: importing it takes as long as torch
        from torchvision.datasets.utils import download_url

        for mirror in MNIST.mirrors:
            with contextlib.suppress(Exception), contextlib.redirect_stdout(io.StringIO()):  # whatever: the next one
                download_url(mirror + path.name, folder, path.name, dict(MNIST.resources)[path.name])
                content = (Path(folder) / path.name).read_bytes()
                break
    advice = "restore it with `git checkout data`, connect to a network, or see --data-dir"
    require(content, f"{path.name} is {fault} in {shown(path.parent)} and cannot be downloaded: {advice}")
    write_whole(path, content, "--data-dir")


def to_float(images):
    """[n, 784] uint8 -> [n, 784] float32 in [0, 1], a tensor of its own. Raises UserError for other types."""
    require(images.dtype == torch.uint8, f"to_float wants bytes, torch.uint8, not {images.dtype}")
    return images.float().div_(255)


def batches(images, batch_size, generator=None):
    """Minibatches [batch, 784] float32 in [0, 1] of images [n, 784] uint8, the last with what is left over; in a new
    order drawn from a torch.Generator, or without one in their own. Each batch is one gather from bytes in memory: a
    DataLoader, which decodes every image again in every epoch, takes longer than the training."""
    if generator is None:
        return map(to_float, images.split(batch_size))
    order = torch.randperm(len(images), generator=generator).to(images.device)
    return (to_float(images.index_select(0, chosen)) for chosen in order.split(batch_size))


def pixel_entropy(images):
    """The floor of the binary cross-entropy, in nats per pixel: what a perfect reconstruction of images [n, 784] uint8
    still costs. A pixel x costs -x log x - (1 - x) log(1 - x), which is 0 only for black and white."""
    x = torch.arange(256, dtype=torch.float64) / 255
    entropy = -(torch.xlogy(x, x) + torch.xlogy(1 - x, 1 - x))
    return (torch.bincount(images.flatten().cpu(), minlength=256).double() @ entropy).item() / images.numel()


# 2. Model ------------------------------------------------------------------------------------------------
class Autoencoder(nn.Module):
    """One linear layer to the code and one back:

        hidden         = encoder(x - mean)           [batch, hidden]
        code           = activation(hidden)          [batch, hidden]
        output         = decoder(code)               [batch, 784]
        reconstruction = squash(output)              [batch, 784], in [0, 1]

    Here `mean` is the mean image of the training set. Row j of `encoder.weight` is what unit j looks for, row j of
    `dictionary` what it draws.

    A script's subclass says what makes its method different: `activation` and `squash` above, and

        initialise()                 sets the weights that training starts from; `mean_image` is there already
        loss(output, code, images)   two scalars: the reconstruction's loss, a mean over pixels, and the penalty
        after_step(progress)         constraints and schedules, after each step and once before the first, when this
                                     part of the training lies behind, in [0, 1]; by default nothing
    """

    name = None  # of the method, its script and its files: "sparse_l1"
    loss_name = "BCE"  # of the reconstruction loss: "BCE" or "MSE"
    active_above = 0.0  # a unit is active on an image when its code is above this
    encoder_speed = 1.0  # the learning rate of the encoder's weights is this many times that of the rest
    beta2 = 0.99  # of Adam: how slowly its mean of squared gradients changes
    tie_at_scale_one = False  # True: the soft tie pulls w_j to d_j; False: to the nearest multiple of it

    def __init__(self, hidden):
        super().__init__()
        require(whole(hidden, 1, 32_768), f"hidden has to be a whole number from 1 to 32768, not {hidden}")
        self.encoder = nn.Linear(PIXELS, hidden)
        self.decoder = nn.Linear(hidden, PIXELS)
        self.register_buffer("mean_image", torch.zeros(PIXELS))

    @property
    def dictionary(self):
        """[hidden, 784], a view of the decoder's weights: row j is the picture that unit j draws."""
        return self.decoder.weight.T

    def after_step(self, progress):
        pass

    def encode(self, images):
        """[..., 784] images in [0, 1] -> [..., hidden] code. Raises UserError for anything else (but does not look in
        training, where it costs time, nor at values while torch compiles or maps)."""
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
    wanted = f"encode wants a tensor [n, 784] of {dtype}, images in [0, 1], 0 being the background, not"
    require(isinstance(images, torch.Tensor), f"{wanted} a {type(images).__name__}: see torch.as_tensor")
    require(images.shape[-1:] == (PIXELS,), f"{wanted} {list(images.shape)}: see .view(-1, 784)")
    advice = "common.to_float for bytes" if images.dtype == torch.uint8 else f".to({dtype})"
    require(images.dtype == dtype, f"{wanted} {images.dtype}: see {advice}")
    if torch.compiler.is_compiling() or not images.numel():
        return
    try:
        low, high = images.min().item(), images.max().item()
    except RuntimeError:  # inside of torch.vmap a tensor has no values to look at
        return
    require(0 <= low and high <= 1, f"{wanted} values from {low:g} to {high:g}: divide bytes by 255")


class CrossEntropy(torch.autograd.Function):
    """What `cross_entropy` computes, with its gradient."""

    @staticmethod
    def forward(context, output, images):
        p = output.sigmoid()
        context.save_for_backward(p, images)
        # log(1 + exp(-|output|)) is -log(max(p, 1 - p)), which is exact where p rounds to 0 or 1.
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
TRAIN_KEYS = ("epochs", "batch_size", "lr", "weight_decay", "tie", "seed", "precision")


class History(NamedTuple):
    """One number per epoch. Losses are means over all images of the set, not over batches."""

    train_loss: list  # reconstruction loss and penalty, averaged while the weights moved
    train_reconstruction: list  # the reconstruction loss alone
    test_loss: list  # reconstruction loss on all test images, at the end of the epoch


def train(model, data, *, epochs, batch_size, lr, weight_decay, tie, seed, precision="float32", label="training"):
    """Train `model`, an Autoencoder whose weights are set anew, in place with Adam, on the device that it and `data`
    are on; it ends in evaluation mode. The same arguments on the same machine give bit-identical weights.

    Args:
        epochs: passes over the training images, at least 1
        batch_size: images per step, 1 to 60000
        lr: learning rate, above 0; it falls to 0 over the last fifth of the training
        weight_decay: of the dictionary, fades the pixels that a unit does not need, at least 0
        tie: pull of each unit's encoder row and its picture towards each other, at least 0
        seed: of the weights' start and the order of the images, at least 0
        precision: of the matrix products in training and in the graph's test loss, float32 or bfloat16
        label: what the progress is called

    Returns History. Raises UserError when an argument is out of its range, or a loss became NaN, infinite or absurd.
    """
    check_training(epochs, batch_size, lr, weight_decay, tie, seed, precision)
    trainable = all(parameter.requires_grad for parameter in model.parameters())
    require(trainable, "train sets all weights anew, and some of this model's are frozen: see requires_grad_()")
    require(model.mean_image.dtype == torch.float32, f"train wants a float32 model, not {model.mean_image.dtype}")
    batch_size, seed = int(batch_size), int(seed)  # torch does not take numpy's
    torch.manual_seed(seed)
    order = torch.Generator().manual_seed(seed)
    start(model, data.train_images)
    steps = epochs * math.ceil(len(data.train_images) / batch_size)
    optimizer = make_optimizer(model, lr, weight_decay)
    schedule = LambdaLR(optimizer, lambda step: min(1, (1 - step / steps) / COOL_DOWN))
    untrained = mean_loss(model, data.test_images, precision)
    history = History([], [], [])
    with tqdm(total=epochs, desc=label, unit="epoch", disable=None) as bar:  # None: in a terminal only
        for epoch in range(1, epochs + 1):
            minibatches = batches(data.train_images, batch_size, order)
            loss, reconstruction = train_epoch(model, minibatches, optimizer, schedule, steps, tie, precision)
            test_loss = mean_loss(model, data.test_images, precision)
            history.train_loss.append(loss)
            history.train_reconstruction.append(reconstruction)
            history.test_loss.append(test_loss)
            # Far worse than before training is as lost as NaN: BCE on logits stays finite for long.
            finite = math.isfinite(loss) and math.isfinite(reconstruction) and math.isfinite(test_loss)
            sound = finite and reconstruction <= 100 * untrained and test_loss <= 100 * untrained
            fault = f"training diverged in epoch {epoch} of {epochs}: train {loss:.4g}, test loss {test_loss:.4g}"
            require(sound, f"{fault}; no weights were written; try a smaller --lr than {lr:g}")
            progress = f"train loss {loss:.5f}, test loss {test_loss:.5f}"
            bar.set_postfix_str(progress, refresh=False)
            bar.update()
            if bar.disable and (epoch % math.ceil(epochs / 20) == 0 or epoch == epochs):
                say(f"{label}: epoch {epoch}/{epochs}, {progress}")
    return history


@torch.no_grad()
def start(model, images):
    """Set the weights and the mean image that training on images [n, 784] uint8 begins with."""
    model.mean_image.copy_(sum(batch.sum(dim=0) for batch in batches(images, 2_000)) / len(images))
    model.initialise()
    model.after_step(0.0)


def make_optimizer(model, lr, weight_decay):
    """Adam, in which the encoder's weights have a learning rate of their own and the decoder's a weight decay."""
    groups = [
        {"params": [model.encoder.weight], "lr": lr * model.encoder_speed},
        {"params": [model.decoder.weight], "weight_decay": weight_decay},
        {"params": [model.encoder.bias, model.decoder.bias]},
    ]
    fused = model.mean_image.device.type in ("cpu", "cuda")
    return torch.optim.Adam(groups, lr, betas=(0.9, model.beta2), fused=fused)


def train_epoch(model, minibatches, optimizer, schedule, steps, tie, precision):
    """One pass over minibatches [batch, 784], of a training of so many steps. Returns the means over all images of
    [loss with penalty, reconstruction loss], both while the weights moved."""
    model.train()
    count, sums = 0, torch.zeros(2, device=model.mean_image.device)  # read once per epoch, not once per batch
    for batch in minibatches:
        reconstruction, penalty = losses_of(model, batch, precision)
        loss = reconstruction + penalty
        optimizer.zero_grad()
        loss.backward()
        draw_together(model, tie)
        optimizer.step()
        schedule.step()
        model.after_step(schedule.last_epoch / steps)
        sums += torch.stack([loss, reconstruction]).detach() * len(batch)  # the last batch may be short
        count += len(batch)
    return (sums / count).tolist()


@torch.no_grad()
def draw_together(model, tie):
    """The soft tie: add to the gradients those of tie · Σ_j ‖w_j - α_j d_j‖², so that a unit looks for what it draws.

    Here w_j is the encoder's row of unit j, d_j its picture, and α_j is 1 if the model has `tie_at_scale_one`, else the
    factor at which α_j d_j comes closest to w_j (there the sum's slope along α_j is zero). It is a decay of the weights
    towards each other instead of towards zero and, like Adam's decay, no part of the loss that is reported. Its
    gradients are written out because autograd takes three times as long: a quarter of a training step of k-sparse.
    """
    encoder, decoder = model.encoder.weight, model.decoder.weight
    pictures = decoder.T
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
        code = model.encode(images)
        output = model.decoder(code)
    return model.loss(output.float(), code.float(), images)


def check_training(epochs, batch_size, lr, weight_decay, tie, seed, precision):
    """Raise UserError unless `train` can do with these arguments."""
    require(whole(epochs, 1, math.inf), f"epochs has to be a whole number of at least 1, not {epochs}")
    require(whole(batch_size, 1, 60_000), f"batch_size has to be a whole number from 1 to 60000, not {batch_size}")
    require(0 < lr < math.inf, f"lr has to be above 0, not {lr}")
    require(0 <= weight_decay < math.inf, f"weight_decay has to be at least 0, not {weight_decay}")
    require(0 <= tie < math.inf, f"tie has to be at least 0, not {tie}")
    require(whole(seed, 0, 2**63 - 1), f"seed has to be a whole number of at least 0, not {seed}")
    require(precision in ("float32", "bfloat16"), f"precision has to be float32 or bfloat16, not {precision}")


def pick_device(name):
    """--device as a torch.device, auto being the fastest that there is; UserError when there is no such device."""
    there = ["cuda"] * torch.cuda.is_available() + ["mps"] * torch.backends.mps.is_available() + ["cpu"]
    name = there[0] if name == "auto" else name
    with contextlib.suppress(RuntimeError, AssertionError):
        if name.split(":")[0] in there:
            return torch.empty(0, device=name).device
    raise UserError(f"there is no device {name} on this machine for --device: take {' or '.join(there)}")


def fastest_precision(device):
    """The cheapest precision that this machine's matrix units have: bfloat16 where it is built in."""
    on_cpu = getattr(torch.cpu, "get_capabilities", dict)() if device.type == "cpu" else {}  # torch 2.6 cannot tell
    on_gpu = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    return "bfloat16" if on_gpu or on_cpu.get("avx512_bf16") or on_cpu.get("amx_bf16") else "float32"


# 4. Evaluation -------------------------------------------------------------------------------------------
KEPT = (25, 100)  # units that the report keeps


@torch.no_grad()
def mean_loss(model, images, precision="float32"):
    """Mean reconstruction loss, without the penalty, over images [n, 784] uint8; ends the model's training mode."""
    model.eval()
    parts = [losses_of(model, batch, precision)[0] * len(batch) for batch in batches(images, 2_000)]
    return sum(parts).item() / len(images)


@torch.no_grad()
def evaluate(model, images, labels):
    """What `model` is worth on test images [n, 784] uint8 with labels [n]: a namespace, described where it is made."""
    code = torch.cat([model.encode(batch) for batch in batches(images, 2_000)])
    rest = code.median(dim=0).values
    sums = torch.zeros(2 + len(KEPT), dtype=torch.float64)
    for batch, part in zip(batches(images, 2_000), code.split(2_000), strict=True):
        output = model.decoder(part)
        drawn = [model.squash(output), *(model.decode(keep_strongest(model, part, rest, n)) for n in KEPT)]
        losses = [model.loss(output, part, batch)[0], *(F.mse_loss(image, batch) for image in drawn)]
        sums += torch.stack(losses).cpu() * len(batch)
    loss, mse, *kept = (sums / len(images)).tolist()
    frequency = (code > model.active_above).float().mean(dim=0)
    energy = model.dictionary.square()
    power = code.var(dim=0) * energy.sum(dim=1)
    one_hot = F.one_hot(labels, 10).float()
    digits = one_hot.T @ code / one_hot.sum(dim=0)[:, None]
    return SimpleNamespace(
        loss=loss,  # of the reconstruction, as in training and without the penalty
        floor=pixel_entropy(images) if model.loss_name == "BCE" else 0.0,  # the least that loss can be
        mse=mse,  # mean squared error per pixel of the reconstruction in [0, 1]: comparable between methods
        kept=dict(zip(KEPT, kept, strict=True)),  # the same with all but so many units at rest on each image
        active=frequency.sum().item(),  # units per image, mean (L0)
        dead=(frequency == 0).sum().item(),  # units that are active on no image
        idle=(power < 0.01 * power.mean()).sum().item(),  # units that draw next to nothing
        # Median over units of the share of its ink in a unit's 39 strongest pixels, 5 %; noise has 0.28.
        locality=(energy.topk(PIXELS // 20).values.sum(dim=1) / energy.sum(dim=1).clamp(min=1e-12)).median().item(),
        mean_code=code.mean().item(),  # over images and units (mean ρ̂ for KL)
        rest=rest.cpu(),  # [hidden], the median code of each unit: what it does on most images
        frequency=frequency.cpu(),  # [hidden], part of the images on which a unit is active
        digits=(digits / digits.sum(dim=0).clamp(min=1e-12)).cpu(),  # [10, hidden], their shares in a unit's mean code
    )


def contributions(model, code, rest):
    """How much each unit adds to each picture: |code - rest| · ‖d‖, [batch, hidden], for a rest value per unit."""
    return (code - rest).abs() * model.dictionary.norm(dim=1)


def keep_strongest(model, code, rest, n):
    """The code [batch, hidden] with all but the n units of largest contribution on each image at their rest value. It
    needs no threshold, and asks the same of every method: how much of the picture do n units carry?"""
    units = contributions(model, code, rest).topk(min(n, code.shape[1]), sorted=False).indices
    return rest.expand_as(code).scatter(1, units, code.gather(1, units))


def describe(model, info, report, path):
    """The report, as text."""
    hidden = len(model.dictionary)
    kept = " and ".join(f"{error:.4f} from {min(n, hidden)}" for n, error in report.kept.items())
    lines = {
        info.name: f"{PIXELS} -> {hidden} -> {PIXELS}",
        "weights": shown(path),
        "trained with": ", ".join(f"{key} {value}" for key, value in info.config.items()),
        "train loss": f"{info.history.train_loss[-1]:.4f} {model.loss_name} with penalty, in the last epoch",
        "test loss": f"{report.loss:.4f} BCE, {report.loss - report.floor:.4f} above the floor {report.floor:.4f}",
        "test MSE": f"{report.mse:.4f} per pixel; {kept} units an image, the others at rest",
        "active units": f"{report.active:.1f} of {hidden} on an image (code above {model.active_above:g})",
        "dead units": f"{report.dead} of {hidden} (active on no image)",
        "idle units": f"{report.idle} of {hidden} (they draw next to nothing)",
        "locality": f"{report.locality:.2f} of a unit's ink is in 5 % of the pixels (noise: 0.28)",
        "mean code": f"{report.mean_code:.4f}",
        "pictures": "",
    }
    if model.loss_name == "MSE":
        del lines["test loss"]  # the next line says it
    return "\n".join(f"{key:<13} {value}".rstrip() for key, value in lines.items())


# 5. Checkpoints ------------------------------------------------------------------------------------------
METHODS = ("sparse_l1", "sparse_kl", "sparse_ksparse")
MAX_CHECKPOINT_BYTES = 1 << 28


class Info(NamedTuple):
    """What is known of a model besides its weights."""

    name: str  # of its file: "sparse_l1", "sparse_ksparse_k25", ...
    config: dict  # every hyperparameter that its training depended on
    history: History


class DamagedCheckpoint(UserError):
    """A file without weights that this version can read: cut off, garbled, or of an earlier version."""


class ForeignCheckpoint(UserError):
    """A file of weights that are somebody's work, but not in the form that this program writes."""


def save_checkpoint(path, model, info):
    """Write the weights of a model on the CPU, hyperparameters and history to `path`, as `write_whole` does."""
    # A numpy number would be refused when the file is read.
    config = {key: value.item() if isinstance(value, np.generic) else value for key, value in info.config.items()}
    content = {"method": model.name, "config": config, "history": info.history._asdict()}
    buffer = io.BytesIO()
    torch.save({**content, "weights": dict(model.state_dict())}, buffer)
    write_whole(path, buffer.getbuffer(), "--checkpoint")


def load_checkpoint(path, *classes):
    """Read a checkpoint of one of these subclasses of Autoencoder without trusting the file: (model, Info), the model
    on the CPU, in evaluation mode, its parameters without gradients. Raises DamagedCheckpoint when the file is no
    checkpoint or claims more than it holds, another UserError when it is missing or of another method."""
    path = Path(path)
    require(path.is_file(), f"there are no weights at {shown(path)}: check the name, or make them with --train")
    try:
        content = read_untrusted(path)
        require_ours(path, content)
        method, config, history = content["method"], content["config"], History(**content["history"])
        cls = next((cls for cls in classes if cls.name == method), None)
        if cls:
            model = build(cls, config)
            model.load_state_dict(content["weights"])
            require(all(len(losses) == config["epochs"] for losses in history), "its history is not of its epochs")
            numbers = [torch.tensor(losses) for losses in history] + [*model.state_dict().values()]
            require(all(values.isfinite().all() for values in numbers), "its numbers are not all finite")
    except (OSError, MemoryError, DamagedCheckpoint, ForeignCheckpoint):  # it may be good, or is described already
        raise
    except Exception as error:  # zipfile, pickle, torch and the lines above raise many kinds on hand-made files
        why = "".join(filter(str.isprintable, str(error).split("\n")[0]))[:100] or type(error).__name__
        raise DamagedCheckpoint(f"{shown(path)} is not a good checkpoint ({why}): restore it, or move it") from error
    require(cls, f"{shown(path)} holds weights of {method!r:.40}, not of {' or '.join(c.name for c in classes)}")
    return model.eval().requires_grad_(False), Info(path.name.removesuffix(".pt"), config, history)


def read_untrusted(path):
    """The content of a checkpoint. Nothing in it is executed, and nothing unpacked that is larger than the file."""
    size = path.stat().st_size
    require(size <= MAX_CHECKPOINT_BYTES, f"it is {size:,} bytes long")
    file = io.BytesIO(path.read_bytes())
    with zipfile.ZipFile(file) as archive:
        stored = all(entry.compress_type == zipfile.ZIP_STORED for entry in archive.infolist())
        unpacked = sum(entry.file_size for entry in archive.infolist())
        require(stored and unpacked <= size, "it claims to hold more than it does")
        require(archive.testzip() is None, "its contents do not match their checksums")  # torch does not look
    file.seek(0)
    return torch.load(file, map_location="cpu", weights_only=True)


def require_ours(path, content):
    """Raise DamagedCheckpoint or ForeignCheckpoint when what a file holds is not ours but easily told."""
    require(isinstance(content, dict) and content, "there are no weights in it")
    if all(isinstance(value, torch.Tensor) for value in content.values()):
        what, advice = "a plain state_dict, weights without their hyperparameters", "give it to load_state_dict"
        raise ForeignCheckpoint(f"{shown(path)} is {what}: {advice} of a model that you build")
    require(isinstance(content["weights"], dict), "there are no weights in it")
    if "decoder_bias" in content["weights"]:
        raise DamagedCheckpoint(f"{shown(path)} is of an earlier version of this program: move it, and train anew")


def build(cls, config):
    """The model of a subclass of Autoencoder with the hyperparameters `config`, those of the training among them;
    UserError when one is missing, unknown or out of its range."""
    own = list(inspect.signature(cls).parameters)
    require(set(config) == {*own, *TRAIN_KEYS}, f"its hyperparameters are not those of {cls.name}")
    check_training(**{key: config[key] for key in TRAIN_KEYS})
    return cls(**{key: config[key] for key in own})


def load_pretrained(name):
    """A model ready to use from Python: `load_checkpoint` of "sparse_l1", "sparse_kl", "sparse_ksparse_k25", ..., a
    name in `checkpoints/` with or without its .pt, or the path of a file elsewhere."""
    for method in METHODS:
        importlib.import_module(method)
    ours = ROOT / "checkpoints" / f"{str(name).removesuffix('.pt')}.pt"
    elsewhere = Path(name).is_file() and not ours.is_file()
    return load_checkpoint(name if elsewhere else ours, *Autoencoder.__subclasses__())


def model_name(cls, defaults, given):
    """The name of a model's files, from the training options that were given: the method, and every option that differs
    from its default. k always does: it is what one asks for. A list of values names a comparison."""
    parts = [cls.name]
    for key, value in {**defaults, **given}.items():
        if value != defaults.get(key) or key == "k":
            values = value if isinstance(value, list) else [value]
            parts.append(key.replace("_", "-") + "_".join(str(value).removesuffix(".0") for value in values))
    return "_".join(parts)


def find(cls, defaults, given, options, device):
    """(model, Info, path of its checkpoint) that the training options `given` name. When it is to be trained, the model
    is None and the Info has no history; what can be found wrong with that is found here, before the work."""
    ours = ROOT / "checkpoints" / f"{model_name(cls, defaults, given)}.pt"
    path = options.checkpoint or ours
    namesake = (ours.parent / f"{path.name.removesuffix('.pt')}.pt").resolve()
    free = path.resolve() == namesake or not namesake.exists() or options.output_dir != ROOT / "outputs"
    require(free, f"{shown(path)} would draw over the pictures of {shown(namesake)}: rename it, or see --output-dir")
    if not options.train and (options.checkpoint or ours.is_file()):
        model, info = load_checkpoint(path, cls)
        for key, value in (given if options.checkpoint else {**defaults, **given}).items():
            fault = f"{shown(path)} was trained with {key} = {info.config[key]}, not {value}"
            advice = "leave that option out, name another file" if key in given else "remove it"
            require(info.config[key] == value, f"{fault}: {advice}, or add --train to replace the weights")
        return model, info, path
    if not options.train:
        say(f"There are no weights at {shown(path)}: training them.")
    try:
        if path.exists():
            load_checkpoint(path, cls)
    except UserError as error:  # --train replaces weights of the same method and, under a name of ours, a damaged file
        fault = f"{shown(path)} holds no weights of {cls.name}, and --train does not replace it"
        advice = "remove it first, or name another file with --checkpoint"
        require(path == ours and isinstance(error, DamagedCheckpoint), f"{fault}: {advice}")
        say(f"{error}: it stays until the new weights are complete.")
    require_writable(path.parent, "--checkpoint")
    config = {**defaults, "precision": fastest_precision(device), **given}
    return None, Info(path.name.removesuffix(".pt"), config, None), path


# 6. Pictures ---------------------------------------------------------------------------------------------
INK, ACCENT, QUIET = "#1f2933", "#c2410c", "#7b8794"
DPI, PARTS = 100, 12  # screen pixels per inch; units shown for each digit


def draw(model, info, report, seen, unseen):
    """All pictures of a model on the CPU, of training and test images [10, 784] too: a dict from kind to figure."""
    return {
        "loss": plot_loss(model, info, report),
        "features": plot_features(model, info, report),
        "codes": plot_codes(info, report),
        "parts": plot_parts(model, info, report, unseen),
        "test": plot_rows({"input": unseen, "output": model(unseen)[0]}, f"{info.name}: test images"),
        "train": plot_rows({"input": seen, "output": model(seen)[0]}, f"{info.name}: training images"),
    }


def first_images(images, labels):
    """The first image of each digit, [10, 784] in [0, 1], of images and labels on the CPU."""
    return to_float(images[np.unique(labels, return_index=True)[1]])


def save_figure(figure, path):
    """Write a PNG, the same bytes for the same picture, as `write_whole` does."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=DPI, facecolor="white", metadata={"Software": None})
    write_whole(path, buffer.getbuffer(), "--output-dir")


def mosaic(images, columns, gap=1, zoom=1, between=np.nan):
    """Images, [n, 784] or with colours [n, 784, 4], row by row in one array: each pixel `zoom` screen pixels wide, and
    `gap` screen pixels of the value `between` around each image."""
    size, side, colours = 28 * zoom, 28 * zoom + gap, images.shape[2:]
    tiled = np.full((math.ceil(len(images) / columns) * side + gap, columns * side + gap, *colours), between, "float32")
    pixels = np.asarray(images).reshape(-1, 28, 28, *colours).repeat(zoom, axis=1).repeat(zoom, axis=2)
    for index, image in enumerate(pixels):
        top, left = gap + index // columns * side, gap + index % columns * side
        tiled[top : top + size, left : left + size] = image
    return tiled


def picture(pixels, title, left=12, bottom=12, right=12, top=44, **imshow):
    """(figure, axes) that show an array pixel for pixel below a title, with this many screen pixels around it. The
    axes' unit is one element of the array."""
    height, width = pixels.shape[0] + top + bottom, pixels.shape[1] + left + right
    figure = Figure(figsize=(width / DPI, height / DPI))
    axes = figure.add_axes((left / width, bottom / height, pixels.shape[1] / width, pixels.shape[0] / height))
    axes.imshow(pixels, interpolation="nearest", aspect="auto", **imshow)
    axes.axis("off")
    figure.text(left / width, 1 - 16 / height, title, size=11, color=INK, va="top")
    return figure, axes


def plot_loss(model, info, report):
    """Loss against epochs: train with and without the penalty, test, and the floor."""
    history, epochs = info.history, range(1, info.config["epochs"] + 1)
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.add_subplot()
    labels = ("train, with penalty (while learning)", "train, reconstruction (while learning)", "test, reconstruction")
    for losses, colour, label in zip(history, (QUIET, INK, ACCENT), labels, strict=True):
        axes.plot(epochs, losses, color=colour, marker="o" if len(epochs) == 1 else None, label=label)
    if report.floor:
        axes.axhline(report.floor, color=INK, lw=1, ls=":", label=f"floor {report.floor:.4f}: the pixels' entropy")
    else:
        axes.set_yscale("log")
    axes.set(title=f"{info.name}: losses", xlabel="epoch", ylabel=f"{model.loss_name} of the output, per pixel")
    axes.set_xlim(1, max(2, len(epochs)))
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    return figure


def plot_rows(rows, title):
    """Ten pictures per row, for a dict from a row's name to images, [10, 784] in [0, 1]."""
    gap, zoom = 4, 2
    tiled = mosaic(torch.cat(list(rows.values())), 10, gap, zoom, between=0)
    figure, axes = picture(tiled, title, max(102, 24 + 8 * max(map(len, rows))), cmap="gray_r", vmin=0, vmax=1)
    for row, name in enumerate(rows):
        axes.text(-10, (row + 0.5) * (28 * zoom + gap), name, size=10, color=INK, ha="right", va="center")
    return figure


def plot_features(model, info, report):
    """The pictures that the units draw: the rows of the dictionary, the most often active unit first."""
    order = report.frequency.argsort(descending=True, stable=True)
    features = model.dictionary[order]
    columns = 32 if len(features) <= 512 else 40
    limit = max(1e-12, torch.quantile(features.abs().flatten()[::5], 0.998).item())
    colours = matplotlib.colormaps["RdBu_r"].with_extremes(bad="#d9dde2")
    title = f"{info.name}: what each unit draws, most often active first (red adds ink, blue takes it away)"
    figure, axes = picture(mosaic(features, columns), title, cmap=colours, vmin=-limit, vmax=limit)
    for index in (report.frequency[order] == 0).nonzero().flatten().tolist():  # cross out the dead
        x, y = index % columns * 29 + 1, index // columns * 29 + 1
        axes.plot([x, x + 27, None, x, x + 27], [y, y + 27, None, y + 27, y], color="black", lw=1)
    return figure


def plot_codes(info, report):
    """Which digits a unit fires for: one row a digit, one column a unit, units grouped by the digit they prefer."""
    shares = report.digits.numpy()
    peak = shares.max(axis=0)
    preferred = np.where(peak > 0, shares.argmax(axis=0), 10)  # the dead come last
    order = np.lexsort((-peak, preferred))
    zoom = max(1, round(960 / len(order)))
    pixels = shares[:, order].repeat(zoom, axis=1).repeat(24, axis=0)
    title = f"{info.name}: which digits each unit fires for"
    figure, axes = picture(pixels, title, 42, 38, right=90, cmap="magma_r", vmin=0, vmax=peak.max())
    for digit in range(10):
        axes.text(-8, digit * 24 + 12, digit, size=10, color=INK, ha="right", va="center")
    for edge in np.flatnonzero(np.diff(preferred[order])):
        axes.axvline((edge + 1) * zoom - 0.5, color=QUIET, lw=0.6)
    note = f"{len(order)} units, grouped by the digit they prefer, the most selective of each group first"
    axes.text(0, pixels.shape[0] + 8, note, size=9, color=QUIET, va="top")
    bar = figure.colorbar(axes.images[0], cax=axes.inset_axes((1.015, 0, 0.012, 1)))
    bar.set_label("share of the unit's mean code", size=9, color=INK)
    return figure


def plot_parts(model, info, report, images):
    """What the images [10, 784] are made of: the units that contribute most, each as the ink it adds, and their sum."""
    reconstruction, code = model(images)
    strength = contributions(model, code, report.rest)
    units = strength.topk(min(PARTS, max(1, (strength > 0).sum(dim=1).max().item()))).indices
    added = (code - report.rest).gather(1, units)[..., None] * model.dictionary[units]  # [10, PARTS, 784]
    limit = added.abs().max().clamp(min=1e-12) / 2  # of the colours: few pixels are above it, and faint ones show
    added = torch.cat([added, added.sum(dim=1, keepdim=True)], dim=1) / limit
    grey = matplotlib.colormaps["gray_r"](torch.stack([images, reconstruction], dim=1).numpy())
    tiles = np.concatenate([grey, matplotlib.colormaps["RdBu_r"](added.numpy() / 2 + 0.5)], axis=1)
    gap, zoom, n = 14, 2, units.shape[1]
    title = f"{info.name}: digit, reconstruction, what its {n} main units add (red) or take away (blue), their sum"
    figure, axes = picture(mosaic(tiles.reshape(-1, PIXELS, 4), n + 3, gap, zoom, between=1), title)
    side = 28 * zoom + gap
    for index, number in np.ndenumerate(units.numpy()):
        x, y = (index[1] + 2.5) * side + gap / 2, index[0] * side + gap - 2
        axes.text(x, y, number, size=7, color=QUIET, ha="center")
    return figure


def show(paths):
    """Open a window for each PNG, when there is a display."""
    from matplotlib import pyplot  # only here: it picks a window system

    if pyplot.get_backend().lower() == "agg":
        return say("There is no display for --show: look at the files above.")
    for pixels in map(pyplot.imread, paths):
        pyplot.figure(figsize=(pixels.shape[1] / DPI, pixels.shape[0] / DPI), dpi=DPI).figimage(pixels)
    pyplot.show()


# 7. explore.html -----------------------------------------------------------------------------------------
def write_explorer(model, info, report, images, folder):
    """Write `folder`/NAME.js, what explore.html needs to run a model on the CPU: its weights, two bytes each, its
    units' digits, and images [10, 784] for the page's buttons. The page itself goes beside it."""

    def packed(values, kind="<f4"):
        return base64.b64encode(np.ascontiguousarray(values, dtype=kind)).decode()

    content = {"name": info.name, "method": model.name, "hidden": len(model.dictionary), "k": info.config.get("k")}
    encoder = model.encoder.weight
    for key, matrix in {"encoder": encoder, "dictionary": model.dictionary}.items():
        scale = matrix.abs().amax(dim=1, keepdim=True).clamp(min=1e-30) / 32_767
        content.update({key: packed((matrix / scale).round(), "<i2"), f"{key}_scale": packed(scale)})
    content["bias"] = packed(model.encoder.bias - encoder @ model.mean_image)  # for x itself, not x - mean
    content["decoder_bias"], content["rest"] = packed(model.decoder.bias), packed(report.rest)
    content["digits"], content["images"] = (packed((255 * x).round(), "u1") for x in (report.digits, images))
    write_whole(folder / f"{info.name}.js", f"explore({json.dumps(content)});\n".encode(), "--output-dir")
    page = ROOT / "outputs" / "explore.html"
    if folder.resolve() != page.parent:
        write_whole(folder / page.name, page.read_bytes(), "--output-dir")


# 8. Command line -----------------------------------------------------------------------------------------
def main(cls, defaults):
    """What `python SCRIPT` does: `run` with the script's subclass of Autoencoder, its hyperparameters (the first takes
    several values, a model each) and the command line. What the user can mend becomes one line and an exit status."""
    sys.stdout, sys.stderr = (stream or open(os.devnull, "w") for stream in (sys.stdout, sys.stderr))
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError):  # a notebook's
            stream.reconfigure(errors="replace")  # a terminal that has no ρ shows ? and goes on
    status = 1
    try:
        return run(cls, defaults)
    except UserError as error:
        message = f"error: {error}"
    except OSError as error:
        message = f"error: {shown(error.filename or 'a file')}: {error.strerror or error}"
    except KeyboardInterrupt:
        message, status = "interrupted: files that were complete stay as they were", 130
    except (MemoryError, RuntimeError) as error:
        if not isinstance(error, MemoryError | torch.OutOfMemoryError) and "you tried to allocate" not in str(error):
            raise
        message = "error: there is not enough memory: try a smaller --hidden or --batch-size"
    print(f"{cls.name}.py: {' '.join(message.split())}", file=sys.stderr, flush=True)
    sys.exit(status)


def run(cls, defaults):
    """Load or train each model that the command line asks for, report on it, draw it."""
    # Where no image lights a pixel, Adam's averages become subnormal numbers: a quarter more time for an epoch of
    # k-sparse. A thread takes the setting from its parent: so here, before there is any.
    torch.set_flush_denormal(True)
    options, requests = parse_arguments(cls, defaults)
    device = pick_device(options.device)
    found = [find(cls, defaults, given, options, device) for given in requests]
    require_writable(options.output_dir, "--output-dir")  # before the work, not after it
    looking = all(model for model, _, _ in found)
    data = load_mnist(options.data_dir, 100 if looking else 60_000)
    seen, unseen = first_images(*data[:2]), first_images(*data[2:])  # the same for every model
    knob, paths, rows = next(iter(defaults)), [], {"input": unseen}
    on_device = Data(*(tensor.to(device) for tensor in data))
    for model, info, path in found:
        if not model:
            model = build(cls, info.config).to(device)
            training = {key: info.config[key] for key in TRAIN_KEYS}
            info = info._replace(history=train(model, on_device, label=info.name, **training))
            save_checkpoint(path, model.cpu().requires_grad_(False), info)
        report = evaluate(model.to(device), on_device.test_images, on_device.test_labels)
        say(describe(model, info, report, path))
        for kind, figure in draw(model.cpu(), info, report, seen, unseen).items():
            paths.append(options.output_dir / f"{info.name}_{kind}.png")
            save_figure(figure, paths[-1])
            say(f"  {shown(paths[-1])}")
        write_explorer(model, info, report, unseen, options.output_dir)
        say(f"  {shown(options.output_dir / 'explore.html')}#{quote(info.name)}")
        rows[f"{knob} = {info.config[knob]:g}"] = model(unseen)[0]
    if len(found) > 1:
        name = model_name(cls, defaults, {**requests[0], knob: [given[knob] for given in requests]})
        paths.append(options.output_dir / f"{name}_comparison.png")
        save_figure(plot_rows(rows, f"{cls.name}: test images and their reconstructions"), paths[-1])
        say(f"comparison\n  {shown(paths[-1])}")
    if options.show:
        show(paths)
    require(sys.stdout.name != os.devnull, "standard output was closed early; all files were written all the same")


def parse_arguments(cls, defaults, arguments=None):
    """The command line: its argparse.Namespace, and for each model a dict of the training options that were given.
    Anything wrong ends the process with status 2 and one line."""
    about, as_it_is = sys.modules[cls.__module__].__doc__, argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=about, formatter_class=as_it_is, allow_abbrev=False)

    def fail(message):
        advice = ": put spaces between several values" * bool(re.search(r"\d,\S", message))
        parser.exit(2, f"{parser.prog}: error: {message}{advice} (--help lists the options)\n")

    parser.error = fail
    parser.add_argument("--train", action="store_true", help="train anew, and replace the weights of that name")
    add = parser.add_argument_group("training: these name the model; its weights are checkpoints/NAME.pt").add_argument
    knob, docstrings = next(iter(defaults)), f"{cls.__doc__}\n{train.__doc__}"
    for key, default in defaults.items():
        meaning = re.search(rf"^ +{key}: (.+)$", docstrings, re.M)[1] + "; several values: a model each" * (key == knob)
        flag, many = f"--{key}".replace("_", "-"), "+" if key == knob else None
        add(flag, type=type(default), nargs=many, help=f"{meaning} (default: {default:g})")
    add("--precision", choices=("float32", "bfloat16"), help="of matrix products (default: what is fast here)")
    add = parser.add_argument_group("where and how").add_argument
    add("--device", default="auto", help="auto, cpu, cuda or mps (default: %(default)s)")
    add("--data-dir", type=Path, default=ROOT / "data", metavar="DIR", help="(default: data)")
    add("--checkpoint", type=Path, metavar="FILE", help="weights elsewhere: look at them, or with --train write them")
    add("--output-dir", type=Path, default=ROOT / "outputs", metavar="DIR", help="(default: outputs)")
    add("--show", action="store_true", help="open the pictures in windows too")

    options, unknown = parser.parse_known_args(arguments)
    if unknown:
        word = unknown[0].split("=")[0]
        known = {flag: action.help or "" for action in parser._actions for flag in action.option_strings}
        named = [flag for flag, meaning in known.items() if f"({word.strip('-')})" in meaning]  # λ (lambda)
        close = named or difflib.get_close_matches(word.replace("_", "-"), known, n=1)
        parser.error(f"there is no option {word}" + "".join(f": did you mean {option}?" for option in close[:1]))
    given = {key: value for key in (*defaults, "precision") if (value := getattr(options, key)) is not None}
    values = given.get(knob, [])
    requests = [{**given, knob: value} for value in values] or [given]
    try:
        require(len(set(values)) == len(values), f"the same value twice for {knob}")
        require(len(values) < 2 or not options.checkpoint, f"--checkpoint takes one model, not {len(values)}")
        with torch.device("meta"):  # without its memory
            for request in requests:
                build(cls, {**defaults, "precision": "float32", **request})
    except UserError as error:
        parser.error(str(error))
    return options, requests


# 9. Files and words --------------------------------------------------------------------------------------
def write_whole(path, content, flag):
    """Write bytes to a file that appears whole or not at all; one that is there already stays until then. UserError
    when it cannot be written, with the option `flag` as a way out."""
    temporary = path.with_name(f".{os.getpid()}.tmp")  # a dot-file, never taken for what it may be a part of
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(temporary, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        raise UserError(f"cannot write {shown(path)}: {error.strerror or error}; make room or see {flag}") from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def require_writable(folder, flag):
    """Raise UserError unless a file can be written to `folder`, which is made if need be."""
    empty = folder / f".{os.getpid()}.empty.tmp"
    write_whole(empty, b"", flag)
    empty.unlink(missing_ok=True)


def shown(path):
    """A path as the user would type it: short when it lies below the working directory."""
    with contextlib.suppress(ValueError, OSError):
        return str(Path(path).resolve().relative_to(Path.cwd()))
    return str(path)


def say(text):
    """Print a line. A reader who left (`| head -1`) or a full disk stops the printing, not the work."""
    try:
        print(text, flush=True)
    except OSError:
        sys.stdout = open(os.devnull, "w")
