"""Faults from outside: one clear line, the right exit status, and nothing of the user's lost.

Every fault here is a real one, in a real process.
"""

import functools
import os
import shutil
import signal
import subprocess
import sys

import pytest
from conftest import ROOT, contents, environment, run, start

import common

TINY = ["--hidden", 16, "--epochs", 1, "--batch-size", 3000]


def one_line(result, status, *words):
    lines = result.stderr.strip().split("\n")
    assert result.returncode == status, result
    assert len(lines) == 1 and lines[0].split(": ")[0].endswith(".py"), result.stderr
    for word in words:
        assert word in lines[0], result.stderr


def shell(line, *arguments):
    """A line of bash, in which "$@" is a script of ours with its arguments."""
    command = ["bash", "-c", line, "bash", sys.executable, ROOT / "sparse_l1.py", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


@pytest.fixture
def places(room):
    return ["--checkpoint", room / "l1.pt", "--output-dir", room / "pictures"]


def temporary(folder):
    return list(folder.rglob(".*"))


# Folders, disks and streams


# Root may write anywhere; without this capability it has to obey permissions as everybody does.
OBEDIENT = []
if os.getuid() == 0:
    OBEDIENT = ["setpriv", "--bounding-set", "-dac_override,-dac_read_search", "--inh-caps", "-all"]
needs_obedience = pytest.mark.skipif(OBEDIENT != [] and not shutil.which("setpriv"), reason="root without setpriv")


@needs_obedience
@pytest.mark.parametrize("option", ["--output-dir", "--checkpoint"])
def test_folders_that_cannot_be_written_are_found_before_the_work(tmp_path, option):
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o555)
    places = {"--output-dir": tmp_path, "--checkpoint": tmp_path / "m.pt"}
    places[option] = locked / "m.pt" if option == "--checkpoint" else locked
    result = run("sparse_l1.py", "--train", *TINY, *(word for pair in places.items() for word in pair), prefix=OBEDIENT)
    one_line(result, 1, "cannot write", "Permission denied", option)
    assert "epoch" not in result.stdout and not contents(tmp_path)


def test_no_room_for_the_weights(room, places):
    before = (room / "l1.pt").read_bytes()
    result = shell('ulimit -f 50; "$@"', "--train", *TINY, *places)
    one_line(result, 1, "cannot write", "l1.pt: File too large", "--checkpoint")
    assert (room / "l1.pt").read_bytes() == before and not temporary(room)


def test_no_room_for_the_pictures(room, places):
    result = shell('ulimit -f 50; "$@"', *places)
    one_line(result, 1, "cannot write", "File too large", "--output-dir")
    assert not temporary(room)


@pytest.mark.parametrize("line", ['"$@" | head -1', '"$@" >&-'])
def test_output_that_nobody_wants_is_no_failure(room, places, line):
    result = shell(f"set -o pipefail; {line}", *places)
    assert (result.returncode, result.stderr) == (0, "")
    assert len(list((room / "pictures").glob("*.png"))) == 7


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full")
def test_output_on_a_full_disk(room, places):
    result = shell('"$@" > /dev/full', *places)
    assert result.returncode == 0 and result.stderr.startswith("standard output: No space left"), result
    assert result.stderr.count("\n") == 1 and len(list((room / "pictures").glob("*.png"))) == 7


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full")
def test_training_with_both_streams_on_a_full_disk(room):
    """A log that has filled its disk costs nobody the weights."""
    places = ["--checkpoint", room / "new.pt", "--output-dir", room / "pictures"]
    assert shell('"$@" > /dev/full 2>&1', "--train", *TINY, *places).returncode == 0
    assert (room / "new.pt").is_file() and len(list((room / "pictures").glob("*.png"))) == 7


