"""Faults from outside: one clear line, the right exit status, and nothing of the user's lost.

Every fault here is a real one, and in a process of its own where the process is what suffers.
"""

import contextlib
import errno
import os
import shutil
import signal
import sys
import tempfile
import urllib.request
from pathlib import Path

import pytest
from conftest import ROOT, command_of, contents, ended, environment, is_quiet, run, start, write_archives

import common

TINY = ["--hidden", 16, "--epochs", 1, "--batch-size", 3000]


def one_line(result, status, *words):
    *others, line = result.err.strip().split("\n")  # others would be a driver's
    assert result.status == status and line.split(": ")[0].endswith(".py"), result
    assert is_quiet("\n".join(others)) and all(word in line for word in words), result


def shell(line, *arguments):
    """A process of a line of bash, in which "$@" is a script of ours with its arguments."""
    return start(["bash", "-c", line, "bash", *command_of("sparse_l1.py", arguments)])


@pytest.fixture
def places(room):
    return ["--checkpoint", room / "l1.pt", "--output-dir", room / "pictures"]


@pytest.fixture
def few_archives(tmp_path, small):
    """Options of a training that takes a moment, also in a process of its own."""
    write_archives(small, tmp_path / "data" / "few" / "raw")
    return ["--train", "--hidden", 16, "--epochs", 1, "--dataset", "few", "--data-dir", tmp_path / "data"]


def temporary(folder):
    return list(folder.rglob(".*"))


# Folders, disks and streams


# Root may write anywhere; without this capability it has to obey permissions as everybody does.
OBEDIENT = []
if hasattr(os, "getuid") and os.getuid() == 0:
    OBEDIENT = ["setpriv", "--bounding-set", "-dac_override,-dac_read_search", "--inh-caps", "-all"]
needs_obedience = pytest.mark.skipif(OBEDIENT != [] and not shutil.which("setpriv"), reason="root without setpriv")


@needs_obedience
def test_folders_that_cannot_be_written_are_found_before_the_work(tmp_path):
    locked, commands = tmp_path / "locked", {}
    locked.mkdir(mode=0o555)
    for option in ("--output-dir", "--checkpoint"):
        places = {"--output-dir": tmp_path, "--checkpoint": tmp_path / "m.pt"}
        places[option] = locked / "m.pt" if option == "--checkpoint" else locked
        arguments = ["--train", *TINY, *(word for pair in places.items() for word in pair)]
        commands[option] = start([*OBEDIENT, *command_of("sparse_l1.py", arguments)])
    for option, process in commands.items():
        result = ended(process)
        one_line(result, 1, "cannot write", "Permission denied", option)
        assert "epoch" not in result.out
    assert not contents(tmp_path)


@pytest.fixture
def no_room():
    """No file may become larger than 50 KiB."""
    resource = pytest.importorskip("resource", reason="no limits")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50 * 1024, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_no_room_for_the_weights(room, places, few, call, no_room):
    before = (room / "l1.pt").read_bytes()
    result = call("sparse_l1", "--train", *TINY, *places)
    one_line(result, 1, "cannot write", "l1.pt: File too large", "--checkpoint")
    assert "epoch 1/1" in result.out and (room / "l1.pt").read_bytes() == before and not temporary(room)


def test_what_was_trained_is_kept_when_it_cannot_be_put_in_its_place(room, places, few, call, monkeypatch):
    """The folder has become read-only meanwhile, or a scanner holds the file."""
    before, replace = (room / "l1.pt").read_bytes(), os.replace

    def refuse(source, target):
        if Path(target) == room / "l1.pt":
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), target)
        replace(source, target)

    (room / "elsewhere").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(room / "elsewhere"))
    monkeypatch.setattr(os, "replace", refuse)
    result = call("sparse_l1", "--train", *TINY, *places)
    one_line(result, 1, "cannot write", "l1.pt: Permission denied", "the weights are in ")
    (kept,) = (room / "elsewhere").rglob("*.pt")
    assert str(kept) in result.err and common.load_pretrained(kept).hidden == 16
    assert (room / "l1.pt").read_bytes() == before and not temporary(room)


@pytest.mark.parametrize(("number", "is_harmless"), [(errno.EINVAL, True), (errno.ENOTSUP, True), (errno.EIO, False)])
def test_a_file_system_without_fsync(tmp_path, monkeypatch, number, is_harmless):
    """A network drive, or a folder shared with a virtual machine. A disk that fails is another thing."""

    def fsync(file):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", fsync)
    expected = contextlib.nullcontext() if is_harmless else pytest.raises(common.UserError, match="cannot write")
    with expected:
        common.write_file(tmp_path / "x.pt", b"all of it", "--checkpoint")
    assert (tmp_path / "x.pt").exists() == is_harmless and not temporary(tmp_path)


def test_no_room_for_the_pictures(room, places, call, no_room):
    one_line(call("sparse_l1", *places), 1, "cannot write", "File too large", "--output-dir")
    assert not temporary(room)


STREAMS = {  # lines of bash, and how the one line begins that is left to say
    "a reader that goes": ('"$@" | head -1', None),
    "a full disk": ('"$@" > /dev/full', "standard output: No space left"),
    "a full disk for all": ('"$@" > /dev/full 2>&1', None),
}


