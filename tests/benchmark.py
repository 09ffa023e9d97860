"""How fast it is, against the conventional way and against what the machine could do.

Run `python tests/benchmark.py` on an otherwise idle machine (seven minutes on two cores). Every figure is a
median; things that are compared take turns. Timings belong to the machine they were taken on: compare the ratios.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from torch import nn

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from torch.utils.data import DataLoader  # noqa: E402
from torchvision.datasets import MNIST  # noqa: E402
from torchvision.transforms import ToTensor  # noqa: E402

import common  # noqa: E402
import sparse_kl  # noqa: E402
import sparse_ksparse  # noqa: E402
import sparse_l1  # noqa: E402

METHODS = [sparse_l1.METHOD, sparse_kl.METHOD, sparse_ksparse.METHOD]
FASTEST = common.fastest_precision(torch.device("cpu"))


def in_turns(repeats, **functions):
    """Median seconds of each function, called in turns after one call each that is not counted."""
    taken = {name: [] for name in functions}
    for _ in range(repeats + 1):
        for name, function in functions.items():
            start = time.perf_counter()
            function()
            taken[name].append(time.perf_counter() - start)
    return {name: statistics.median(values[1:]) for name, values in taken.items()}


def conventional_epoch(method, config):
    """A function that trains for an epoch as most scripts do: decode each image again, sigmoid and BCELoss, plain Adam,
    and a look at the loss after every batch."""
    dataset = MNIST(ROOT / "data", transform=ToTensor())
    model = method.build(config)
    model.initialise(dataset.data.view(-1, common.PIXELS))
    criterion = nn.BCELoss() if model.loss_name == "BCE" else nn.MSELoss()
    optimizer = torch.optim.Adam(model.parameters(), lr=config["lr"])

    def epoch():
        total = 0.0
        for images, _ in DataLoader(dataset, batch_size=config["batch_size"], shuffle=True):
            images = images.view(-1, common.PIXELS)
            code = model.encode(images)
            output = model.output(code)
            loss = criterion(output.sigmoid() if model.loss_name == "BCE" else output, images) + model.penalty(code)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item()

    return epoch


def our_epoch(method, config, data):
    """A function that trains for an epoch as common.train does."""
    model = method.build(config)
    model.initialise(data.train_images)
    optimizer = common.make_optimizer(model, config["lr"])
    batches = common.Batches(data.train_images, config["batch_size"], seed=0)
    return lambda: common.train_epoch(model, batches, optimizer, config["precision"])


def bare_products(hidden, batch_size, dtype):
    """A function that does the matrix products of an epoch and nothing else: forward, and backward to both weights
    and to the code; the images need no gradient. Each is done in the layout that training has it in."""
    images, code = torch.rand(batch_size, common.PIXELS).to(dtype), torch.rand(batch_size, hidden).to(dtype)
    encoder = torch.rand(hidden, common.PIXELS).to(dtype)

    def epoch():
        for _ in range(round(60_000 / batch_size)):
            images @ encoder.T  # hidden
            code @ encoder  # output
            images @ encoder.T  # gradient of the code
            code.T @ images  # gradient of the decoder's weights
            code.T @ images  # gradient of the encoder's weights

    return epoch


def fitted_exponent(sizes, times):
    """The slope of log time against log size, by least squares."""
    x, y = torch.tensor(sizes).double().log(), torch.tensor(times).double().log()
    x, y = x - x.mean(), y - y.mean()
    return ((x * y).sum() / (x * x).sum()).item()


# A process starts with its parent's peak size as its own, and this one is large: so a small one stands between.
SMALL_PARENT = """
import resource, subprocess, sys, time
start = time.perf_counter()
if subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL).returncode:
    sys.exit(f"{sys.argv[1:]} failed")
