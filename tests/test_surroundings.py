"""What a user has around the program does not break it: settings, names, paths, the process it runs in."""

import contextlib
import copy
import gzip
import io
import json
import os
import re
import shutil
import subprocess
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor

import matplotlib
import numpy as np
import pytest
import torch
import write
from conftest import METHODS, ROOT, contents, environment

import common

TRAIN = ["--train", "--hidden", 4, "--epochs", 1, "--batch-size", 6000]


@pytest.fixture
def inside(room, monkeypatch):
    """The folder with weights in it, and the working directory."""
    monkeypatch.chdir(room)
    return room


@pytest.fixture
def refused(inside, call):
    """refused("--checkpoint", "x"): the one line with which a command of L1 ends that has not done anything."""

    def refused(*arguments):
        before = contents(inside)
        result = call("sparse_l1", *arguments)
        assert (result.status, result.err.count("\n")) == (1, 1), result
        assert result.out == "" or result.out.startswith("Downloading MNIST: "), result
        assert result.err.startswith("sparse_l1.py: error: ") and contents(inside) == before
        return result.err

    return refused


# Settings of matplotlib


@pytest.fixture
def pictures(tiny, small, tmp_path):
    """pictures(folder): the bytes of all PNGs of a model, drawn into a folder."""

    def draw(folder):
        model = tiny["sparse_l1"]
        report = common.evaluate(model, small.test_images)
        digits = common.first_images(small.test_images, small.test_labels)
        figures = common.draw_pictures(model, report, small)
        figures["comparison"] = common.plot_rows([("input", digits), ("k = 5", digits)], "comparison")
        for kind, figure in figures.items():
            common.save_figure(figure, tmp_path / folder / f"{kind}.png")
        return contents(tmp_path / folder)

    return draw


SETTINGS = {
    "image.origin": "lower",
    "text.usetex": True,
    "savefig.dpi": 30,
    "savefig.bbox": "tight",
    "figure.facecolor": "black",
    "axes.facecolor": "black",
    "font.size": 30,
    "font.family": "serif",
    "lines.linewidth": 9,
    "image.cmap": "jet",
    "axes.titlepad": 50,
    "xtick.labelsize": 40,
}


def test_the_users_matplotlib_does_not_show(pictures):
    expected = pictures("plain")
    with matplotlib.style.context("dark_background"), matplotlib.rc_context(SETTINGS):
        assert pictures("of the user") == expected
        for key, value in SETTINGS.items():
            assert matplotlib.rcParams[key] == value or key == "font.family"


@pytest.mark.parametrize("backend", ["svg", "module://os", "webagg", "module://nothing.at_all"])
def test_a_backend_without_windows(room, capsys, monkeypatch, backend):
    """pyplot, imported anew, finds it among matplotlib's settings."""
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.setitem(matplotlib.rcParams, "backend", backend)
    monkeypatch.delattr(matplotlib, "pyplot", raising=False)
    monkeypatch.delitem(sys.modules, "matplotlib.pyplot", raising=False)
    common.save_figure(matplotlib.figure.Figure(), room / "x.png")
    common.show([room / "x.png"])
    assert re.fullmatch(r"--show cannot open windows \(.+\): look at the files above\.\n", capsys.readouterr().out)


LOOK = """
import os, sys
import common
from matplotlib import pyplot
common.load_data(train_count=1)
print(os.environ["MPLBACKEND"], pyplot.get_backend(), "torchvision" in sys.modules)
"""


def test_a_process_stays_as_it_is():
    """The backend of a notebook does, and MNIST is read without torchvision, whose import takes as long as torch's."""
    command = [sys.executable, "-c", LOOK]
    result = subprocess.run(command, cwd=ROOT, env=environment(MPLBACKEND="svg"), capture_output=True, text=True)
    assert result.stdout.split() == ["svg", "svg", "False"], result


# Names

GOOD_NAMES = ["a'b\"c cost_$5_and_$6 a_{b}^c <x> &amp; 100% run#3 2026-11-25T10:00 naïve ρ", "x" * 120]
BAD_NAMES = ["", ".hidden", "two\nlines", "a\tb", "back\\slash", "\x1b[2J", "x" * 121, "ü" * 61, "bad\udcff"]


@pytest.mark.parametrize("name", GOOD_NAMES, ids=len)
def test_a_name_that_is_taken_works_everywhere(tiny, small, name, tmp_path):
    common.require_good_name(name)
    model = copy.deepcopy(tiny["sparse_kl"])
    model.name = name
    report = common.evaluate(model, small.test_images)
    for kind, figure in common.draw_pictures(model, report, small).items():
        if kind in ("loss", "features"):  # the two ways to write a title
            common.save_figure(figure, tmp_path / f"{name}_{kind}.png")
        title = "".join(text.get_text() for text in figure.texts) + figure.axes[0].get_title()
        assert name.replace(" ", "") in title.replace("\n", "").replace(" ", "")
    write.write_model(model, small, tmp_path)
    content = (tmp_path / "models" / f"{name}.js").read_text().removeprefix("explore(").removesuffix(");\n")
    assert json.loads(content)["name"] == name


