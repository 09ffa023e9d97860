"""Bad input and faults: one clear line, the right exit status, and nothing of the user's lost.

Every fault here is a real one, in a real process.
"""

import os
import shutil
import signal
import subprocess
import sys

import processes
import pytest
import torch
from conftest import ROOT

import common

TINY = ["--hidden", 16, "--epochs", 1, "--batch-size", 3000]


def one_line(result, status, *words):
    lines = result.err.strip().split("\n")
    assert result.status == status, result
    assert len(lines) == 1 and lines[0].split(": ")[0].endswith(".py"), result.err
    for word in words:
        assert word in lines[0], result.err


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def room(tmp_path):
    """A folder with weights in it."""
    shutil.copy(ROOT / "checkpoints" / "sparse_l1.pt", tmp_path / "good.pt")
    return tmp_path


@pytest.fixture
def places(room):
    return ["--checkpoint", room / "good.pt", "--output-dir", room / "pictures"]


WRONG = [
    ("sparse_ksparse.py", "--k 0", "--k: '0' is not a whole number at least 1"),
    ("sparse_ksparse.py", "--k 2000", "--k 2000 is more than the 1000 units"),
    ("sparse_ksparse.py", "--k 2.5", "'2.5' is not a whole number"),
    ("sparse_ksparse.py", "--k 5 10 5", "same value twice"),
    ("sparse_ksparse.py", "--k 5 10 --checkpoint x.pt", "takes one model"),
    ("sparse_ksparse.py", "--k", "expected at least one argument"),
    ("sparse_kl.py", "--rho 0", "--rho: '0' is not a number above 0 and below 1"),
    ("sparse_kl.py", "--rho 1", "above 0 and below 1"),
    ("sparse_kl.py", "--rho nan", "above 0 and below 1"),
    ("sparse_kl.py", "--beta -1", "--beta: '-1' is not a number at least 0"),
    ("sparse_kl.py", "--beta inf", "at least 0"),
    ("sparse_l1.py", "--l1-weight -0.1", "--l1-weight"),
    ("sparse_l1.py", "--l1-weight nan", "--l1-weight"),
    ("sparse_l1.py", "--lr 0", "above 0"),
    ("sparse_l1.py", "--lr inf", "above 0"),
    ("sparse_l1.py", "--lr 1e999", "above 0"),
    ("sparse_l1.py", "--epochs 0", "at least 1"),
    ("sparse_l1.py", "--epochs 1e3", "whole number"),
    ("sparse_l1.py", "--batch-size 0", "at least 1"),
    ("sparse_l1.py", "--batch-size 60001", "more than the 60,000 training images"),
    ("sparse_l1.py", "--hidden 0", "at least 1"),
    ("sparse_l1.py", "--train --hidden 1000000000000000000", "--hidden"),
    ("sparse_l1.py", "--seed -1", "at least 0"),
    ("sparse_l1.py", "--device abacus", "--device abacus is not to be had here"),
    ("sparse_l1.py", "--precision half", "--precision"),
    ("sparse_l1.py", "--rho 0.1", "unrecognized arguments"),
    ("sparse_l1.py", "--epoch 3", "unrecognized arguments"),
    ("sparse_l1.py", "--epochs 5", "trained with --epochs 20, not 5: add --train"),
    ("sparse_l1.py", "--l1-weight 1", "trained with --l1-weight 4e-05, not 1.0"),
]


@pytest.mark.parametrize(("script", "arguments", "words"), WRONG, ids=lambda value: str(value)[:40])
def test_wrong_command_line(run, tmp_path, script, arguments, words):
    one_line(run(script, *arguments.split(), "--output-dir", tmp_path), 2, words)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_cuda_without_a_device(run):
    one_line(run("sparse_l1.py", "--device", "cuda"), 2, "--device cuda", "take one of")


def test_checkpoint_is_a_folder(run, room):
    one_line(run("sparse_l1.py", "--checkpoint", room), 2, "is a folder or a device")


@pytest.mark.parametrize("flag", ["--output-dir", "--checkpoint"])
def test_a_file_where_a_folder_is_needed(run, room, flag):
    (room / "file").write_text("mine")
    arguments = {"--output-dir": room / "pictures", "--checkpoint": room / "new.pt"}
    arguments[flag] = room / "file" / "x"
    result = run("sparse_l1.py", *TINY, *(word for pair in arguments.items() for word in pair))
    one_line(result, 1, "not a folder", flag)
    assert (room / "file").read_text() == "mine" and "epoch" not in result.out


