"""The scripts from end to end, as processes of their own, as a user runs them."""

import re
import subprocess
import sys

import pytest
from conftest import METHODS, ROOT, contents, environment, run

import common

KINDS = ("codes", "features", "loss", "parts", "test", "train", "units")
TINY = ["--hidden", 32, "--epochs", 1, "--batch-size", 3000]


@pytest.mark.parametrize("script", METHODS)
def test_train_then_look(project, script):
    """In a copy of the project, with nothing but its defaults for places."""
    options, name = TINY, f"{script}_hidden32_epochs1_batch-size3000"
    if script == "sparse_ksparse":
        options, name = ["--k", 5, *TINY], "sparse_ksparse_k5_hidden32_epochs1_batch-size3000"
    given = contents(project)
    first = run(project / f"{script}.py", *options)
    assert first.returncode == 0, first.stderr
    assert "There are no weights at" in first.stdout and "epoch 1/1" in first.stdout
    files = contents(project)
    assert {path: files[path] for path in given} == given  # what is shipped stays as it is
    made = {path for path in files if path not in given and "__pycache__" not in path}
    pictures = {f"outputs/{name}_{kind}.png" for kind in KINDS}
    page = {f"outputs/explore/{file}" for file in (f"models/{name}.js", "index.html", "images_MNIST.js", "models.js")}
    assert made == {f"checkpoints/{name}.pt", *page, *pictures}
    assert all(files[picture].startswith(b"\x89PNG") for picture in pictures)

    second = run(project / f"{script}.py", *options)
    assert second.returncode == 0 and second.stderr == "" and "epoch 1/1" not in second.stdout
    assert first.stdout.endswith(second.stdout) and contents(project) == files
    for words in ("test MSE", "active units", "dead units", "idle units", *pictures):
        assert words in second.stdout.replace(str(project) + "/", "")


def test_ksparse_really_trains_sparsely(tmp_path):
    """However few epochs there are, the second half of the training is that of the model that is judged."""
    path = tmp_path / "m.pt"
    options = ["--k", 7, "--epochs", 2, "--batch-size", 600, "--hidden", 150, "--precision", "float32"]
    result = run("sparse_ksparse.py", "--train", *options, "--checkpoint", path, "--output-dir", tmp_path)
    assert result.returncode == 0, result.stderr
    assert float(re.search(r"active units +([\d.]+) of 150", result.stdout)[1]) == pytest.approx(7, abs=0.2)
    history = common.load_pretrained(path)[1].history
    assert history.train_reconstruction[-1] == pytest.approx(history.test_loss[-1], rel=0.15)
    assert history.test_loss[-1] < 0.03  # the mean image alone costs 0.067


def test_as_users_start_it(room):
    """In a new interpreter, from another folder, without a display."""
    no_display = environment(DISPLAY=None, WAYLAND_DISPLAY=None)
    options = ["--show", "--checkpoint", "kl.pt", "--output-dir", "here"]
    result = run("sparse_kl.py", *options, cwd=room, env=no_display)
    assert result.returncode == 0 and result.stderr == "", result.stderr
    assert "\n  here/kl_features.png\n" in result.stdout and "there is no display" in result.stdout
    made = {path.name for path in (room / "here").iterdir()}
    assert made == {"explore", *(f"kl_{kind}.png" for kind in KINDS)}


def test_without_docstrings(tmp_path):
    """python -OO drops them."""
    command = [sys.executable, "-OO", ROOT / "sparse_ksparse.py", "--help"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert result.returncode == 0 and "--k K" in result.stdout, result


def test_shipped_weights_are_what_a_command_without_options_shows(tmp_path):
    for script, name in (("sparse_l1", "sparse_l1"), ("sparse_ksparse", "sparse_ksparse_k25")):
        result = run(f"{script}.py", "--output-dir", tmp_path)
        assert result.returncode == 0, result.stderr
        assert f"checkpoints/{name}.pt" in result.stdout and "no weights" not in result.stdout
        assert (tmp_path / f"{name}_parts.png").is_file()


def test_scripts_do_not_reach_into_one_another():
    for script in METHODS:
        text = (ROOT / f"{script}.py").read_text()
        assert not any(f"import {other}" in text or f"from {other}" in text for other in METHODS)
