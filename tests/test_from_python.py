"""What the command line does, from Python: the README's blocks, a method of one's own, data of one's own."""

import functools
import re
import runpy
import shutil
import sys
import types

import pytest
import torch
import write
from conftest import ROOT, contents, write_archives

import common
from sparse_l1 import SparseL1

BLOCKS = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.S)
OWN = ROOT / "tests" / "sparse_jumprelu.py"


@pytest.mark.usefixtures("few")
def test_the_readmes_python_runs_as_it_stands(tmp_path, monkeypatch):
    """One block after the other, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "blocks.py").write_text("\n".join(BLOCKS))
    runpy.run_path("blocks.py")


@pytest.fixture
def own(project, call, monkeypatch):
    """own("--epochs", 3): how the script of a method of one's own Ended, beside common.py in a copy of the project."""
    monkeypatch.setattr(common, "ROOT", project)
    script = shutil.copy(OWN, project)
    return functools.partial(call, script, "--dataset", "few", "--hidden", 32, "--epochs", 2)


def test_a_method_of_ones_own_has_all_that_the_three_have(own, project):
    """Its command line, pictures, checkpoint and load_pretrained, with no edit elsewhere."""
    first, name = own("--l0-weight", 1e-3), f"{OWN.stem}_l0-weight0.001_hidden32_epochs2_datasetfew"
    assert first.status == 0 and "epoch 2/2" in first.out and first.out.endswith(f"explore/write.py {name}\n")
    assert len(list((project / "outputs").glob(f"{name}_*.png"))) == 6
    again = own("--l0-weight", 1e-3)
    assert "epoch 1/2" not in again.out and first.out.endswith(again.out)
    model = common.load_pretrained(name)
    assert (type(model).__name__, model.config["l0_weight"], model.dataset) == ("JumpReLU", 1e-3, "few")
    assert own("--l0-weight", 1e-3, 2e-3).status == 0
    assert len(list((project / "outputs").glob(f"{OWN.stem}_l0-weight0.001_0.002_*_comparison.png"))) == 1


def test_what_the_page_cannot_compute_is_refused_in_one_line(own, project, small):
    own()
    model, before = common.load_pretrained(f"{OWN.stem}_hidden32_epochs2_datasetfew"), contents(project / "explore")
    with pytest.raises(
        common.UserError, match=f"^the page cannot show {model.name}: its activation is none of relu, .*$"
    ):
        write.write_model(model, small._replace(name="few"), project / "explore")
    assert contents(project / "explore") == before


def test_a_model_that_was_just_trained_is_judged_drawn_and_saved(small, tmp_path):
    """It still wants gradients."""
    model = SparseL1(hidden=16, epochs=1)
    with pytest.raises(common.UserError, match=r"^this model is not trained yet: see train\(model, data\)$"):
        common.write_outputs(model, None, small, tmp_path)
    common.train(model, small)
    report = common.evaluate(model, small.test_images)
    pictures = common.write_outputs(model, report, small, tmp_path)
    assert len(pictures) == 6 and all(path.is_file() for path in pictures.values())
    common.save_checkpoint(model, tmp_path / "x.pt")
    assert common.load_pretrained(tmp_path / "x.pt").history == model.history


@pytest.mark.parametrize("cls", [SparseL1, runpy.run_path(str(OWN))["JumpReLU"]])
def test_arrays_and_another_default_type_change_nothing(small, cls):
    arrays = common.Data(*(part.numpy() for part in small[:4]))._replace(name="MNIST")
    reports = []
    for given, kind in ((small, torch.float32), (arrays, torch.float64)):
        torch.set_default_dtype(kind)
        try:
            model = cls(hidden=16, epochs=1, batch_size=100, precision="float32")
            common.train(model, given)
            report = common.evaluate(model, given.test_images)
            assert model.decode(report.code[:3].double().numpy()).dtype == torch.float32
            reports.append((report.loss, report.mse, report.active))
        finally:
            torch.set_default_dtype(torch.float32)
    assert reports[0] == pytest.approx(reports[1], rel=1e-5)


def test_a_method_is_found_only_beside_common(monkeypatch):
    """Not in a script of the same name that was imported from elsewhere."""
    assert common.find_method("sparse_l1") is SparseL1
    other = types.ModuleType("sparse_l1")
    other.__file__, other.Other = "/elsewhere/sparse_l1.py", type("Other", (SparseL1,), {})
    monkeypatch.setitem(sys.modules, "sparse_l1", other)
    assert common.find_method("sparse_l1").__name__ == "SparseL1"
    for name in ("sparse_other", "os", "../sparse_l1", "sparse_l1.py"):
        with pytest.raises(common.UserError, match="there is no script .* of a method beside common.py"):
            common.find_method(name)
    with pytest.raises(common.UserError, match="common.py has no class of a method of that name"):
        common.find_method("common")


def test_other_data_have_another_name(small, tmp_path, call, monkeypatch):
    monkeypatch.setattr(common, "ROOT", tmp_path)
    write_archives(small, tmp_path / "elsewhere" / "mine" / "raw")
    options = ["--hidden", 4, "--epochs", 1, "--dataset", "mine", "--data-dir", tmp_path / "elsewhere"]
    first = call("sparse_l1", *options)
    assert first.status == 0 and [path.name for path in (tmp_path / "checkpoints").iterdir()] == [
        "sparse_l1_hidden4_epochs1_datasetmine.pt"
    ]
    second = call("sparse_l1", *options)
    assert second.status == 0 and first.out.endswith(second.out) and "epoch 1/1" not in second.out