@pytest.mark.parametrize("flag", ["--output-dir", "--checkpoint"])
def test_folders_that_cannot_be_written_are_found_before_the_work(run, room, flag):
    locked, free = room / "locked", room / "free"
    locked.mkdir(mode=0o555)
    free.mkdir()
    arguments = {"--output-dir": free, "--checkpoint": free / "m.pt"}
    arguments[flag] = locked if flag == "--output-dir" else locked / "m.pt"
    words = [word for pair in arguments.items() for word in pair]
    result = run("sparse_l1.py", "--train", *TINY, *words, before=processes.obey_permissions)
    one_line(result, 1, "Permission denied", flag)
    assert "epoch" not in result.out and not list(locked.iterdir()) and not list(free.iterdir())


def test_a_damaged_checkpoint_is_not_touched(run, room, places):
    path = room / "good.pt"
    path.write_bytes(path.read_bytes()[:5000])
    before = contents(room)
    one_line(run("sparse_l1.py", *places), 1, "not a good checkpoint", "--train")
    assert {**contents(room), "stdout.txt": b"", "stderr.txt": b""} == {**before, "stdout.txt": b"", "stderr.txt": b""}


def test_train_replaces_a_damaged_checkpoint_and_says_so(run, room, places):
    path = room / "good.pt"
    path.write_bytes(b"not weights")
    result = run("sparse_l1.py", "--train", *TINY, *places)
    assert result.status == 0 and "not a good checkpoint" in result.out and "It stays until" in result.out
    assert run("sparse_l1.py", *places).status == 0


@pytest.mark.parametrize("train", [[], ["--train"]])
def test_weights_of_another_method(run, places, train):
    one_line(run("sparse_kl.py", *train, *places), 1, "holds weights of 'sparse_l1', not of sparse_kl")


def test_a_pickle_that_would_run_code(run, room, places):
    path = room / "good.pt"
    path.write_bytes(b"cos\nsystem\n(S'touch %b'\ntR." % os.fsencode(room / "executed"))
    one_line(run("sparse_l1.py", *places), 1, "not a good checkpoint")
    assert not (room / "executed").exists()


# Data


@pytest.fixture
def archives(room):
    raw = room / "data" / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for path in (ROOT / "data" / "MNIST" / "raw").glob("*.gz"):
        shutil.copy(path, raw)
    return raw


def test_an_altered_archive(run, room, archives, places):
    archive = archives / "t10k-images-idx3-ubyte.gz"
    archive.write_bytes(archive.read_bytes()[:-1] + b"x")
    before = contents(archives)
    result = run("sparse_l1.py", *places, "--data-dir", room / "data", before=processes.lose_the_network)
    one_line(result, 1, "t10k-images-idx3-ubyte.gz (damaged)", "git checkout")
    assert contents(room / "data") == before


def test_missing_archives_and_no_network(run, room, places):
    result = run("sparse_l1.py", *places, "--data-dir", room / "data", before=processes.lose_the_network)
    one_line(result, 1, "train-images-idx3-ubyte.gz (missing)", "network")


def test_a_truncated_unpacked_file_is_mended(run, room, archives, places):
    data = ["--data-dir", room / "data"]
    assert run("sparse_l1.py", *places, *data).status == 0
    whole = contents(archives)
    (archives / "train-images-idx3-ubyte").write_bytes(whole["train-images-idx3-ubyte"][:1_000_000])
    (archives / "t10k-labels-idx1-ubyte").unlink()
    assert run("sparse_l1.py", *places, *data).status == 0
    assert contents(archives) == whole


@pytest.mark.parametrize("unpacked", [True, False])
def test_a_read_only_data_folder(run, room, archives, unpacked):
    arguments = ["--data-dir", room / "data", "--checkpoint", room / "good.pt", "--output-dir", room / "pictures"]
    if unpacked:
        common.load_mnist(room / "data")
    before = contents(room / "data")
    folders = [archives, *archives.parents[:2]]
    for folder in folders:
        os.chmod(folder, 0o555)
    try:
        result = run("sparse_l1.py", *arguments, before=processes.obey_permissions)
    finally:
        for folder in folders:
            os.chmod(folder, 0o755)
    assert result.status == 0, result.err
    assert contents(room / "data") == before and len(before) == (8 if unpacked else 4)


def test_two_at_once_on_a_fresh_clone(start, room, archives, places, tmp_path_factory):
    other = tmp_path_factory.mktemp("other")
    arguments = ["--data-dir", room / "data", "--checkpoint", room / "good.pt"]
    one = start("sparse_l1.py", *arguments, "--output-dir", room / "one")
    two = processes.Running(other, "sparse_l1.py", *arguments, "--output-dir", room / "two")
    assert one.wait().status == 0 and two.wait().status == 0
    assert len(contents(archives)) == 8 and contents(room / "one") == contents(room / "two")
    assert not list((room / "data").glob(".unpack-*"))