print(time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024)
"""


def process(*command):
    """(seconds, peak resident MiB) of a whole process."""
    parent = (sys.executable, "-S", "-c", SMALL_PARENT, *command)
    done = subprocess.run(parent, capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stderr)
    return tuple(map(float, done.stdout.split()))


def training(data, repeats):
    print("\n1. Training, seconds per epoch at the defaults\n")
    print("| script | conventional | ours, float32 | ours, fastest | times faster |\n| --- | --- | --- | --- | --- |")
    for method in METHODS:
        config = {**method.defaults, "precision": "float32"}
        t = in_turns(
            repeats,
            conventional=conventional_epoch(method, config),
            float32=our_epoch(method, config, data),
            fastest=our_epoch(method, {**config, "precision": FASTEST}, data),
        )
        print(
            f"| {method.name} | {t['conventional']:.3f} | {t['float32']:.3f} | {t['fastest']:.3f} ({FASTEST}) "
            f"| {t['conventional'] / t['fastest']:.1f} |"
        )


def limit(data, repeats):
    print("\n2. The limit: the matrix products of the epoch alone, and what part of the time they are\n")
    print("| script | precision | products, s | epoch, s | products / epoch |\n| --- | --- | --- | --- | --- |")
    for method in METHODS:
        for precision in dict.fromkeys(("float32", FASTEST)):
            config = {**method.defaults, "precision": precision}
            t = in_turns(
                repeats,
                products=bare_products(config["hidden"], config["batch_size"], getattr(torch, precision)),
                epoch=our_epoch(method, config, data),
            )
            print(
                f"| {method.name} | {precision} | {t['products']:.3f} | {t['epoch']:.3f} "
                f"| {100 * t['products'] / t['epoch']:.0f} % |"
            )


def whole_processes(repeats, folder):
    print("\n3, 4. Whole processes\n")
    script = (sys.executable, ROOT / "sparse_l1.py", "--output-dir", folder)
    commands = {
        "bare imports": (sys.executable, "-c", "import torch, torchvision, matplotlib.pyplot"),
        "view": script,
        "train, 2 epochs": (*script, "--train", "--epochs", "2", "--checkpoint", f"{folder}/l1.pt"),
    }
    rounds = [{name: process(*command) for name, command in commands.items()} for _ in range(repeats + 1)][1:]
    print("| | seconds | x imports | peak MiB | above the imports |\n| --- | --- | --- | --- | --- |")
    for name in commands:
        rows = [
            (seconds, seconds / bare_seconds, size, size - bare_size)
            for (seconds, size), (bare_seconds, bare_size) in ((t[name], t["bare imports"]) for t in rounds)
        ]
        taken, ratio, size, above = map(statistics.median, zip(*rows, strict=True))
        print(f"| {name} | {taken:.2f} | {ratio:.2f} | {size:.0f} | {above:.0f} |")
    decoded = 70_000 * common.PIXELS / 2**20
    print(f"\nMNIST decoded: {decoded:.0f} MiB as bytes, {4 * decoded:.0f} MiB as float32")


def scaling(data, repeats):
    print("\n5. Scaling of an epoch, fastest precision\n")
    data = data._replace(train_images=data.train_images[:12_000])
    sizes = (256, 512, 1024, 2048, 4096, 8192)
    print("| script | " + " | ".join(map(str, sizes)) + " | exponent |\n" + "| --- " * (len(sizes) + 2) + "|")
    for method in METHODS:
        configs = {str(hidden): {**method.defaults, "hidden": hidden, "precision": FASTEST} for hidden in sizes}
        times = fifth(repeats, method, configs, data)
        cells = " | ".join(f"{value:.2f}" for value in times)
        print(f"| {method.name} | {cells} | {fitted_exponent(sizes, times):.2f} |")
    method = sparse_ksparse.METHOD
    configs = {
        f"k = {k}": {**method.defaults, "hidden": 8192, "k": k, "precision": FASTEST} for k in (5, 10, 25, 50, 100)
    }
    print("\n| k-sparse, 8192 units | " + " | ".join(configs) + " |\n" + "| --- " * (len(configs) + 1) + "|")
    cells = " | ".join(f"{value:.2f}" for value in fifth(repeats, method, configs, data))
    print(f"| seconds | {cells} |")


def fifth(repeats, method, configs, data):
    """Seconds per epoch for each of the configs, five times what 12,000 images take."""
    epochs = {name: our_epoch(method, config, data) for name, config in configs.items()}
    return [5 * seconds for seconds in in_turns(repeats, **epochs).values()]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    torch.set_flush_denormal(True)  # as common.main does
    data = common.load_mnist(ROOT / "data")
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, medians of {options.repeats}")
    training(data, options.repeats)
    limit(data, options.repeats)
    with tempfile.TemporaryDirectory() as folder:
        whole_processes(options.repeats, folder)
    scaling(data, options.repeats)


if __name__ == "__main__":
    main()
