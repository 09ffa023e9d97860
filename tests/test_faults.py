"""Faults from outside: one clear line, the right exit status, and nothing of the user's lost.

Every fault here is a real one, in a real process.
"""

import os
import shutil
import signal

import processes
import pytest
from conftest import METHODS, ROOT, contents

import common

TINY = ["--hidden", 16, "--epochs", 1, "--batch-size", 3000]
LONG = ["--hidden", 16, "--epochs", 20, "--batch-size", 6000]


def one_line(result, status, *words):
    lines = result.err.strip().split("\n")
    assert result.status == status, result
    assert len(lines) == 1 and lines[0].split(": ")[0].endswith(".py"), result.err
    for word in words:
        assert word in lines[0], result.err


@pytest.fixture
def places(room):
    return ["--checkpoint", room / "l1.pt", "--output-dir", room / "pictures"]


def temporary(folder):
    return list(folder.rglob(".*"))


# Folders, disks and streams


@pytest.mark.parametrize("flag", ["--output-dir", "--checkpoint"])
def test_folders_that_cannot_be_written_are_found_before_the_work(run, tmp_path, flag):
    locked, free = tmp_path / "locked", tmp_path / "free"
    locked.mkdir(mode=0o555)
    places = {"--output-dir": free, "--checkpoint": free / "m.pt"}
    places[flag] = locked if flag == "--output-dir" else locked / "m.pt"
    words = [word for pair in places.items() for word in pair]
    result = run("sparse_l1.py", "--train", *TINY, *words, before=processes.obey_permissions)
    one_line(result, 1, "cannot write", "Permission denied", flag)
    assert "epoch" not in result.out and not contents(locked) and not (free.exists() and contents(free))


def test_no_room_for_the_weights(run, room, places):
    before = (room / "l1.pt").read_bytes()
    result = run("sparse_l1.py", "--train", *TINY, *places, before=processes.write_small_files_only)
    one_line(result, 1, "cannot write", "l1.pt: File too large", "--checkpoint")
    assert (room / "l1.pt").read_bytes() == before and not temporary(room)


def test_no_room_for_the_pictures(run, room, places):
    result = run("sparse_l1.py", *places, before=processes.write_small_files_only)
    one_line(result, 1, "cannot write", "File too large", "--output-dir")
    assert not temporary(room)


def test_standard_output_closed_early(run, room, places):
    result = run("sparse_l1.py", *places, before=processes.close_the_reader)
    one_line(result, 1, "standard output was closed early", "all the same")
    assert len(list((room / "pictures").glob("*.png"))) == 6


def test_output_folder_removed_meanwhile(start, room, places):
    running = start("sparse_l1.py", "--train", "--hidden", 16, "--epochs", 3, "--batch-size", 6000, *places)
    running.wait_until("epoch")
    shutil.rmtree(room / "pictures")
    assert running.wait().status == 0
    assert len(list((room / "pictures").glob("*.png"))) == 6


# Ends


def test_ctrl_c_while_training(start, room, places):
    before = (room / "l1.pt").read_bytes()
    running = start("sparse_l1.py", "--train", *LONG, *places)
    running.wait_until("epoch")
    os.kill(running.process.pid, signal.SIGINT)
    one_line(running.wait(), 130, "interrupted")
    assert (room / "l1.pt").read_bytes() == before and not temporary(room)


def test_kill_during_the_save(run, room, places):
    before = (room / "l1.pt").read_bytes()
    (room / "pictures").mkdir()
    result = run("sparse_l1.py", "--train", *TINY, *places, before=processes.die_while_saving)
    assert result.status == -signal.SIGKILL and "epoch 1/1" in result.out
    assert (room / "l1.pt").read_bytes() == before
    assert len(temporary(room)) == 1  # what the kill left is not taken for weights
    assert run("sparse_l1.py", *places).status == 0


def test_two_at_once(start, room, tmp_path_factory):
    """They train the same model into the same place, and draw the same pictures."""
    arguments = ["--train", *TINY, "--checkpoint", room / "new.pt", "--output-dir", room / "pictures"]
    one = start("sparse_l1.py", *arguments)
    two = processes.Running(tmp_path_factory.mktemp("other"), ROOT / "sparse_l1.py", *arguments)
    assert one.wait().status == 0 and two.wait().status == 0
    assert not temporary(room) and len(list((room / "pictures").glob("*.png"))) == 6
    assert common.load_pretrained(room / "new.pt")[1].name == "new"


@pytest.mark.parametrize("script", METHODS)
def test_divergence_in_the_only_step(run, room, script):
    path = room / f"{script.removeprefix('sparse_')}.pt"
    before = path.read_bytes()
    options = ["--hidden", 32, "--epochs", 1, "--batch-size", 60_000, "--lr", "1e30"]
    result = run(f"{script}.py", "--train", *options, "--checkpoint", path, "--output-dir", room / "pictures")
    one_line(result, 1, "training diverged in epoch 1 of 1", "test loss", "--lr")
    assert path.read_bytes() == before and not list(room.rglob("*.png"))


# Data


def test_a_damaged_archive_and_no_network(run, room, archives, places):
    archive = archives / "t10k-images-idx3-ubyte.gz"
    archive.write_bytes(archive.read_bytes()[:-5000])
    before = contents(room / "data")
    result = run("sparse_l1.py", *places, "--data-dir", room / "data", before=processes.lose_the_network)
    one_line(result, 1, "t10k-images-idx3-ubyte.gz is damaged", "git checkout", "network", "--data-dir")
    assert contents(room / "data") == before


def test_missing_archives_and_no_network(run, room, places):
    result = run("sparse_l1.py", *places, "--data-dir", room / "data", before=processes.lose_the_network)
    one_line(result, 1, "train-images-idx3-ubyte.gz is missing", "network")
    assert not (room / "data").exists()


def test_a_read_only_data_folder(run, room, archives, places):
    before = contents(room / "data")
    for folder in (archives, *archives.parents[:2]):
        folder.chmod(0o555)
    result = run("sparse_l1.py", *places, "--data-dir", room / "data", before=processes.obey_permissions)
    for folder in (archives, *archives.parents[:2]):
        folder.chmod(0o755)
    assert result.status == 0, result.err
    assert contents(room / "data") == before