# While running


def test_ctrl_c(start, room, places):
    before = (room / "good.pt").read_bytes()
    running = start("sparse_l1.py", "--train", *TINY[:2], "--epochs", 200, "--batch-size", 6000, *places)
    running.wait_until("epoch")
    os.kill(running.process.pid, signal.SIGINT)
    one_line(running.wait(), 130, "interrupted")
    assert (room / "good.pt").read_bytes() == before
    assert not list(room.glob(".*.tmp"))


def test_ctrl_c_while_torch_is_imported(tmp_path):
    """The import takes a second or two: nobody should see torch's insides for having changed their mind."""
    script = tmp_path / "sparse_l1.py"
    script.write_text(
        f"import os, signal, sys, threading\nsys.path.insert(0, {str(ROOT)!r})\n"
        "threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()\n"
        "import common\nimport time\ntime.sleep(9)\n"
    )
    result = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=60)
    assert result.returncode == 130 and result.stderr.count("\n") == 1 and "interrupted" in result.stderr


def test_kill_during_the_save(run, room, places):
    before = (room / "good.pt").read_bytes()

    result = run("sparse_l1.py", "--train", *TINY, *places, before=processes.die_while_saving)
    assert result.status == -signal.SIGKILL
    assert (room / "good.pt").read_bytes() == before
    assert len(list(room.glob(".*.tmp"))) == 1  # what the kill left is not taken for weights
    assert run("sparse_l1.py", *places).status == 0


def test_no_room_for_the_weights(run, room, places):
    before = (room / "good.pt").read_bytes()

    result = run("sparse_l1.py", "--train", *TINY, *places, before=processes.write_small_files_only)
    one_line(result, 1, "cannot write", "good.pt", "make room")
    assert (room / "good.pt").read_bytes() == before and not list(room.glob(".*.tmp"))


@pytest.fixture
def full_disk(room):
    """A disk of a few kilobytes. Only root can make one."""
    disk = room / "disk"
    disk.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=40k", "none", disk], capture_output=True)
    if made.returncode:
        pytest.skip("cannot mount a small disk here")
    yield disk
    subprocess.run(["umount", disk], check=True)


def test_disk_full_during_the_save(run, full_disk, room):
    path = full_disk / "model.pt"
    path.write_bytes(b"old weights")
    result = run("sparse_l1.py", "--train", *TINY, "--checkpoint", path, "--output-dir", room / "pictures")
    one_line(result, 1, "No space left on device", "model.pt")
    assert contents(full_disk) == {"model.pt": b"old weights"}


def test_disk_full_while_drawing(run, full_disk, room):
    result = run("sparse_l1.py", "--checkpoint", room / "good.pt", "--output-dir", full_disk)
    one_line(result, 1, "No space left on device", "--output-dir")
    assert not list(full_disk.glob(".*.tmp"))


@pytest.mark.parametrize("script", ["sparse_l1.py", "sparse_kl.py", "sparse_ksparse.py"])
def test_divergence(run, room, script):
    before = (room / "good.pt").read_bytes()
    places = ["--checkpoint", room / "new.pt", "--output-dir", room / "pictures"]
    result = run(script, "--train", "--lr", "1e6", "--hidden", 64, "--epochs", 50, "--batch-size", 3000, *places)
    one_line(result, 1, "training diverged in epoch", "of 50", "--lr")
    assert not (room / "new.pt").exists() and (room / "good.pt").read_bytes() == before


def test_a_large_penalty_is_not_divergence(run, room):
    places = ["--checkpoint", room / "new.pt", "--output-dir", room / "pictures"]
    assert run("sparse_l1.py", *TINY, "--l1-weight", 10, *places).status == 0


def test_a_full_log(run, room, places):
    result = run("sparse_l1.py", *places, before=processes.log_to_a_full_disk)
    one_line(result, 1, "standard output", "all the same")
    assert len(list((room / "pictures").glob("*.png"))) == 5


def test_output_folder_removed_meanwhile(start, room, places):
    running = start("sparse_l1.py", "--train", *TINY[:2], "--epochs", 20, "--batch-size", 6000, *places)
    running.wait_until("epoch")
    shutil.rmtree(room / "pictures")
    assert running.wait().status == 0
    assert len(list((room / "pictures").glob("*.png"))) == 5


def test_standard_output_closed_early(run, room, places):
    result = run("sparse_l1.py", *places, before=processes.close_the_reader)
    one_line(result, 1, "standard output was closed early", "all the same")
    assert len(list((room / "pictures").glob("*.png"))) == 5
