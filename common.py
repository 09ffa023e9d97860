"""What the three sparse autoencoders share, in the order of its use:

1. data          MNIST, and minibatches of it
2. model         one linear layer each way; a script adds the activation, the loss and the start
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
from pathlib import Path
from typing import NamedTuple

import matplotlib
import numpy as np
import torch
import torch.nn.functional as F
from matplotlib.figure import Figure
from torch import nn
from tqdm import tqdm

ROOT = Path(__file__).resolve().parent
PIXELS = 28 * 28


class UserError(ValueError):
    """Something the user can mend. Its text is one line: what is wrong, and what to do."""

    def __init__(self, message):
        super().__init__(" ".join(str(message).split()))


def require(condition, message):
    """Raise UserError with `message` unless `condition` holds."""
    if not condition:
        raise UserError(message)


def whole(number, low, high):
    """Whether `number` is an int from `low` to `high`."""
    return isinstance(number, int) and low <= number <= high


# 1. Data -------------------------------------------------------------------------------------------------


class Data(NamedTuple):
    """MNIST."""

    train_images: torch.Tensor  # [60000, 784] uint8, 0 is the background
    train_labels: torch.Tensor  # [60000] int64, the digit
    test_images: torch.Tensor  # [10000, 784] uint8
    test_labels: torch.Tensor  # [10000] int64


def load_mnist(data_dir=ROOT / "data", train_count=60_000):
    """Data, from the archives in `data_dir`/MNIST/raw (`data_dir` is what torchvision calls the root), with the first
    `train_count` of the training images, since a few are quickly read. An archive that is missing or damaged is
    downloaded; UserError when that cannot be done."""
    raw, parts = Path(data_dir) / "MNIST" / "raw", []
    for part, total, count in (("train", 60_000, train_count), ("t10k", 10_000, 10_000)):
        for path, shape in (
            (raw / f"{part}-images-idx3-ubyte.gz", (total, 28, 28)),
            (raw / f"{part}-labels-idx1-ubyte.gz", (total,)),
        ):
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
    from torchvision.datasets import MNIST  # only here: importing it takes as long as torch
    from torchvision.datasets.utils import download_url

    say(f"Downloading MNIST: {path.name} is {fault} in {shown(path.parent)}")
    with tempfile.TemporaryDirectory() as folder:
        for mirror in MNIST.mirrors:
            with contextlib.suppress(Exception), contextlib.redirect_stdout(io.StringIO()):  # whatever: the next one
                download_url(mirror + path.name, folder, path.name, dict(MNIST.resources)[path.name])
                return write_whole(path, (Path(folder) / path.name).read_bytes(), "--data-dir")
    raise UserError(
        f"{path.name} is {fault} in {shown(path.parent)} and cannot be downloaded: restore it with "
        "`git checkout data`, connect to a network, or see --data-dir"
    )


def to_float(images):
    """[n, 784] uint8 -> [n, 784] float32 in [0, 1]."""
    return images.float().div_(255)


def batches(images, batch_size, generator=None):
    """Minibatches [batch, 784] float32 in [0, 1] of images [n, 784] uint8, the last with what is left over; in a new
    order drawn from a torch.Generator, or without one in their own.

    The images stay in memory as bytes and each batch is one gather from them. Decoding every image again in every
    epoch, as `DataLoader(MNIST(transform=ToTensor()))` does, takes longer than the training.
    """
    if generator is None:
        parts = images.split(batch_size)
    else:
        order = torch.randperm(len(images), generator=generator).to(images.device)
        parts = (images.index_select(0, chosen) for chosen in order.split(batch_size))
    return map(to_float, parts)


def pixel_entropy(images):
    """The floor of the binary cross-entropy, in nats per pixel: what a perfect reconstruction of images [n, 784] uint8
    still costs. A pixel x reconstructed as x costs -x log x - (1 - x) log(1 - x), which is 0 only for black and white.
    """
    x = torch.arange(256, dtype=torch.float64) / 255
    entropy = -(torch.xlogy(x, x) + torch.xlogy(1 - x, 1 - x))
    return (torch.bincount(images.flatten().cpu(), minlength=256).double() @ entropy).item() / images.numel()


# 2. Model ------------------------------------------------------------------------------------------------


class Autoencoder(nn.Module):
    """One linear layer to the code and one back:

        hidden         = s · (x - mean) Wᵀ + b       [batch, hidden]
        code           = activation(hidden)          [batch, hidden]
        output         = code · dictionary + c       [batch, 784]
        reconstruction = squash(output)              [batch, 784], in [0, 1]

    Row j of `dictionary` (column j of the decoder's matrix) is the picture that unit j adds; `mean` is the mean image
    of the training set. The constant s lets the encoder learn s times as fast: Adam moves all weights alike.

    A script's subclass says what makes its method different: `activation` and `squash` above, and

        initialise()                 sets the weights that training starts from; `mean_image` is there already
        loss(output, code, images)   two scalars: the reconstruction's loss, a mean over pixels, and the penalty
        after_step(progress)         constraints and schedules, after each step and once before the first, when this
                                     part of the training lies behind, in [0, 1]; by default nothing

    Args:
        hidden: number of units in the code, 1 to 32768
        weight_decay: of the dictionary, in the sense of torch.optim, at least 0

    Raises:
        UserError: one of them is out of its range.
    """

    name = None  # of the method, its script and its files: "sparse_l1"
    loss_name = "BCE"  # of the reconstruction loss: "BCE" or "MSE"
    active_above = 0.0  # a unit is active on an image when its code is above this
    input_scale = 1.0  # s

    def __init__(self, hidden, weight_decay):
        super().__init__()
        require(whole(hidden, 1, 32_768), f"hidden has to be a whole number from 1 to 32768, not {hidden}")
        require(0 <= weight_decay < math.inf, f"weight_decay has to be at least 0, not {weight_decay}")
        self.weight_decay = weight_decay
        self.encoder = nn.Linear(PIXELS, hidden)
        self.dictionary = nn.Parameter(torch.empty(hidden, PIXELS))
        self.decoder_bias = nn.Parameter(torch.empty(PIXELS))
        self.register_buffer("mean_image", torch.empty(PIXELS))

    def after_step(self, progress):
        pass

    def encode(self, images):
        """[batch, 784] images in [0, 1] -> [batch, hidden] code. Raises UserError for anything else (outside of
        training, where looking costs time)."""
        if not self.training:
            require_images(images)
        centred = images - self.mean_image
        return self.activation(torch.addmm(self.encoder.bias, centred, self.encoder.weight.T, alpha=self.input_scale))

    def output(self, code):
        """[batch, hidden] code -> [batch, 784], what the loss is taken on."""
        return torch.addmm(self.decoder_bias, code, self.dictionary)

    def decode(self, code):
        """[batch, hidden] code -> [batch, 784] reconstruction in [0, 1]."""
        return self.squash(self.output(code))

    def forward(self, images):
        """[batch, 784] images -> ([batch, 784] reconstruction in [0, 1], [batch, hidden] code)."""
        code = self.encode(images)
        return self.decode(code), code


def require_images(images):
    """Raise UserError unless `images` is what `Autoencoder.encode` wants."""
    wanted = "encode wants a float32 tensor [n, 784] of images in [0, 1], 0 being the background, not"
    require(isinstance(images, torch.Tensor), f"{wanted} a {type(images).__name__}: see torch.as_tensor")
    require(images.ndim == 2 and images.shape[1] == PIXELS, f"{wanted} {list(images.shape)}: see .view(-1, 784)")
    require(images.dtype == torch.float32, f"{wanted} {images.dtype}: see common.to_float for bytes, else .float()")
    in_range = images.numel() == 0 or (images.min() >= 0 and images.max() <= 1)  # NaN is not
    require(in_range, f"{wanted} values outside that range: divide bytes by 255")


# 3. Training ---------------------------------------------------------------------------------------------

COOL_DOWN = 0.2  # the last fifth of training, in which the learning rate falls to 0 and the weights come to rest
TRAIN_KEYS = ("epochs", "batch_size", "lr", "seed", "precision")


class History(NamedTuple):
    """One number per epoch. Losses are means over all images of the set, not over batches."""

    train_loss: list  # reconstruction loss and penalty, averaged while the weights moved
    train_reconstruction: list  # the reconstruction loss alone
    test_loss: list  # reconstruction loss on all test images, at the end of the epoch


def train(model, data, *, epochs, batch_size, lr, seed, precision="float32", label="training"):
    """Train `model` in place with Adam, on the device that it and `data` are on; it ends in evaluation mode.

    The same arguments on the same machine give bit-identical weights.

    Args:
        model: an Autoencoder; its weights are set anew here
        data: Data
        epochs: passes over the training images, at least 1
        batch_size: images per step, 1 to 60000
        lr: learning rate, above 0; it falls to 0 over the last fifth of the training
        seed: of the weights' start and the order of the images, at least 0
        precision: of the training's matrix products, float32 or bfloat16
        label: what the progress is called

    Returns History. Raises UserError when an argument is out of its range, or a loss became NaN, infinite or absurd.
    """
    check_training(epochs, batch_size, lr, seed, precision)
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    images, count = data.train_images, len(data.train_images)
    with torch.no_grad():
        model.mean_image.copy_(sum(batch.sum(dim=0) for batch in batches(images, 2_000)) / count)
        model.initialise()
        model.after_step(0.0)
    optimizer = make_optimizer(model, lr)
    untrained = mean_loss(model, data.test_images, precision)
    history, step, steps = History([], [], []), 0, epochs * math.ceil(count / batch_size)
    interactive = sys.stderr.isatty()
    with tqdm(total=epochs, desc=label, unit="epoch", disable=not interactive) as bar:
        for epoch in range(1, epochs + 1):
            model.train()
            sums = torch.zeros(2, device=images.device)  # read once per epoch, not once per batch
            for batch in batches(images, batch_size, generator):
                for group in optimizer.param_groups:
                    group["lr"] = lr * min(1, (1 - step / steps) / COOL_DOWN)
                sums += train_step(model, batch, optimizer, precision) * len(batch)  # the last batch may be short
                step += 1
                model.after_step(step / steps)
            losses = [*(sums / count).tolist(), mean_loss(model, data.test_images, precision)]
            # Far worse than before training is as lost as NaN: BCE on logits stays finite for long.
            if not all(map(math.isfinite, losses)) or max(losses[1:]) > 100 * untrained:
                raise UserError(
                    f"training diverged in epoch {epoch} of {epochs}: train loss {losses[0]:.4g}, test loss "
                    f"{losses[2]:.4g}; no weights were written; try a smaller --lr than {lr:g}"
                )
            for values, value in zip(history, losses, strict=True):
                values.append(value)
            progress = f"train loss {losses[0]:.4f}, test loss {losses[2]:.4f}"
            bar.set_postfix_str(progress, refresh=False)
            bar.update()
            if not interactive and (epoch % math.ceil(epochs / 20) == 0 or epoch == epochs):
                say(f"{label}: epoch {epoch}/{epochs}, {progress}")
    return history


def train_step(model, images, optimizer, precision):
    """One step on images [batch, 784]: its loss with penalty and that of the reconstruction alone, [2]."""
    with autocast(images.device, precision):
        code = model.encode(images)
        output = model.output(code)
    reconstruction, penalty = model.loss(output.float(), code.float(), images)
    loss = reconstruction + penalty
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return torch.stack([loss.detach(), reconstruction.detach()])


def check_training(epochs, batch_size, lr, seed, precision):
    """Raise UserError unless `train` can do with these arguments."""
    require(whole(epochs, 1, math.inf), f"epochs has to be a whole number of at least 1, not {epochs}")
    require(whole(batch_size, 1, 60_000), f"batch_size has to be a whole number from 1 to 60000, not {batch_size}")
    require(0 < lr < math.inf, f"lr has to be above 0, not {lr}")
    require(whole(seed, 0, 2**63 - 1), f"seed has to be a whole number of at least 0, not {seed}")
    require(precision in ("float32", "bfloat16"), f"precision has to be float32 or bfloat16, not {precision}")


def make_optimizer(model, lr):
    """Adam over the model's parameters, in one fused step where torch has one; only the dictionary decays."""
    others = [parameter for parameter in model.parameters() if parameter is not model.dictionary]
    groups = [{"params": [model.dictionary], "weight_decay": model.weight_decay}, {"params": others}]
    return torch.optim.Adam(groups, lr, betas=(0.9, 0.99), fused=model.dictionary.device.type in ("cpu", "cuda"))


def autocast(device, precision):
    """With precision bfloat16, matrix products inside the block take and give bfloat16."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16")


def pick_device(name):
    """--device as a torch.device, auto being the fastest that there is; UserError when there is no such device."""
    there = ["cuda"] * torch.cuda.is_available() + ["mps"] * torch.backends.mps.is_available() + ["cpu"]
    if name == "auto":
        return torch.device(there[0])
    with contextlib.suppress(RuntimeError, AssertionError):
        if name.split(":")[0] in there:
            return torch.empty(0, device=name).device
    raise UserError(f"there is no device {name} on this machine for --device: take {' or '.join(there)}")


def fastest_precision(device):
    """The cheapest precision that this machine's matrix units have: bfloat16 where it is built in."""
    if device.type == "cpu":
        capabilities = getattr(torch.cpu, "get_capabilities", dict)()  # torch 2.6 cannot tell
        built_in = capabilities.get("avx512_bf16") or capabilities.get("amx_bf16")
    else:
        built_in = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    return "bfloat16" if built_in else "float32"


# 4. Evaluation -------------------------------------------------------------------------------------------

KEPT = (25, 100)  # units that the report keeps


class Report(NamedTuple):
    """What a model is worth, on all test images. d is a unit's row of the dictionary."""

    loss: float  # reconstruction loss, as in training and without the penalty
    floor: float  # the least that loss can be: the pixel entropy for BCE, 0 for MSE
    mse: float  # mean squared error per pixel of the reconstruction in [0, 1]: comparable between methods
    kept: dict  # n in KEPT -> the same error with all but the n units of largest contribution at rest
    active: float  # active units per image, mean (L0)
    dead: int  # units that are active on no image
    idle: int  # units that draw next to nothing: variance of the code · ‖d‖² is below 1 % of its mean over units
    locality: float  # median over units: share of ‖d‖² in its 39 strongest pixels (5 %); noise has 0.28
    mean_code: float  # mean of the code over images and units (mean ρ̂ for KL)
    rest: torch.Tensor  # [hidden], the median code of each unit: what it does on most images
    frequency: torch.Tensor  # [hidden], part of the images on which a unit is active
    digits: torch.Tensor  # [10, hidden], the part of each digit in a unit's mean code: the sum over digits is 1


@torch.no_grad()
def mean_loss(model, images, precision="float32"):
    """Mean reconstruction loss, without the penalty, over images [n, 784] uint8; ends the model's training mode."""
    model.eval()
    total = 0.0
    for batch in batches(images, 2_000):
        with autocast(images.device, precision):
            code = model.encode(batch)
            output = model.output(code)
        total += model.loss(output.float(), code.float(), batch)[0] * len(batch)
    return total.item() / len(images)


@torch.no_grad()
def evaluate(model, images, labels):
    """The Report on `model`, for images [n, 784] uint8 with labels [n]."""
    code = torch.cat([model.encode(batch) for batch in batches(images, 2_000)])
    rest = code.median(dim=0).values
    sums = torch.zeros(2 + len(KEPT), dtype=torch.float64)
    for batch, part in zip(batches(images, 2_000), code.split(2_000), strict=True):
        output = model.output(part)
        drawn = [model.squash(output), *(model.decode(keep_strongest(model, part, rest, n)) for n in KEPT)]
        losses = [model.loss(output, part, batch)[0], *(F.mse_loss(image, batch) for image in drawn)]
        sums += torch.stack(losses).cpu() * len(batch)
    loss, mse, *kept = (sums / len(images)).tolist()
    frequency = (code > model.active_above).float().mean(dim=0)
    energy = model.dictionary.square()
    power = code.var(dim=0) * energy.sum(dim=1)
    one_hot = F.one_hot(labels, 10).float()
    class_means = one_hot.T @ code / one_hot.sum(dim=0)[:, None]
    return Report(
        loss=loss,
        floor=pixel_entropy(images) if model.loss_name == "BCE" else 0.0,
        mse=mse,
        kept=dict(zip(KEPT, kept, strict=True)),
        active=frequency.sum().item(),
        dead=(frequency == 0).sum().item(),
        idle=(power < 0.01 * power.mean()).sum().item(),
        locality=(energy.topk(PIXELS // 20).values.sum(dim=1) / energy.sum(dim=1)).median().item(),
        mean_code=code.mean().item(),
        rest=rest.cpu(),
        frequency=frequency.cpu(),
        digits=(class_means / class_means.sum(dim=0).clamp(min=1e-12)).cpu(),
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
    kept = " and ".join(f"{error:.4f} from {n}" for n, error in report.kept.items())
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
    """A file that is no checkpoint of any method."""


def save_checkpoint(path, model, info):
    """Write the weights of a model on the CPU, hyperparameters and history to `path`, as `write_whole` does."""
    content = {"method": model.name, "config": info.config, "history": info.history._asdict()}
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
        method, config, history = content["method"], content["config"], History(**content["history"])
        cls = next((cls for cls in classes if cls.name == method), None)
        if cls:
            model = build(cls, config)
            model.load_state_dict(content["weights"])
            losses = [loss for losses in history for loss in losses]
            if len(losses) != 3 * config["epochs"] or not all(map(math.isfinite, losses)):
                raise ValueError("its history is not made of finite numbers, one for each epoch")
            if not all(value.isfinite().all() for value in model.state_dict().values()):
                raise ValueError("its weights are not all finite")
    except Exception as error:  # zipfile, pickle, torch and the lines above raise many kinds on hand-made files
        why = str(error).split("\n")[0][:100] or type(error).__name__
        raise DamagedCheckpoint(f"{shown(path)} is not a good checkpoint ({why}): restore it, or remove it") from error
    require(cls, f"{shown(path)} holds weights of {method!r:.40}, not of {' or '.join(c.name for c in classes)}")
    return model.eval().requires_grad_(False), Info(path.stem, config, history)


def read_untrusted(path):
    """The content of a checkpoint. Nothing in it is executed, and nothing unpacked that is larger than the file."""
    size = path.stat().st_size
    if size > MAX_CHECKPOINT_BYTES:
        raise ValueError(f"it is {size:,} bytes long")
    file = io.BytesIO(path.read_bytes())
    with zipfile.ZipFile(file) as archive:
        entries = archive.infolist()
        if any(e.compress_type != zipfile.ZIP_STORED for e in entries) or sum(e.file_size for e in entries) > size:
            raise ValueError("it claims to hold more than it does")
        if archive.testzip() is not None:  # torch does not look at the checksums
            raise ValueError("its contents do not match their checksums")
    file.seek(0)
    return torch.load(file, map_location="cpu", weights_only=True)


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
    if options.train or not (options.checkpoint or ours.is_file()):
        if not options.train:
            say(f"There are no weights at {shown(path)}: training them.")
        require_replaceable(path, cls, path == ours)
        require_writable(path.parent, "--checkpoint")
        return None, Info(path.stem, {**defaults, "precision": fastest_precision(device), **given}, None), path
    model, info = load_checkpoint(path, cls)
    for key, value in (given if options.checkpoint else {**defaults, **given}).items():
        if info.config[key] != value:
            raise UserError(
                f"{shown(path)} was trained with {key} = {info.config[key]}, not {value}: leave that option out, "
                "name another file, or add --train to replace the weights"
            )
    return model, info, path


def require_replaceable(path, cls, ours):
    """Raise UserError unless --train may write to `path`: where nothing is, over weights of the same method, and, when
    the name is `ours`, over a damaged file."""
    try:
        if path.exists():
            load_checkpoint(path, cls)
    except UserError as error:
        if not (ours and isinstance(error, DamagedCheckpoint)):
            raise UserError(
                f"{shown(path)} holds no weights of {cls.name}, and --train does not replace it: remove it first, or "
                "name another file with --checkpoint"
            ) from error
        say(f"{error}: it stays until the new weights are complete.")


# 6. Pictures ---------------------------------------------------------------------------------------------

INK, ACCENT, QUIET = "#1f2933", "#c2410c", "#7b8794"
DPI = 100
PARTS = 12  # units shown for each digit


def draw(model, info, report, data):
    """All pictures of a model on the CPU: a dict from the last part of the file's name to a figure."""
    seen, unseen = first_images(*data[:2]), first_images(*data[2:])
    return {
        "loss": plot_loss(model, info, report),
        "features": plot_features(model, info, report),
        "codes": plot_codes(info, report),
        "parts": plot_parts(model, info, report, unseen),
        "test": plot_rows({"input": unseen, "output": model(unseen)[0]}, f"{info.name}: test images"),
        "train": plot_rows({"input": seen, "output": model(seen)[0]}, f"{info.name}: training images"),
    }


def first_images(images, labels):
    """The first image of each digit, [10, 784] in [0, 1], on the CPU: the same ten for every model."""
    labels = labels.tolist()
    return to_float(images[[labels.index(digit) for digit in range(10)]]).cpu()


def save_figure(figure, path):
    """Write a PNG, the same bytes for the same picture, as `write_whole` does."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=DPI, facecolor="white", metadata={"Software": None})
    write_whole(path, buffer.getbuffer(), "--output-dir")


def mosaic(images, columns, gap=1, zoom=1, between=np.nan):
    """Images, [n, 784] or with colours [n, 784, 4], row by row in one array: each pixel `zoom` screen pixels wide, and
    `gap` screen pixels of the value `between` around each image."""
    size, colours = 28 * zoom, images.shape[2:]
    side = size + gap
    tiled = np.full((math.ceil(len(images) / columns) * side + gap, columns * side + gap, *colours), between, "float32")
    pixels = np.asarray(images).reshape(-1, 28, 28, *colours).repeat(zoom, axis=1).repeat(zoom, axis=2)
    for index, image in enumerate(pixels):
        top, left = gap + index // columns * side, gap + index % columns * side
        tiled[top : top + size, left : left + size] = image
    return tiled


def picture(pixels, title, left=12, bottom=12, right=12, **imshow):
    """(figure, axes) that show an array pixel for pixel below a title, with this many screen pixels around it. The
    axes' unit is one element of the array."""
    top = 44
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
    for losses, colour, label in (
        (history.train_loss, QUIET, "train, with penalty (while learning)"),
        (history.train_reconstruction, INK, "train, reconstruction (while learning)"),
        (history.test_loss, ACCENT, "test, reconstruction (end of epoch)"),
    ):
        axes.plot(epochs, losses, color=colour, marker="o" if len(epochs) == 1 else None, label=label)
    if report.floor:
        axes.axhline(report.floor, color=INK, lw=1, ls=":", label=f"floor {report.floor:.4f}: the pixels' entropy")
    else:
        axes.set_yscale("log")
    axes.set(xlabel="epoch", ylabel=f"{model.loss_name} per pixel", title=f"{info.name}: loss while training")
    axes.set_xlim(1, max(2, len(epochs)))
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    return figure


def plot_rows(rows, title):
    """Ten pictures per row, for a dict from a row's name to images, [10, 784] in [0, 1]."""
    gap, zoom = 4, 2
    tiled = mosaic(torch.cat(list(rows.values())), 10, gap, zoom, between=0)
    figure, axes = picture(tiled, title, left=102, cmap="gray_r", vmin=0, vmax=1)
    for row, name in enumerate(rows):
        axes.text(-10, (row + 0.5) * (28 * zoom + gap), name, size=10, color=INK, ha="right", va="center")
    return figure


def plot_features(model, info, report):
    """The pictures that the units draw: the rows of the dictionary, the most often active unit first."""
    order = report.frequency.argsort(descending=True, stable=True)
    features = model.dictionary[order]
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
    """Which digits a unit fires for: one row a digit, one column a unit, units grouped by the digit they prefer."""
    shares = report.digits.numpy()
    peak, preferred = shares.max(axis=0), shares.argmax(axis=0)
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
    units = contributions(model, code, report.rest).topk(min(PARTS, code.shape[1])).indices
    added = (code - report.rest).gather(1, units)[..., None] * model.dictionary[units]  # [10, PARTS, 784]
    added = torch.cat([added, added.sum(dim=1, keepdim=True)], dim=1) / added.abs().max().clamp(min=1e-12)
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
    """Write `folder`/NAME.js, what explore.html needs to run a model on the CPU: its weights as bytes with a factor for
    each row, its units' digits, and images [10, 784] for the page's buttons. The page itself goes beside it."""

    def packed(values, kind):
        return base64.b64encode(np.ascontiguousarray(values, dtype=kind)).decode()

    def packed_rows(matrix):
        factors = matrix.abs().amax(dim=1, keepdim=True).clamp(min=1e-30) / 127
        return (matrix / factors).round(), factors

    encoder, encoder_scale = packed_rows(model.input_scale * model.encoder.weight)
    dictionary, dictionary_scale = packed_rows(model.dictionary)
    tied = model.dictionary is model.encoder.weight
    content = {
        "name": info.name,
        "method": model.name,
        "hidden": len(encoder),
        "k": info.config.get("k"),
        "encoder": packed(encoder, "i1"),
        "encoder_scale": packed(encoder_scale, "<f4"),
        "bias": packed(model.encoder.bias - (encoder_scale * encoder) @ model.mean_image, "<f4"),  # for x, not x - mean
        "dictionary": None if tied else packed(dictionary, "i1"),  # None: the encoder's
        "dictionary_scale": packed(dictionary_scale, "<f4"),
        "decoder_bias": packed(model.decoder_bias, "<f4"),
        "rest": packed(report.rest, "<f4"),
        "digits": packed((255 * report.digits).round(), "u1"),
        "images": packed((255 * images).round(), "u1"),
    }
    write_whole(folder / f"{info.name}.js", f"explore({json.dumps(content)});\n".encode(), "--output-dir")
    page = ROOT / "outputs" / "explore.html"
    if folder.resolve() != page.parent:
        write_whole(folder / page.name, page.read_bytes(), "--output-dir")


# 8. Command line -----------------------------------------------------------------------------------------


def main(cls, defaults, arguments=None):
    """What `python SCRIPT` does: `run` with the script's subclass of Autoencoder, its hyperparameters (the first takes
    several values, for a model each) and a list of command line words (None: the process's own). Whatever the user can
    mend becomes one line and an exit status."""
    sys.stdout, sys.stderr = (stream or open(os.devnull, "w") for stream in (sys.stdout, sys.stderr))
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="replace")  # a terminal that has no ρ shows ? and goes on
    status = 1
    try:
        return run(cls, defaults, arguments)
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
    print(f"{cls.name}.py: {message}", file=sys.stderr, flush=True)
    sys.exit(status)


def run(cls, defaults, arguments):
    """Load or train each model that the command line asks for, report on it, draw it."""
    # For pixels that no image lights, Adam's averages decay into subnormal numbers, which are so slow on a CPU that an
    # epoch of k-sparse took a quarter longer. A thread takes the setting from its parent: so here, before there is any.
    torch.set_flush_denormal(True)
    options, requests = parse_arguments(cls, defaults, arguments)
    device = pick_device(options.device)
    found = [find(cls, defaults, given, options, device) for given in requests]
    require_writable(options.output_dir, "--output-dir")  # before the work, not after it
    looking = all(model for model, _, _ in found)
    data = load_mnist(options.data_dir, 100 if looking else 60_000)
    knob, paths, rows = next(iter(defaults)), [], {"input": first_images(*data[2:])}
    on_device = Data(*(tensor.to(device) for tensor in data))
    for model, info, path in found:
        if not model:
            model = build(cls, info.config).to(device)
            training = {key: info.config[key] for key in TRAIN_KEYS}
            info = info._replace(history=train(model, on_device, label=info.name, **training))
            save_checkpoint(path, model.cpu().requires_grad_(False), info)
        report = evaluate(model.to(device), on_device.test_images, on_device.test_labels)
        say(describe(model, info, report, path))
        for kind, figure in draw(model.cpu(), info, report, data).items():
            paths.append(options.output_dir / f"{info.name}_{kind}.png")
            save_figure(figure, paths[-1])
            say(f"  {shown(paths[-1])}")
        write_explorer(model, info, report, rows["input"], options.output_dir)
        say(f"  {shown(options.output_dir / 'explore.html')}#{info.name}")
        rows[f"{knob} = {info.config[knob]:g}"] = model(rows["input"])[0]
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
    parser = argparse.ArgumentParser(
        description=sys.modules[cls.__module__].__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.error = lambda message: parser.exit(2, f"{parser.prog}: error: {message} (--help lists the options)\n")
    parser.add_argument("--train", action="store_true", help="train anew, and replace the weights of that name")
    add = parser.add_argument_group(
        "training", "these name the model, whose weights are checkpoints/NAME.pt"
    ).add_argument
    knob, docstrings = next(iter(defaults)), f"{cls.__doc__}\n{train.__doc__}"
    for key, default in defaults.items():
        meaning = re.search(rf"^ +{key}: (.+)$", docstrings, re.M)[1]
        meaning += "; several values: a model each" * (key == knob)
        shape = {"nargs": "+" if key == knob else None, "metavar": key.split("_")[-1].upper()}
        add(
            f"--{key}".replace("_", "-"),
            type=number_of(type(default)),
            help=f"{meaning} (default: {default:g})",
            **shape,
        )
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
        parser.error(f"there is no option {word}" + f": did you mean {close[0]}?" * bool(close))
    given = {key: value for key in (*defaults, "precision") if (value := getattr(options, key)) is not None}
    values = given.get(knob, [])
    if len(set(values)) < len(values):
        parser.error(f"the same value twice for {knob}")
    if len(values) > 1 and options.checkpoint:
        parser.error(f"--checkpoint takes one model, not {len(values)}: leave one of them out")
    requests = [{**given, knob: value} for value in values] or [given]
    try:
        with torch.device("meta"):
            for request in requests:
                build(cls, {**defaults, "precision": "float32", **request})
    except UserError as error:
        parser.error(str(error))
    return options, requests


def number_of(kind):
    """An argparse type for int or float, with an error for people."""

    def parse(text):
        try:
            return kind(text)
        except ValueError:
            advice = ": put spaces between several values" if "," in text else ""
            raise argparse.ArgumentTypeError(f"{text!r} is not a {'whole ' * (kind is int)}number{advice}") from None

    return parse


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
    write_whole(folder / ".empty", b"", flag)
    (folder / ".empty").unlink(missing_ok=True)


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