@pytest.mark.skipif(not os.path.exists("/dev/full") or not shutil.which("bash"), reason="no /dev/full, or no bash")
def test_output_that_nobody_reads_is_no_failure(few_archives, tmp_path):
    """Nor does a log that has filled its disk cost anybody the weights. And all of them train the same model into the
    same place at once."""
    running = {}
    for kind, (line, _) in STREAMS.items():
        places = ["--checkpoint", tmp_path / "new.pt", "--output-dir", tmp_path / kind]
        running[kind] = shell(f"set -o pipefail; {line}", *few_archives, *places)
    for kind, (_, said) in STREAMS.items():
        result = ended(running[kind])
        assert result.status == 0 and is_quiet(result.err), (kind, result)
        lines = [line for line in result.err.split("\n") if any(word in line for word in ("output", "space", "pipe"))]
        assert len(lines) == (said is not None) and all(line.startswith(said) for line in lines), (kind, result)
        assert len(list((tmp_path / kind).glob("*.png"))) == 6, kind
    assert not temporary(tmp_path)
    assert common.load_pretrained(tmp_path / "new.pt").name == "new"


def test_a_process_without_streams(monkeypatch):
    """As pythonw starts one, or `>&-`."""
    for name in ("stdout", "stderr"):
        monkeypatch.setattr(sys, name, None)
    common.mend_streams()
    common.print_line("nobody reads this")
    assert sys.stdout.write("nor this") and sys.stderr.write("nor this")


@pytest.fixture
def after_an_epoch(monkeypatch):
    """after_an_epoch(function): have it called when a training has said how its first epoch was."""
    show_progress = common.show_progress

    def after_an_epoch(function):
        def then(bar, history, model):
            show_progress(bar, history, model)
            if len(history.train_loss) == 1:
                function()

        monkeypatch.setattr(common, "show_progress", then)

    return after_an_epoch


def test_output_folder_removed_meanwhile(room, places, few, call, after_an_epoch):
    after_an_epoch(lambda: shutil.rmtree(room / "pictures"))
    assert call("sparse_l1", "--train", "--hidden", 16, "--epochs", 3, *places).status == 0
    assert len(list((room / "pictures").glob("*.png"))) == 6


# Ends


@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_and_the_end_of_a_queue_while_training(room, places, few, call, after_an_epoch, kind):
    before = (room / "l1.pt").read_bytes()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a process in the background may have it switched off
    after_an_epoch(lambda: signal.raise_signal(kind))
    result = call("sparse_l1", "--train", "--hidden", 16, "--epochs", 20, *places)
    one_line(result, 130, "interrupted")
    assert "epoch 1/20" in result.out and "epoch 2/20" not in result.out
    assert (room / "l1.pt").read_bytes() == before and not temporary(room)
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


DIE_WHILE_SAVING = """
import os, signal, sys
import common
model = common.load_pretrained("l1.pt")
model.decoder.bias.fill_(1)
os.fsync = lambda file: os.kill(os.getpid(), signal.SIGKILL)  # the new file is written, and not yet in its place
common.save_checkpoint(model, "l1.pt")
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL")
def test_kill_during_the_save(room, places, call):
    before = (room / "l1.pt").read_bytes()
    result = ended(start([sys.executable, "-c", DIE_WHILE_SAVING], cwd=room, env=environment(PYTHONPATH=str(ROOT))))
    assert result.status == -signal.SIGKILL, result
    assert (room / "l1.pt").read_bytes() == before
    assert len([path for path in temporary(room) if path.is_dir()]) == 1  # what the kill left is not taken for weights
    assert call("sparse_l1", *places).status == 0


# Data


@pytest.fixture
def no_network(monkeypatch):
    """All ways out lead to where nobody listens."""
    for name in ("http_proxy", "https_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(urllib.request, "_opener", None)  # or the one that was made before would be used


def test_a_damaged_archive(room, archives, places, no_network, call):
    archive = archives / "t10k-images-idx3-ubyte.gz"
    archive.write_bytes(archive.read_bytes()[:-5000])
    before = contents(room / "data")
    result = call("sparse_l1", *places, "--data-dir", room / "data")
    one_line(result, 1, "t10k-images-idx3-ubyte.gz is not MNIST's (it is damaged", "move it away to have it downloaded")
    assert contents(room / "data") == before


def test_missing_archives_and_no_network(room, places, no_network, call):
    result = call("sparse_l1", *places, "--data-dir", room / "data")
    words = "and cannot be downloaded (<urlopen error", "name another folder with --data-dir"
    one_line(result, 1, "train-images-idx3-ubyte.gz is missing", *words)
    assert not (room / "data").exists()


@needs_obedience
def test_a_read_only_data_folder(room, archives, places):
    before = contents(room / "data")
    for folder in (archives, *archives.parents[:2]):
        folder.chmod(0o555)
    result = run("sparse_l1.py", *places, "--data-dir", room / "data", prefix=OBEDIENT)
    for folder in (archives, *archives.parents[:2]):
        folder.chmod(0o755)
    assert result.status == 0 and contents(room / "data") == before
