"""What a user has around the program does not break it: settings, names, paths, the process it runs in."""

import contextlib
import copy
import io
import random
import shutil
import sys
import warnings
from pathlib import Path

import matplotlib
import numpy as np
import pytest
import torch
from conftest import METHODS, ROOT, contents

import common

TRAIN = ["--train", "--hidden", 16, "--epochs", 2, "--batch-size", 300]


@pytest.fixture
def inside(room, few, monkeypatch):
    """The folder with weights in it, which is the working directory; MNIST has few images."""
    monkeypatch.chdir(room)
    return room


@pytest.fixture
def message(monkeypatch):
    """message("--epochs", 3): the one line with which that command of L1 ends. Python prints it; the status is 1."""

    def message(*arguments):
        monkeypatch.setattr(sys, "argv", ["sparse_l1.py", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            common.main(METHODS["sparse_l1"].cls)
        assert isinstance(end.value.code, str) and "\n" not in end.value.code
        return end.value.code

    return message


# Settings of matplotlib, and names

SETTINGS = {
    "image.origin": "lower",
    "text.usetex": True,
    "savefig.dpi": 30,
    "figure.facecolor": "black",
    "axes.facecolor": "black",
    "font.size": 30,
    "lines.linewidth": 9,
    "image.cmap": "jet",
    "axes.titlepad": 50,
    "xtick.labelsize": 40,
}


def test_the_users_matplotlib_does_not_show_and_stays_as_it_is(tiny, small, tmp_path):
    model = tiny["sparse_l1"]
    report = common.evaluate(model, small.test_images)

    def draw(folder):
        common.write_outputs(model, report, small, tmp_path / folder)
        images = common.first_images(small.test_images, small.test_labels)
        comparison = common.plot_rows({"input": images, "k = 5": images}, "comparison")
        common.save_figure(comparison, tmp_path / folder / "comparison.png")
        return contents(tmp_path / folder)

    expected = draw("plain")
    with matplotlib.style.context("dark_background"), matplotlib.rc_context(SETTINGS):
        assert draw("of the user") == expected and len(expected) == 7
        assert all(matplotlib.rcParams[key] == value for key, value in SETTINGS.items())


LONG = "sparse_l1_l1-weight0.0001_hidden256_epochs30_batch-size600_lr0.001_seed3_datasetFashionMNIST_encoder-speed1"


@pytest.mark.parametrize("name", ["costs_$5_and_$6 a_{b}^c <x> 100% naïve ρ 稀疏", LONG], ids=len)
def test_a_name_stands_in_every_title_as_it_is(tiny, small, name, tmp_path):
    """Also with letters that mean something to matplotlib or that its font does not have; and no title is cut off."""
    model = copy.deepcopy(tiny["sparse_kl"])
    model.name = name
    report = common.evaluate(model, small.test_images)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        common.write_outputs(model, report, small, tmp_path)
        figures = common.draw_pictures(model, report, small)
    assert {path.name for path in tmp_path.iterdir()} == {f"{name}_{kind}.png" for kind in figures}
    for kind, figure in figures.items():
        titles = [text for text in [*figure.texts, figure.axes[0].title] if name in text.get_text()]
        assert len(titles) == 1 and not titles[0].get_parse_math(), kind
        with common.own_style():
            figure.draw_without_rendering()  # it is laid out then
        box, (width, height) = titles[0].get_window_extent(), figure.get_size_inches() * figure.dpi
        assert box.x0 >= 0 and box.x1 <= width and box.y1 <= height, kind


# Paths


def test_the_home_folder_is_known(inside, call, tiny, monkeypatch):
    monkeypatch.setenv("HOME", str(inside))
    assert call("sparse_l1", "--checkpoint", "~/l1.pt", "--output-dir", "~/out").status == 0
    common.save_checkpoint(tiny["sparse_kl"], "~/new/kl.pt")
    assert common.load_pretrained("~/new/kl.pt").name == "kl"
    assert (inside / "out" / "l1_loss.png").is_file() and not (inside / "~").exists()


def test_the_data_are_found_in_the_home_folder_and_from_any_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine").symlink_to(ROOT / "data")
    for place in ({"data_dir": "~/mine"}, {"data_dir": "mine"}, {}):
        assert len(common.load_data(for_training=False, **place).test_images) == 10_000
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_a_link_to_weights_keeps_its_own_name_and_stays_a_link(inside, call):
    """What it leads to is replaced."""
    (inside / "far").mkdir()
    shutil.move(inside / "l1.pt", inside / "far" / "theirs.pt")
    (inside / "l1.pt").symlink_to("far/theirs.pt")
    before = (inside / "far" / "theirs.pt").read_bytes()
    result = call("sparse_l1", *TRAIN, "--checkpoint", "l1.pt")
    assert result.status == 0 and "weights       l1.pt\n" in result.out, result
    assert (inside / "l1_outputs" / "l1_loss.png").is_file()
    assert (inside / "l1.pt").is_symlink() and (inside / "far" / "theirs.pt").read_bytes() != before


@pytest.mark.parametrize("place", ["file", "file/below", "/proc"])
@pytest.mark.parametrize("option", ["--checkpoint", "--output-dir"])
def test_a_folder_that_cannot_be_written_is_found_before_the_training(inside, message, capsys, place, option):
    """A file in its place, or a folder in which nobody can make one."""
    if place == "/proc" and not Path("/proc/self").exists():
        pytest.skip("no such folder here")
    (inside / "file").write_text("mine")
    before = contents(inside)
    places = {"--checkpoint": "new.pt", "--output-dir": "out"}
    places[option] = f"{place}/x.pt" if option == "--checkpoint" else place
    line = message(*TRAIN, *(word for pair in places.items() for word in pair))
    assert line.startswith(f"sparse_l1.py: error: {inside / place}"), line
    assert line.endswith("; name another file or folder, see --help")
    assert capsys.readouterr().out == "" and contents(inside) == before


def test_damaged_archives_and_other_images_end_a_command_in_one_line(room, message, archives, capsys):
    """Before a report that would be of other images."""
    places = ["--checkpoint", room / "l1.pt", "--output-dir", room / "out", "--data-dir", archives.parents[1]]
    assert "its test images were others" in message(*places)
    (archives / "t10k-images-idx3-ubyte.gz").write_bytes(b"x")
    assert "t10k-images-idx3-ubyte.gz is damaged" in message(*places)
    assert capsys.readouterr().out == "" and not contents(room / "out")


# A full device, and an end before the end


@pytest.fixture
def no_room():
    """No file may become larger than 50 KiB."""
    resource = pytest.importorskip("resource", reason="no limits")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50 * 1024, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("what", ["weights", "pictures"])
def test_a_full_device_is_told_in_a_line_and_the_old_file_stays(inside, message, no_room, what):
    before = contents(inside)
    line = message(*(TRAIN if what == "weights" else []), "--checkpoint", "l1.pt", "--output-dir", "out")
    assert line.startswith(f"sparse_l1.py: error: {inside / ('l1.pt' if what == 'weights' else 'out/l1_')}"), line
    assert line.endswith(": File too large; name another file or folder, see --help")
    after = contents(inside)
    assert {name: after[name] for name in before} == before and not list(inside.rglob(".*"))


def test_ctrl_c_leaves_what_was_there(inside, message, capsys, monkeypatch):
    before, train_epoch, epochs = contents(inside), common.train_epoch, []

    def interrupted(*arguments):
        epochs.append(1)
        if len(epochs) == 2:
            raise KeyboardInterrupt
        return train_epoch(*arguments)

    monkeypatch.setattr(common, "train_epoch", interrupted)
    line = message(*TRAIN, "--checkpoint", "l1.pt", "--output-dir", "out")
    assert line == "sparse_l1.py: interrupted: files that were complete stay as they were"
    assert "epoch 1/2" in capsys.readouterr().out and contents(inside) == before


# The process


def test_a_terminal_that_has_no_rho_shows_something_else(monkeypatch):
    terminal = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", terminal)
    monkeypatch.setattr(sys, "argv", ["sparse_kl.py", "--help"])
    with pytest.raises(SystemExit) as end:
        common.main(METHODS["sparse_kl"].cls)
    terminal.flush()
    assert end.value.code == 0 and b"?, wanted mean activation of a unit" in terminal.buffer.getvalue()


def test_output_can_be_redirected_in_python(inside, monkeypatch):
    """As IPython's %%capture does it."""
    monkeypatch.setattr(sys, "argv", ["sparse_l1.py", "--checkpoint", "l1.pt"])
    with contextlib.redirect_stdout(io.StringIO()) as out:
        common.main(METHODS["sparse_l1"].cls)
    assert "weights       l1.pt\n" in out.getvalue()


def test_the_callers_random_numbers_go_on_as_if_nothing_had_been_trained(method, small):
    def numbers():
        return torch.rand(3).tolist(), np.random.rand(3).tolist(), random.random()

    torch.manual_seed(7), np.random.seed(7), random.seed(7)
    expected = numbers()
    model = method.build(epochs=1)
    torch.manual_seed(7), np.random.seed(7), random.seed(7)
    common.train(model, small)
    assert numbers() == expected
