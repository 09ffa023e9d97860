"""The scripts from end to end, as processes of their own, as a user runs them."""

import sys

import pytest
import torch
from conftest import METHODS, ROOT, command_of, contents, ended, environment, is_quiet, run, start

import common

KINDS = ("features", "loss", "parts", "test", "train", "units")
TINY = {"hidden": 32, "epochs": 1, "dataset": "few"}
CONFIGS = {"sparse_l1": TINY, "sparse_kl": TINY, "sparse_ksparse": TINY | {"k": 5}}


def test_train_then_look(project, small, call, monkeypatch):
    """In a copy of the project, with nothing but its defaults for places; the three at once. From Python the same
    weights are trained, bit for bit, also when the caller has drawn random numbers and computed before."""
    options = {script: [f"--{key}={value}" for key, value in config.items()] for script, config in CONFIGS.items()}
    given = contents(project)
    l1, ksparse = (
        start(command_of(project / f"{script}.py", options[script])) for script in ("sparse_l1", "sparse_ksparse")
    )
    monkeypatch.setattr(common, "ROOT", project)
    kl = call("sparse_kl", *options["sparse_kl"])
    first = {"sparse_l1": ended(l1), "sparse_kl": kl, "sparse_ksparse": ended(ksparse)}
    files = contents(project)
    assert {path: files[path] for path in given} == given  # what is shipped stays as it is
    names, expected = {}, set()
    for script, result in first.items():
        assert result.status == 0, result.err
        assert "There are no weights at" in result.out and "epoch 1/1" in result.out
        name = f"{script}{'_k5' * (script == 'sparse_ksparse')}_hidden32_epochs1_datasetfew"
        names[script] = name
        pictures = {f"outputs/{name}_{kind}.png" for kind in KINDS}
        assert all(files[picture].startswith(b"\x89PNG") for picture in pictures)
        expected |= {f"checkpoints/{name}.pt", *pictures}
        for words in ("test MSE", "active units", "dead units", "idle units", *pictures):
            assert words in result.out.replace(str(project) + "/", "")
    assert {path for path in files if path not in given and "__pycache__" not in path} == expected

    for script, name in names.items():
        result = call(script, *options[script])
        assert result.status == 0 and is_quiet(result.err) and "epoch 1/1" not in result.out
        assert first[script].out.endswith(result.out)
        torch.rand(5)
        model, other = METHODS[script].cls(**CONFIGS[script]), common.load_pretrained(name)
        common.train(model, small._replace(name="few"))
        assert (model.config, model.history) == (other.config, other.history)
        assert all(map(torch.equal, model.state_dict().values(), other.state_dict().values()))
    assert contents(project) == files


def test_ksparse_really_trains_sparsely(data):
    """However few epochs there are, the second half of the training is that of the model that is judged."""
    part = data._replace(train_images=data.train_images[:6000], test_images=data.test_images[:1000])
    model = METHODS["sparse_ksparse"].train(part, k=7, hidden=150, batch_size=60)
    report = common.evaluate(model, part.test_images)
    assert report.active == pytest.approx(7, abs=0.2)
    history = model.history
    assert history.train_reconstruction[-1] == pytest.approx(history.test_loss[-1], rel=0.15)
    assert history.test_loss[-1] < 0.03  # the mean image alone costs 0.067


def test_as_users_start_it(room):
    """In a new interpreter, from another folder, without a display, and with a backend that there is not."""
    variables = environment(DISPLAY=None, WAYLAND_DISPLAY=None, MPLBACKEND="nonsense")
    options = ["--show", "--checkpoint", "kl.pt", "--output-dir", "here"]
    result = run("sparse_kl.py", *options, cwd=room, env=variables)
    assert result.status == 0 and is_quiet(result.err), result.err
    assert "\n  here/kl_features.png\n" in result.out and "\n--show cannot open windows (" in result.out
    made = {path.name for path in (room / "here").iterdir()}
    assert made == {*(f"kl_{kind}.png" for kind in KINDS)}


def test_without_docstrings(call, monkeypatch):
    """python -OO drops them."""
    monkeypatch.setattr(sys.modules["sparse_ksparse"], "__doc__", None)
    result = call("sparse_ksparse", "--help")
    assert result.status == 0 and "--k N" in result.out, result


@pytest.mark.usefixtures("few")
def test_shipped_weights_are_what_a_command_without_options_shows(tmp_path, call):
    for script, name in (("sparse_l1", "sparse_l1"), ("sparse_ksparse", "sparse_ksparse_k25")):
        result = call(script, "--output-dir", tmp_path)
        assert result.status == 0, result.err
        assert f"checkpoints/{name}.pt" in result.out and "no weights" not in result.out
        assert (tmp_path / f"{name}_parts.png").is_file()


def test_scripts_do_not_reach_into_one_another():
    for script in METHODS:
        text = (ROOT / f"{script}.py").read_text()
        assert not any(f"import {other}" in text or f"from {other}" in text for other in METHODS)
