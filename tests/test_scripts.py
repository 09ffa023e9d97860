"""Every script from end to end, as a process of its own, as a user runs it."""

import os
import subprocess
import sys

import pytest
from conftest import METHODS, ROOT

import common

KINDS = ["loss", "features", "codes", "test", "train"]
TINY = ["--hidden", 32, "--epochs", 1, "--batch-size", 3000]


@pytest.fixture
def places(tmp_path):
    return ["--checkpoint", tmp_path / "weights" / "model.pt", "--output-dir", tmp_path / "pictures"]


@pytest.mark.parametrize("script", METHODS)
def test_train_then_view(run, tmp_path, places, script):
    own = ["--k", 5] if script == "sparse_ksparse" else []
    name = script + "_k5" * bool(own)
    first = run(f"{script}.py", *TINY, *own, *places)
    assert first.status == 0, first.err
    assert "There are no weights at" in first.out and "epoch 1/1" in first.out
    weights = (tmp_path / "weights" / "model.pt").read_bytes()
    pictures = {path.name: path.read_bytes() for path in (tmp_path / "pictures").iterdir()}
    assert sorted(pictures) == sorted(f"{name}_{kind}.png" for kind in KINDS)
    assert all(content.startswith(b"\x89PNG") for content in pictures.values())

    second = run(f"{script}.py", *own, *places)
    assert second.status == 0, second.err
    assert second.err == "" and "epoch" not in second.out.replace("epochs", "").replace("last epoch", "")
    for words in ("test loss", "test MSE", "active units", "dead units", f"{name}_features.png", "hidden 32"):
        assert words in second.out
    assert first.out.endswith(second.out)
    assert (tmp_path / "weights" / "model.pt").read_bytes() == weights
    assert {path.name: path.read_bytes() for path in (tmp_path / "pictures").iterdir()} == pictures

    third = run(f"{script}.py", "--train", *TINY, *own, *places)  # the same seed again: the same weights, bit for bit
    assert third.status == 0 and (tmp_path / "weights" / "model.pt").read_bytes() == weights


def test_several_k(run, tmp_path):
    folders = ["--output-dir", tmp_path]
    ks = [path.stem.rsplit("_k", 1)[1] for path in (ROOT / "checkpoints").glob("sparse_ksparse_k*.pt")]
    result = run("sparse_ksparse.py", "--k", *ks[:2], *folders)
    assert result.status == 0, result.err
    assert {path.name for path in tmp_path.glob("*.png")} == {
        "sparse_ksparse_comparison.png",
        *(f"sparse_ksparse_k{k}_{kind}.png" for k in ks[:2] for kind in KINDS),
    }


def test_as_users_start_it(tmp_path):
    """In a new interpreter, from another folder, without a display."""
    environment = {key: value for key, value in os.environ.items() if key != "DISPLAY"}
    command = [sys.executable, ROOT / "sparse_l1.py", "--show", "--output-dir", "here"]
    result = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=100)
    assert result.returncode == 0, result.stderr
    assert "checkpoints/sparse_l1.pt" in result.stdout and "no display" in result.stdout
    assert len(list((tmp_path / "here").glob("sparse_l1_*.png"))) == 5


@pytest.mark.parametrize("script", METHODS)
def test_help_names_every_option_and_its_default(run, script):
    result = run(f"{script}.py", "--help")
    assert result.status == 0
    method = METHODS[script]
    for option in method.all_options():
        assert f"--{option.name.replace('_', '-')} " in result.out
    for value in method.defaults.values():
        assert f"(default: {value:g})" in " ".join(result.out.split())


def test_probe(run, tmp_path):
    places = ["--checkpoint", tmp_path / "m.pt", "--output-dir", tmp_path]
    result = run("sparse_l1.py", "--train", "--hidden", 8, *TINY[2:], "--probe", *places)
    assert result.status == 0, result.err
    error = float(result.out.split("linear probe")[1].split("%")[0])
    assert 5 < error < 60  # eight units cannot do better, and guessing gives 90


def test_scripts_do_not_reach_into_one_another():
    for script in METHODS:
        text = (ROOT / f"{script}.py").read_text()
        assert not any(f"import {other}" in text or f"from {other}" in text for other in METHODS)


def test_load_pretrained_names_what_is_missing():
    with pytest.raises(common.UserError, match="no weights at .*nothing.pt"):
        common.load_pretrained("nothing")
