"""The other door: the README's Python, in its order, and a fourth method."""

import contextlib
import io
import re
import runpy
import sys

import pytest
import torch
from conftest import ROOT, run, write_archives

import common
from sparse_l1 import SparseL1

BLOCKS = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.S)


@pytest.mark.usefixtures("few")
def test_the_readmes_python_runs_as_it_stands(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "blocks.py").write_text("".join(block for block in BLOCKS if "common.main(" not in block))
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        found = runpy.run_path("blocks.py")
    for name in ("mine.pt", "outputs/sparse_l1_l1-weight0.0001_epochs3_parts.png"):
        assert (tmp_path / name).is_file(), name
    model, report = found["model"], found["report"]
    assert model.config["l1_weight"] == 1e-4 and len(model.history.test_loss) == 3 and found["code"].shape == (10, 512)
    assert f"test loss     {report.loss:.5f} BCE" in out.getvalue()
    assert "weights       not saved yet" in out.getvalue()


def test_pictures_of_a_model_that_was_just_trained(small, tmp_path, capsys):
    """It still wants gradients."""
    model = SparseL1(hidden=16, epochs=1)
    common.train(model, small)
    report = common.evaluate(model, small.test_images)
    pictures = common.write_outputs(model, report, small, tmp_path)
    assert len(pictures) == 6 and all(path.is_file() for path in pictures)


@pytest.fixture
def with_a_fourth_method(project):
    """A copy of the project, and the README's fourth method in it."""
    (script,) = [block for block in BLOCKS if "common.main(" in block]
    (project / "sparse_hoyer.py").write_text(script)
    assert len(script.splitlines()) <= 45
    return project


def test_a_fourth_method_in_a_file_beside_the_others(with_a_fourth_method, monkeypatch, capfd):
    """It has all that the three have, with no edit elsewhere."""
    project = with_a_fourth_method
    options = ["--hoyer-weight", 1e-3, "--hidden", 32, "--epochs", 2, "--dataset", "few"]
    first = run(project / "sparse_hoyer.py", *options)
    assert first.status == 0, first.err
    name = "sparse_hoyer_hoyer-weight0.001_hidden32_epochs2_datasetfew"
    assert f"explore/write.py {name}\n" in first.out
    assert len(list((project / "outputs").glob(f"{name}_*.png"))) == 6
    monkeypatch.setattr(common, "ROOT", project)
    monkeypatch.setattr(common, "__file__", str(project / "common.py"))
    monkeypatch.syspath_prepend(project)
    monkeypatch.delitem(sys.modules, "sparse_hoyer", raising=False)
    monkeypatch.setattr(sys, "argv", ["sparse_hoyer.py", *map(str, options)])
    runpy.run_path(str(project / "sparse_hoyer.py"), run_name="__main__")
    again = capfd.readouterr().out
    assert "epoch 1/2" not in again and first.out.endswith(again)
    model = common.load_pretrained(name)
    assert (type(model).__name__, model.config["hoyer_weight"], model.dataset) == ("Hoyer", 1e-3, "few")
    del sys.modules["sparse_hoyer"]


def test_weights_of_a_method_that_is_not_there(with_a_fourth_method, tmp_path):
    model = SparseL1(hidden=4, epochs=1)
    with pytest.raises(common.UserError, match="there is no script sparse_other.py of a method beside common.py"):
        common.find_method("sparse_other")
    for name in ("os", "../sparse_l1", "sparse_l1.py", "common"):
        with pytest.raises(common.UserError, match="there is no script"):
            common.find_method(name)
    assert common.find_method(model.method) is type(model)


def test_other_data_have_another_name(small, tmp_path, call, monkeypatch):
    """And weights of other data are never taken for MNIST's, whatever folder is named."""
    monkeypatch.setattr(common, "ROOT", tmp_path)
    write_archives(small, tmp_path / "elsewhere" / "mine" / "raw")
    places = ["--data-dir", tmp_path / "elsewhere", "--output-dir", tmp_path]
    options = ["--hidden", 16, "--epochs", 1, "--dataset", "mine", *places]
    result = call("sparse_l1", "--train", *options)
    assert result.status == 0, result.err
    (path,) = (tmp_path / "checkpoints").iterdir()
    assert path.name == "sparse_l1_hidden16_epochs1_datasetmine.pt" and "dataset mine" in result.out
    second = call("sparse_l1", *options)
    assert second.status == 0 and "epoch 1/1" not in second.out
    taken = call("sparse_l1", "--checkpoint", path, "--dataset", "MNIST", *places)
    assert taken.status == 1 and "was trained with dataset = mine, not MNIST" in taken.err


def test_what_a_method_lacks_is_said_in_one_line():
    class Bad(common.Autoencoder):
        method = "sparse_bad"
        hyperparameters = common.hyperparameters({})

        def activation(self, hidden):
            return hidden.relu()

    with pytest.raises(
        common.UserError, match="^Bad lacks initialise, penalty: see the docstring of common.Autoencoder$"
    ):
        Bad()
    Bad.initialise = Bad.penalty = lambda *arguments: torch.zeros(3)
    assert Bad(hidden=4).name == "sparse_bad_hidden4"
    Bad.method = None
    with pytest.raises(common.UserError, match="Bad lacks the name of its method"):
        Bad()


def test_a_penalty_is_one_number(small):
    class Many(SparseL1):
        def penalty(self, hidden, code):
            return code.sum(dim=1)

    with pytest.raises(common.UserError, match=r"penalty has to give one number, a mean over images, not \["):
        common.train(Many(hidden=4, epochs=1), small)


def test_main_in_a_notebook(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["ipykernel_launcher.py", "-f", "kernel.json"])
    monkeypatch.setitem(sys.modules, "ipykernel", None)
    with pytest.raises(SystemExit):
        common.main(SparseL1)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith("(in a notebook: %run sparse_l1.py)")


@pytest.mark.parametrize("name", ["sparse_mine", "mine"])
def test_a_copied_script_has_to_have_another_method(name, monkeypatch, capsys):
    """Or it would show the weights of the one that it was copied from, and replace them."""
    monkeypatch.setattr(sys, "argv", [f"{name}.py"])
    with pytest.raises(SystemExit) as end:
        common.main(SparseL1)
    (line,) = capsys.readouterr().err.splitlines()
    assert f"method has to be the name of the file, and begin with sparse_: '{name}', not 'sparse_l1'" in line
    assert end.value.code == 1
