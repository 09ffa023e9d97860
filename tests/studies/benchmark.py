"""How long a user waits, against the conventional way: `python tests/studies/benchmark.py` on an idle machine.

Every figure is a median of five (of a whole training: of three), and things that are compared take turns. Timings
belong to their machine: compare the ratios. `python tests/studies/benchmark.py view` measures one table of the four.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from conventional import Conventional  # noqa: E402

import common  # noqa: E402
import sparse_kl  # noqa: E402
import sparse_ksparse  # noqa: E402
import sparse_l1  # noqa: E402

METHODS = ((sparse_l1.SparseL1, sparse_l1), (sparse_kl.SparseKL, sparse_kl), (sparse_ksparse.KSparse, sparse_ksparse))
FASTEST = common.fastest_precision(torch.device("cpu"))
PUBLISHED = {"sparse_l1": 0.0776, "sparse_kl": 0.0771}  # test losses in the document that this project grew from

# A process starts with its parent's peak size as its own, and this one is large: so a small one stands between. It
# stops the clock when the process ends, or earlier, when the file argv[1] is there.
SMALL_PARENT = """
import os, resource, subprocess, sys, time
start = time.perf_counter()
process = subprocess.Popen(sys.argv[2:], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
while process.poll() is None and not os.path.exists(sys.argv[1]):
    time.sleep(0.002)
seconds = time.perf_counter() - start
process.wait()
print(seconds, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024)
sys.exit(process.returncode not in (0, 2))  # 2: a mistyped option
"""


def in_turns(repeats, **functions):
    """What each function returns, [repeats] for each, called in turns after one call each that is not counted."""
    results = {name: [] for name in functions}
    for _ in range(repeats + 1):
        for name, function in functions.items():
            results[name].append(function())
    return {name: values[1:] for name, values in results.items()}


def timed(function, *arguments, **options):
    start = time.perf_counter()
    function(*arguments, **options)
    return time.perf_counter() - start


def process(*command, until=""):
    """(seconds, peak resident MiB) of a whole process, or until there is a file."""
    Path(until).unlink(missing_ok=True) if until else None
    parent = (sys.executable, "-S", "-c", SMALL_PARENT, until, *command)
    return tuple(map(float, subprocess.run(parent, capture_output=True, text=True, check=True).stdout.split()))


def view(repeats, data, folder):
    print("\nView: whole processes\n\n| | seconds | x bare imports | peak MiB above them |\n| --- | --- | --- | --- |")
    script = (sys.executable, str(ROOT / "sparse_l1.py"))
    results = in_turns(
        repeats,
        **{
            "import torch, torchvision, matplotlib.pyplot": lambda: process(
                sys.executable, "-c", "import torch, torchvision, matplotlib.pyplot"
            ),
            "import torch, matplotlib.figure": lambda: process(sys.executable, "-c", "import torch, matplotlib.figure"),
            "sparse_l1.py, weights present": lambda: process(*script, "--output-dir", folder),
            "sparse_l1.py --help": lambda: process(*script, "--help"),
            "sparse_l1.py --lambda 1": lambda: process(*script, "--lambda", "1"),
        },
    )
    bare = next(iter(results.values()))
    for name, values in results.items():
        rows = [(s, s / b, m - bm) for (s, m), (b, bm) in zip(values, bare, strict=True)]
        seconds, ratio, above = map(statistics.median, zip(*rows, strict=True))
        print(f"| `{name}` | {seconds:.2f} | {ratio:.2f} | {above:.0f} |")


def epoch(repeats, data, folder):
    print("\nAn epoch: ours with its test loss, the conventional one without\n")
    print("| script | conventional, s | ours, s | times faster |\n| --- | --- | --- | --- |")
    for cls, script in METHODS[:2]:
        config = {**script.DEFAULTS, "precision": FASTEST, "epochs": 3}
        conventional, training = Conventional(cls.name), {key: config[key] for key in common.TRAIN_KEYS}
        results = in_turns(
            repeats,
            conventional=lambda conventional=conventional: timed(conventional.epoch),
            ours=lambda c=cls, g=config, t=training: timed(common.train, common.build(c, g), data, **t) / 3,
        )
        theirs, ours = map(statistics.median, results.values())
        ratio = statistics.median(a / b for a, b in zip(*results.values(), strict=True))
        print(f"| {cls.name} | {theirs:.2f} | {ours:.2f} | {ratio:.1f} |")


def published(repeats, data, folder):
    print("\nFrom the process's start until weights of the published test loss are on disk\n")
    print("| script | conventional, s | epochs | ours, s | epochs | times faster |" + "\n|" + " --- |" * 6)
    for cls, script in METHODS[:2]:
        target, epochs, best = PUBLISHED[cls.name], 0, float("inf")
        while best > target:
            epochs += 1
            assert epochs < 50, f"{cls.name} does not reach {target}"
            config = {**script.DEFAULTS, "precision": FASTEST, "epochs": epochs}
            model = common.build(cls, config)
            common.train(model, data, **{key: config[key] for key in common.TRAIN_KEYS})
            best = common.evaluate(model, data.test_images, data.test_labels).loss
        ours, theirs = f"{folder}/ours.pt", f"{folder}/theirs.pt"
        train = (sys.executable, str(ROOT / f"{cls.name}.py"), "--train", "--epochs", str(epochs), "--checkpoint", ours)
        usual = (sys.executable, str(ROOT / "tests" / "studies" / "conventional.py"), cls.name)
        usual = (*usual, "--until", str(target), "--save", theirs)
        results = in_turns(
            repeats,
            conventional=lambda c=usual, f=theirs: process(*c, until=f)[0],
            ours=lambda c=train, f=ours: process(*c, "--output-dir", folder, until=f)[0],
        )
        needed = subprocess.run(usual, capture_output=True, text=True, check=True).stdout.strip()
        slow, fast = map(statistics.median, results.values())
        ratio = statistics.median(a / b for a, b in zip(*results.values(), strict=True))
        print(f"| {cls.name} | {slow:.1f} | {needed} | {fast:.1f} | {epochs} | {ratio:.1f} |")


def training(repeats, data, folder):
    print("\nA whole training at the defaults, seconds\n\n| script | seconds |\n| --- | --- |")
    for cls, script in METHODS:
        config = {**script.DEFAULTS, "precision": FASTEST}
        keys = {key: config[key] for key in common.TRAIN_KEYS}
        runs = [timed(common.train, common.build(cls, config), data, **keys) for _ in range(min(repeats, 3))]
        print(f"| {cls.name} | {statistics.median(runs):.0f} |")


def main():
    tables = {table.__name__: table for table in (view, epoch, published, training)}
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tables", nargs="*", metavar="TABLE", help=f"of {', '.join(tables)} (default: all)")
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    for name in options.tables:
        if name not in tables:
            parser.error(f"there is no table {name}: take of {', '.join(tables)}")
    torch.set_flush_denormal(True)  # as the scripts do
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, {FASTEST}, medians of {options.repeats}")
    data = common.load_mnist()
    with tempfile.TemporaryDirectory() as folder:
        for name in options.tables or tables:
            tables[name](options.repeats, data, folder)


if __name__ == "__main__":
    main()