@pytest.mark.parametrize("name", BAD_NAMES, ids=repr)
def test_a_name_that_cannot_work_is_refused(name):
    with pytest.raises(common.UserError, match="cannot be the name of pictures and a page") as error:
        common.require_good_name(name)
    assert str(error.value).isprintable()


def test_a_bad_name_is_refused_before_the_training(refused):
    assert "cannot be the name of pictures" in refused(*TRAIN, "--checkpoint", "back\\slash.pt")


def test_a_comparison_of_many_values_has_a_short_name(method):
    values = [float(value) for value in np.logspace(-6, -1, 12)]
    key = common.compared_key(method.cls)
    name = common.model_name(method.cls, method.defaults | {key: values})
    assert name.endswith(f"{values[0]}_to_{values[-1]}_12-values") and len(name) < 80
    short = common.model_name(method.cls, method.defaults | {key: values[:2]})
    assert short.endswith(f"{values[0]}_{values[1]}")


@pytest.mark.parametrize(
    ("method_name", "name"),
    [
        ("sparse_l1", "sparse_l1"),
        ("sparse_kl", "a rather long name of somebody's, with words in it " * 2),
        ("sparse_ksparse", "M" * 120),
    ],
)
def test_no_title_is_wider_than_its_picture(tiny, small, method_name, name):
    model = copy.deepcopy(tiny[method_name])
    model.name = name
    report = common.evaluate(model, small.test_images)
    figures = common.draw_pictures(model, report, small)
    for kind, figure in figures.items():
        figure.draw_without_rendering()  # it is laid out then
        width, height = figure.get_size_inches() * 100
        for text in [*figure.texts, figure.axes[0].title]:
            box = text.get_window_extent()
            assert box.x0 >= 0 and box.x1 <= width and box.y1 <= height, (kind, text.get_text())


# Paths


def test_a_path_is_what_the_user_means(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    monkeypatch.chdir(tmp_path / "real")
    parser = common.option_parser(METHODS["sparse_l1"].cls)
    for typed in ("~/real/x.pt", "x.pt", "./x.pt", "../link/x.pt", "../real/./x.pt"):
        options = parser.parse_args([f"--checkpoint={typed}", f"--output-dir={typed}", f"--data-dir={typed}"])
        for path in (options.checkpoint, options.output_dir, options.data_dir):
            assert path.is_absolute() and common.real_path(path) == tmp_path / "real" / "x.pt", typed


@pytest.mark.parametrize("option", ["--checkpoint", "--output-dir", "--data-dir"])
def test_an_empty_path_is_a_mistake(option, capsys):
    """`--output-dir "$OUT"`, and OUT is not set."""
    with pytest.raises(SystemExit):
        common.option_parser(METHODS["sparse_l1"].cls).parse_args([option, ""])
    assert f"argument {option}: a path is empty" in capsys.readouterr().err


def test_an_empty_path_in_python_is_told_in_a_line():
    for use in (lambda: common.load_data(data_dir=""), lambda: common.load_checkpoint("")):
        with pytest.raises(common.UserError, match="a path is empty"):
            use()


@pytest.mark.parametrize("name", ["x" * 300, "checkpoints/sparse_l1.pt", "~/none.pt"])
def test_weights_that_are_not_there(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(common.UserError, match="there are no weights at") as error:
        common.load_pretrained(name)
    assert "checkpoints/checkpoints" not in str(error.value)


def test_weights_and_pictures_in_each_others_way(inside, refused):
    for output_dir in ("new", "new/below", "./new"):
        line = refused(*TRAIN, "--checkpoint", "new", "--output-dir", output_dir)
        assert "is, or lies below, the file of the weights" in line
    (inside / "folder").mkdir()
    for options in (TRAIN, []):
        line = refused(*options, "--checkpoint", "folder", "--output-dir", "out")
        assert "folder is a folder: name a file" in line


def test_a_loop_of_links(inside, refused):
    (inside / "a").symlink_to("b")
    (inside / "b").symlink_to("a")
    assert "cannot write a: " in refused("--checkpoint", "l1.pt", "--output-dir", "a")
    assert "there are no weights at a" in refused("--checkpoint", "a")


def test_a_link_keeps_its_own_name(inside, call):
    (inside / "mine.pt").symlink_to("l1.pt")
    result = call("sparse_l1", "--checkpoint", "mine.pt", "--output-dir", "out")
    assert result.status == 0 and "weights       mine.pt\n" in result.out, result
    assert (inside / "out" / "mine_loss.png").exists()


def test_a_folder_that_is_a_file_or_the_archives_own(inside, refused, archives):
    (inside / "file").write_text("mine")
    line = refused("--checkpoint", "l1.pt", "--output-dir", "file")
    assert "cannot write file: it is a file, and has to be a folder; name another place with --output-dir" in line
    line = refused("--checkpoint", "l1.pt", "--data-dir", "file", "--output-dir", "out")
    assert "file/MNIST/raw" in line and "--data-dir" in line and "git" not in line
    line = refused("--checkpoint", "l1.pt", "--data-dir", archives.parent, "--output-dir", "out")
    assert "is inside of MNIST" in line
    line = refused("--checkpoint", "l1.pt", "--data-dir", archives, "--output-dir", "out")
    assert "is inside of MNIST: name the folder around it" in line


def test_letters_that_the_font_does_not_have(inside, call):
    shutil.copy(inside / "l1.pt", inside / "稀疏.pt")
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        assert call("sparse_l1", "--checkpoint", "稀疏.pt", "--output-dir", "out").status == 0
    assert len(list((inside / "out").glob("稀疏_*.png"))) == 6


def test_a_generated_name_that_is_too_long(refused):
    options = ["--hidden", 4, "--lr", 0.0012345678901234567, "--weight-decay", 1.2345678901234567e-06]
    options += ["--tie", 1.2345678901234567e-07, "--l1-weight", 1.2345678901234567e-05, "--seed", 1234567890]
    assert "with --checkpoint FILE --train" in refused(*options)


def test_load_pretrained_and_load_data_know_the_home_folder(room, monkeypatch):
    monkeypatch.setenv("HOME", str(room))
    assert common.load_pretrained("~/l1.pt").name == "l1"
    (room / "data").symlink_to(ROOT / "data")
    assert len(common.load_data(data_dir="~/data", train_count=3).train_images) == 3


def test_weights_behind_a_link_are_replaced_there(inside, few, call):
    (inside / "far").mkdir()
    shutil.move(inside / "l1.pt", inside / "far" / "l1.pt")
    (inside / "l1.pt").symlink_to("far/l1.pt")
    before = (inside / "far" / "l1.pt").read_bytes()
    result = call("sparse_l1", *TRAIN, "--checkpoint", "l1.pt", "--output-dir", "out")
    assert result.status == 0, result.err
    assert (inside / "l1.pt").is_symlink() and (inside / "far" / "l1.pt").read_bytes() != before


# The caller's own things


def test_images_that_cannot_be_trained_on_leave_the_model_alone(small):
    model = METHODS["sparse_l1"].build()
    before = {name: values.clone() for name, values in model.state_dict().items()}
    floats = small.train_images / 255
    images = floats.clone()
    for changes in (
        {"train_images": images},
        {"test_images": small.test_images / 255},
        {"train_images": small.train_images.view(-1, 28, 28)},
        {"test_images": small.test_images[:0]},
    ):
        with pytest.raises(common.UserError, match=r"train wants bytes, torch.uint8 \[n, 784\], not "):
            common.train(model, small._replace(**changes))
        assert all(torch.equal(values, before[name]) for name, values in model.state_dict().items())
    assert torch.equal(images, floats)


def test_threads_that_write_one_file_do_not_mix_it(tmp_path):
    """Nor do containers, whose processes have the same numbers: the temporary's name is unique."""
    contents_of = [bytes([letter]) * 500_000 for letter in b"abcdefgh"]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda content: common.write_file(tmp_path / "x.pt", content, "--checkpoint"), contents_of * 5))
    assert (tmp_path / "x.pt").read_bytes() in contents_of and len(list(tmp_path.iterdir())) == 1


