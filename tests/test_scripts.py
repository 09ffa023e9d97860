"""The scripts from end to end, as a user runs them."""

import re
import shutil
import sys

import pytest
import torch
from conftest import METHODS, ROOT, contents, environment, run
from PIL import Image

import common

KINDS = ("loss", "test", "train", "features", "units", "parts")
TINY = {"hidden": 32, "epochs": 1, "dataset": "few"}


def test_train_then_look_in_a_process_then_from_python(project, small, tmp_path, call, monkeypatch):
    """In a new interpreter, from another folder, without a display, and with a backend that wants one. From Python
    the same weights are trained, bit for bit, also when the caller has drawn random numbers and computed before."""
    options = ["--device=cpu", *(f"--{key}={value}" for key, value in TINY.items())]
    name = "sparse_kl_hidden32_epochs1_datasetfew"
    given = contents(project)
    variables = environment(DISPLAY=None, WAYLAND_DISPLAY=None, MPLBACKEND="tkagg")
    first = run(project / "sparse_kl.py", *options, cwd=tmp_path, env=variables)
    assert first.status == 0 and "Warning" not in first.err, first.err
    files = contents(project)
    pictures = {f"outputs/{name}_{kind}.png" for kind in KINDS}
    assert {path for path in files if "__pycache__" not in path} == {*given, f"checkpoints/{name}.pt", *pictures}
    assert all(files[picture].startswith(b"\x89PNG") for picture in pictures)
    assert all(files[path] == given[path] for path in given)
    for words in ("There are no weights at", "epoch 1/1", "test loss", "active units", "weights", "pictures", "page"):
        assert f"\n{words}" in f"\n{first.out}"
    assert "from 25 units" not in first.out  # of 199 images

    monkeypatch.setattr(common, "ROOT", project)
    monkeypatch.setattr(common, "FEW", 1000)  # as in that process
    monkeypatch.chdir(tmp_path)
    second = call("sparse_kl", *options)
    assert second.status == 0 and first.out.endswith(second.out) and "epoch 1/1" not in second.out
    assert contents(project) == files
    torch.rand(5)
    model, other = METHODS["sparse_kl"].cls(**TINY), common.load_pretrained(name)
    common.train(model, small._replace(name="few"))
    assert (model.config, model.history) == (other.config, other.history)
    assert all(map(torch.equal, model.state_dict().values(), other.state_dict().values()))


def test_a_command_without_options_shows_the_shipped_weights(method, tmp_path, call, monkeypatch):
    """And opens the pictures with --show."""
    name = {"sparse_ksparse": "sparse_ksparse_k25"}.get(method.name, method.name)
    opened = []
    monkeypatch.setattr(Image.Image, "show", lambda image: opened.append(image.filename))
    monkeypatch.chdir(ROOT)
    result = call(method.name, "--output-dir", tmp_path, "--show")
    assert result.status == 0 and result.out.startswith(f"model         {name}, 784 -> ")
    assert f"\nweights       checkpoints/{name}.pt\ntrained with  its defaults\n" in result.out
    assert f"\npictures      {tmp_path / name}_{{{','.join(KINDS)}}}.png\n" in result.out
    assert opened == [str(tmp_path / f"{name}_{kind}.png") for kind in KINDS]


def test_ksparse_really_trains_sparsely(data):
    """The second half of the training is that of the model that is judged."""
    part = data._replace(train_images=data.train_images[:6000], test_images=data.test_images[:1000])
    model = METHODS["sparse_ksparse"].train(part, k=7, hidden=150, batch_size=60)
    assert common.evaluate(model, part.test_images).active == pytest.approx(7, abs=0.2)
    assert model.history.train_reconstruction[-1] == pytest.approx(model.history.test_loss[-1], rel=0.15)
    assert model.history.test_loss[-1] < 0.03  # the mean image alone costs 0.067


def test_a_method_without_a_docstring_has_its_command_line(call, monkeypatch):
    """python -OO drops them."""
    monkeypatch.setattr(sys.modules["sparse_ksparse"], "__doc__", None)
    result = call("sparse_ksparse", "--help")
    assert result.status == 0 and "--k N" in result.out, result


def test_a_copied_script_has_to_have_another_method(tmp_path, call):
    """Or it would show the weights of the one that it was copied from, and replace them."""
    result = call(shutil.copy(ROOT / "sparse_l1.py", tmp_path / "sparse_mine.py"))
    words = "the method has to be called like its file, 'sparse_mine', not 'sparse_l1'"
    assert (result.status, result.err) == (1, f"sparse_mine.py: error: {words}\n")


def test_scripts_do_not_reach_into_one_another():
    for script in METHODS:
        imported = re.findall(r"^\s*(?:import|from) (sparse_\w+)", (ROOT / f"{script}.py").read_text(), re.M)
        assert imported == []
