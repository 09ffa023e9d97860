"""How long a user waits, against the conventional way: `python tests/studies/benchmark.py` on an idle machine.

Every figure is a median of five (of a whole training: of three), and things that are compared take turns. Timings
belong to their machine: compare the ratios. `python tests/studies/benchmark.py view` measures one table of the four.
"""

import argparse
import functools
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import torch

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

import methods  # noqa: E402
from conventional import Conventional  # noqa: E402

import common  # noqa: E402

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


def times_faster(slow, fast):
    """The median of the ratios of two lists of seconds, taken in turns."""
    return median(a / b for a, b in zip(slow, fast, strict=True))


def timed(function, *arguments):
    """Seconds that a call takes."""
    start = time.perf_counter()
    function(*arguments)
    return time.perf_counter() - start


def process(*command):
    """(seconds, peak resident MiB) of a whole process."""
    return measured("", *command)


def seconds_until(path, *command):
    """Seconds from the start of a process until there is a file, which is removed first."""
    Path(path).unlink(missing_ok=True)
    return measured(path, *command)[0]


def measured(until, *command):
    """What SMALL_PARENT prints, as two numbers."""
    parent = (sys.executable, "-S", "-c", SMALL_PARENT, until, *command)
    seconds, peak = subprocess.run(parent, capture_output=True, text=True, check=True).stdout.split()
    return float(seconds), float(peak)


def view(repeats, data, folder):
    print("\nView: whole processes\n\n| | seconds | x bare imports | peak MiB above them |\n| --- | --- | --- | --- |")
    imports = (sys.executable, "-c", "import torch, torchvision, matplotlib.pyplot")
    script = (sys.executable, str(ROOT / "sparse_l1.py"))
    results = in_turns(
        repeats,
        imports=functools.partial(process, *imports),
        look=functools.partial(process, *script, "--output-dir", folder),
        help=functools.partial(process, *script, "--help"),
        mistyped=functools.partial(process, *script, "--lamda", "1"),
    )
    lines = {"imports": imports[-1], "look": "sparse_l1.py", "help": "sparse_l1.py --help", "mistyped": "... --lamda 1"}
    bare_seconds, bare_peaks = zip(*results["imports"], strict=True)
    for name, line in lines.items():
        seconds, peaks = zip(*results[name], strict=True)
        ratio = times_faster(seconds, bare_seconds)
        above = median(peak - bare for peak, bare in zip(peaks, bare_peaks, strict=True))
        print(f"| `{line}` | {median(seconds):.2f} | {ratio:.2f} | {above:.0f} |")


def epoch(repeats, data, folder):
    print("\nAn epoch: ours with its test loss, the conventional one without\n")
    print("| script | conventional, s | ours, s | times faster |\n| --- | --- | --- | --- |")
    for name in PUBLISHED:
        conventional = Conventional(name)
        results = in_turns(
            repeats,
            conventional=functools.partial(timed, conventional.epoch),
            ours=functools.partial(timed, three_epochs, name, data),
        )
        conventional, ours = results["conventional"], [seconds / 3 for seconds in results["ours"]]
        print(f"| {name} | {median(conventional):.2f} | {median(ours):.2f} | {times_faster(conventional, ours):.1f} |")


def three_epochs(name, data):
    methods.train(name, data, epochs=3)


def published(repeats, data, folder):
    print("\nFrom the process's start until weights of the published test loss are on disk\n")
    print("| script | conventional, s | epochs | ours, s | epochs | times faster |" + "\n|" + " --- |" * 6)
    for name, target in PUBLISHED.items():
        epochs = epochs_until(target, name, data)
        ours, theirs = f"{folder}/ours.pt", f"{folder}/theirs.pt"
        train = (sys.executable, str(ROOT / f"{name}.py"), "--train", "--epochs", str(epochs), "--checkpoint", ours)
        usual = (sys.executable, str(ROOT / "tests" / "studies" / "conventional.py"), name)
        usual = (*usual, "--until", str(target), "--save", theirs)
        results = in_turns(
            repeats,
            conventional=functools.partial(seconds_until, theirs, *usual),
            ours=functools.partial(seconds_until, ours, *train, "--output-dir", folder),
        )
        needed = subprocess.run(usual, capture_output=True, text=True, check=True).stdout.strip()
        conventional, ours = results["conventional"], results["ours"]
        slow, fast, ratio = median(conventional), median(ours), times_faster(conventional, ours)
        print(f"| {name} | {slow:.1f} | {needed} | {fast:.1f} | {epochs} | {ratio:.1f} |")


def epochs_until(target, name, data):
    """The epochs that a training of ours needs for a test loss of `target`, its schedule being made for so many."""
    for epochs in range(1, 50):
        model = methods.train(name, data, epochs=epochs)
        if common.evaluate(model, data.test_images).loss <= target:
            return epochs
    raise AssertionError(f"{name} does not reach {target}")


def training(repeats, data, folder):
    print("\nA whole training at the defaults, seconds\n\n| script | seconds |\n| --- | --- |")
    for name in methods.CLASSES:
        runs = [timed(methods.train, name, data) for _ in range(min(repeats, 3))]
        print(f"| {name} | {median(runs):.0f} |")


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
    precision = common.fastest_precision(torch.device("cpu"))
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, {precision}, medians of {options.repeats}")
    data = common.load_data()
    with tempfile.TemporaryDirectory() as folder:
        for name in options.tables or tables:
            tables[name](options.repeats, data, folder)


if __name__ == "__main__":
    main()