# The process


def test_another_programs_weights_are_told_as_such(tmp_path):
    path = tmp_path / "theirs.pt"
    torch.save({"model_state_dict": {}, "epoch": 3}, path)
    with pytest.raises(common.UserError, match="was written by another program: it holds 'model_state_dict', 'epoch'"):
        common.load_pretrained(path)


def test_python_is_too_old(tmp_path):
    code = "import sys; sys.version_info, sys.version = (3, 9, 7), '3.9.7 (main)'; import common"
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr == "error: Python 3.10 or later is needed, and this is 3.9.7\n"


def test_output_can_be_redirected_in_python(room, monkeypatch):
    """As IPython's %%capture does it."""
    monkeypatch.chdir(room)
    monkeypatch.setattr(sys, "argv", ["sparse_l1.py", "--checkpoint", "l1.pt", "--output-dir", "out"])
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        common.main(METHODS["sparse_l1"].cls)
    assert out.getvalue().endswith("explore/write.py l1.pt\n")


def test_the_advice_fits_the_failure(tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(common.UserError, match=r"cannot write .*; name another place with --output-dir$"):
        common.write_file(tmp_path / "file" / "x.png", b"", "--output-dir")
    full = common.cannot_write(tmp_path, OSError(28, os.strerror(28)), "--output-dir")
    assert full.endswith("No space left on device; make room, or name another place with --output-dir")


def test_archives_of_ones_own_are_left_alone(archives, tmp_path, call):
    path = archives / "train-labels-idx1-ubyte.gz"
    path.write_bytes(gzip.compress(bytes([0, 0, 8, 1, 0, 0, 0, 3, 7, 8, 9])))
    before = contents(archives)
    result = call("sparse_l1", "--data-dir", archives.parents[1], "--output-dir", tmp_path / "out")
    assert result.status == 1 and result.err.count("\n") == 1, result
    assert "train-labels-idx1-ubyte.gz is not MNIST's (it is damaged, or data of your own): move it" in result.err
    assert contents(archives) == before