def test_output_folder_removed_meanwhile(room, places):
    running = start("sparse_l1.py", "--train", "--hidden", 16, "--epochs", 3, "--batch-size", 6000, *places)
    assert "epoch 1/3" in running.stdout.readline()
    shutil.rmtree(room / "pictures")
    running.communicate(timeout=60)
    assert running.returncode == 0 and len(list((room / "pictures").glob("*.png"))) == 7


# Ends


def test_ctrl_c_while_training(room, places):
    before = (room / "l1.pt").read_bytes()
    options = ["--hidden", 16, "--epochs", 20, "--batch-size", 6000, *places]
    heed = functools.partial(signal.signal, signal.SIGINT, signal.SIG_DFL)  # a job in the background ignores it
    running = start("sparse_l1.py", "--train", *options, preexec_fn=heed)
    assert "epoch 1/20" in running.stdout.readline()
    running.send_signal(signal.SIGINT)
    out, err = running.communicate(timeout=60)
    one_line(subprocess.CompletedProcess([], running.returncode, out, err), 130, "interrupted")
    assert (room / "l1.pt").read_bytes() == before and not temporary(room)


DIE_WHILE_SAVING = """
import os, runpy, signal, sys
os.fsync = lambda file: os.kill(os.getpid(), signal.SIGKILL)  # the new file is written, and not yet in its place
sys.argv.pop(0)
sys.path.insert(0, os.path.dirname(sys.argv[0]))
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def test_kill_during_the_save(room, places):
    before = (room / "l1.pt").read_bytes()
    command = ["-c", DIE_WHILE_SAVING, ROOT / "sparse_l1.py", "--train", *TINY, *places]
    result = subprocess.run([sys.executable, *map(str, command)], capture_output=True, text=True, timeout=60)
    assert result.returncode == -signal.SIGKILL and "epoch 1/1" in result.stdout, result
    assert (room / "l1.pt").read_bytes() == before
    assert len([path for path in temporary(room) if path.is_dir()]) == 1  # what the kill left is not taken for weights
    assert run("sparse_l1.py", *places).returncode == 0


def test_two_at_once(room):
    """They train the same model into the same place, and draw the same pictures."""
    arguments = ["--train", *TINY, "--checkpoint", room / "new.pt", "--output-dir", room / "pictures"]
    both = [start("sparse_l1.py", *arguments) for _ in range(2)]
    for running in both:
        running.communicate(timeout=120)
        assert running.returncode == 0
    assert not temporary(room) and len(list((room / "pictures").glob("*.png"))) == 7
    assert common.load_pretrained(room / "new.pt")[1].name == "new"


# Data

NOBODY = "http://127.0.0.1:9"  # nobody listens there
NO_NETWORK = environment(http_proxy=NOBODY, https_proxy=NOBODY, no_proxy=None, NO_PROXY=None)


def test_a_damaged_archive(room, archives, places):
    archive = archives / "t10k-images-idx3-ubyte.gz"
    archive.write_bytes(archive.read_bytes()[:-5000])
    before = contents(room / "data")
    result = run("sparse_l1.py", *places, "--data-dir", room / "data", env=NO_NETWORK)
    one_line(result, 1, "t10k-images-idx3-ubyte.gz is damaged", "name another folder with --data-dir")
    assert contents(room / "data") == before


def test_missing_archives_and_no_network(room, places):
    result = run("sparse_l1.py", *places, "--data-dir", room / "data", env=NO_NETWORK)
    one_line(
        result, 1, "train-images-idx3-ubyte.gz is missing", "Connection refused", "name another folder with --data-dir"
    )
    assert not (room / "data").exists()


@needs_obedience
def test_a_read_only_data_folder(room, archives, places):
    before = contents(room / "data")
    for folder in (archives, *archives.parents[:2]):
        folder.chmod(0o555)
    result = run("sparse_l1.py", *places, "--data-dir", room / "data", prefix=OBEDIENT)
    for folder in (archives, *archives.parents[:2]):
        folder.chmod(0o755)
    assert result.returncode == 0 and contents(room / "data") == before
