"""Checkpoints: what goes in comes out, and nothing else is believed."""

import copy
import os
import pickle
import random
import shutil
import sys
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from conftest import CLASSES, METHODS, ROOT, contents, ended, start

import common
from sparse_l1 import SparseL1


@pytest.fixture
def path(room):
    """A good checkpoint, of L1."""
    return room / "l1.pt"


def rewrite(path, change):
    """Change a checkpoint's content; its checksums will fit."""
    content = torch.load(path, weights_only=True)
    change(content)
    torch.save(content, path)


def refused(path, words=r"the weights at .* cannot be used \(.+\)$"):
    """It ends in one line, and the file stays as it is."""
    before = path.read_bytes()
    with pytest.raises(common.UserError, match=words) as error:
        common.load_checkpoint(path)
    text = str(error.value)
    assert "\n" not in text and path.name in text and len(text) < 500
    assert path.read_bytes() == before


def known(model):
    """All that a model knows beside its weights and the name of its file."""
    return model.config, model.history, model.fingerprint, model.made_by


def same(one, other):
    weights, others = one.state_dict(), other.state_dict()
    return weights.keys() == others.keys() and all(torch.equal(weights[name], others[name]) for name in weights)


def test_what_is_saved_is_loaded(trained, tmp_path, small):
    """Weights, all hyperparameters, losses, and what else made it; ready to use, and under the name of its file."""
    model, path = trained, tmp_path / "mine.pt"
    common.save_checkpoint(model, path)
    loaded = common.load_checkpoint(path)
    assert type(loaded) is type(model) and known(loaded) == known(model) and same(loaded, model)
    assert all(getattr(loaded, key) == getattr(model, key) for key in model.config)  # as its schedule leaves them
    assert loaded.name == "mine" and loaded.config.keys() == model.hyperparameters.keys()
    assert loaded.fingerprint == common.fingerprint_of(small.test_images)
    assert loaded.made_by == {"torch": torch.__version__, "device": "cpu", "threads": 1, "precision": "float32"}
    images = common.to_float(small.test_images)
    assert not loaded.training and all(map(torch.equal, model(images), loaded(images)))
    assert loaded(images)[0].numpy().shape == (199, 784)  # numpy takes what wants no gradients
    common.save_checkpoint(loaded, path)
    again = common.load_checkpoint(path)
    assert known(again) == known(model) and same(again, model) and list(tmp_path.iterdir()) == [path]


def test_a_file_has_the_hyperparameters_of_the_training(tiny, tmp_path):
    """k may be another for a while, to encode with more units."""
    model = copy.deepcopy(tiny["sparse_ksparse"])
    model.k = 4
    common.save_checkpoint(model, tmp_path / "x.pt")
    assert common.load_checkpoint(tmp_path / "x.pt").k == 2


def test_a_model_of_ones_own_class(small, tmp_path):
    """With a parameter of its own, and in no script."""

    class Mine(SparseL1):
        method = "mine"

        def __init__(self, **given):
            super().__init__(**given)
            self.threshold = torch.nn.Parameter(torch.zeros(self.hidden))

        def activation(self, hidden):
            return super().activation(hidden - self.threshold)

    model = Mine(hidden=4, epochs=1)
    common.train(model, small)
    common.save_checkpoint(model, tmp_path / "x.pt")
    loaded = common.load_checkpoint(tmp_path / "x.pt", Mine)
    assert type(loaded) is Mine and same(loaded, model) and loaded.threshold.abs().max() > 0
    refused(tmp_path / "x.pt", r"there is no script mine.py .*: give the class of the weights")


def test_what_is_not_trained_is_not_saved(tmp_path):
    with pytest.raises(common.UserError, match="not trained yet"):
        common.save_checkpoint(METHODS["sparse_l1"].build(), tmp_path / "x.pt")
    assert not contents(tmp_path)


# Whole or not at all


def test_the_old_file_stays_until_the_new_one_is_whole(path, tiny, monkeypatch):
    """And after a save that fails nothing else is left."""
    before, replace = contents(path.parent), os.replace

    def refuse(source, target):
        assert path.read_bytes() == before[path.name] and common.load_checkpoint(source).method == "sparse_kl"
        raise PermissionError(13, "Permission denied", str(source))

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(PermissionError) as error:
        common.save_checkpoint(tiny["sparse_kl"], path)
    assert error.value.filename == str(path) and contents(path.parent) == before
    monkeypatch.setattr(os, "replace", replace)
    common.save_checkpoint(tiny["sparse_kl"], path)
    assert common.load_checkpoint(path).method == "sparse_kl"


def test_threads_that_write_one_file_do_not_mix_it(tmp_path):
    texts = [bytes([letter]) * 200_000 for letter in b"abcdefgh"]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda text: common.write_file(tmp_path / "x.pt", text), texts * 3))
    assert (tmp_path / "x.pt").read_bytes() in texts and len(list(tmp_path.iterdir())) == 1


# Names


def test_load_pretrained_takes_a_path_that_ends_in_pt_or_a_name(path, monkeypatch):
    """And never one for the other, whatever lies in the working directory."""
    folder = path.parent / "checkpoints"
    folder.mkdir()
    shutil.copy(path, folder / "sparse_l1_l1-weight0.001.pt")
    shutil.copy(path, path.parent / "mine")
    monkeypatch.setattr(common, "checkpoint_path", lambda name: folder / f"{name}.pt")
    monkeypatch.chdir(path.parent)
    assert common.load_pretrained("sparse_l1_l1-weight0.001").name == "sparse_l1_l1-weight0.001"
    for name in (path, str(path), "l1.pt", "./l1.pt"):
        assert common.load_pretrained(name).name == "l1"
    assert common.load_pretrained("./mine").name == common.load_pretrained(Path("mine")).name == "mine"
    for name, place in (("mine", "checkpoints/mine.pt"), ("runs/mine", "runs/mine"), ("none.pt", "none.pt")):
        with pytest.raises(common.UserError, match=f"there are no weights at {place}: check the name"):
            common.load_pretrained(name)


NOTEBOOK = """
import importlib, sys
sys.path[:0] = [{here!r}, {project!r}]
import common, sparse_l1
for name in ("sparse_l1", "sparse_kl", "sparse_l1", "sparse_kl"):
    print(type(common.load_pretrained(name)).__name__, len(common.load_data(for_training=False).train_images))
    importlib.reload(common)
"""


def test_load_pretrained_in_a_notebook(tmp_path):
    """Whatever is first on sys.path or was imported from there, in any folder, and when `common` is reloaded after a
    change. Nor is torchvision imported, which would take as long as torch."""
    (tmp_path / "sparse_l1.py").touch()
    (tmp_path / "torchvision.py").write_text("raise SystemExit('somebody else')")
    code = NOTEBOOK.format(here=str(tmp_path), project=str(ROOT))
    result = ended(start([sys.executable, "-c", code], cwd=tmp_path))
    assert (result.status, result.out) == (0, "SparseL1 18\nSparseKL 18\n" * 2), result


# What is refused


def test_weights_of_another_method(room):
    for cls in CLASSES:
        path = room / f"{cls.method.removeprefix('sparse_')}.pt"
        for other in set(CLASSES) - {cls}:
            with pytest.raises(common.UserError, match=f"they are of '{cls.method}', not of {other.method}"):
                common.load_checkpoint(path, other)


def test_other_images_under_the_same_name(tiny, small, tmp_path):
    """The weights know which test images they are of, and the name of their data."""
    model = copy.deepcopy(tiny["sparse_l1"])
    report = common.evaluate(model, small.test_images)
    others = small.test_images.clone()
    others[-1, -1] = 1
    for data, words in (
        (small._replace(test_images=others), "its test images were others: bring those back, or train anew"),
        (small._replace(name="mine"), "a model of the data set MNIST, and these images are of mine"),
    ):
        with pytest.raises(common.UserError, match=words):
            common.write_outputs(model, report, data, tmp_path)
    assert not contents(tmp_path)
    common.require_own_data(model, small)


def test_of_another_program_or_another_version(path, tiny):
    """No archive at all, a plain state_dict, an earlier or later format."""
    good, state = torch.load(path, weights_only=True), tiny["sparse_l1"].state_dict()
    for content in (b"", b"PK", random.Random(0).randbytes(10_000), pickle.dumps({})):
        path.write_bytes(content)
        refused(path)
    other_formats = [good | {"format": common.FORMAT + step} for step in (-1, 1)]
    for content in ({"model_state_dict": state}, [state], state, *other_formats):
        torch.save(content, path)
        refused(path, "they were written by another program, or another version of this one")


FAULTS = {
    **{f"no {key}": lambda content, key=key: content.pop(key) for key in ("method", "config", "history", "weights")},
    **{f"no {key}": lambda content, key=key: content.pop(key) for key in ("fingerprint", "made_by")},
    "no bias": lambda content: content["weights"].pop("encoder.bias"),
    "another weight": lambda content: content["weights"].update(more=torch.zeros(1)),
    "a method that is not text": lambda content: content.update(method=torch.zeros(3)),
    "another size": lambda content: content["config"].update(hidden=5),
    "ten billion units": lambda content: content["config"].update(hidden=10**10),
    "an unknown hyperparameter": lambda content: content["config"].update(momentum=0.9),
    "hyperparameters that are a list": lambda content: content.update(config=list(content["config"])),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_made_by_hand(path, fault):
    rewrite(path, FAULTS[fault])
    refused(path)


class Evil:
    def __reduce__(self):
        return os.system, ("touch executed",)


def test_a_pickle_that_would_run_code_does_not(path, monkeypatch):
    monkeypatch.chdir(path.parent)
    rewrite(path, lambda content: content.update(config=Evil()))
    refused(path)
    path.write_bytes(pickle.dumps(Evil()))
    refused(path)
    assert not (path.parent / "executed").exists()


def test_nothing_is_unpacked_that_is_larger_than_the_file(path, monkeypatch):
    """Neither a compressed bomb, nor one whose entries lie in each other's place."""
    monkeypatch.setattr(torch, "load", lambda *arguments, **options: pytest.fail("it would be unpacked"))
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("model/data.pkl", bytes(5_000_000))
    refused(path, "they claim to hold more than they do")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("model/data.pkl", bytes(50_000))
        archive.filelist += 9 * archive.filelist
    refused(path, "they claim to hold more than they do")


def mutations(content, count):
    """Copies of `content` with a flipped bit, half of them where the file's structure is; or with a piece cut out."""
    numbers = random.Random(1)
    for number in range(count):
        mutant, place = bytearray(content), numbers.randrange(len(content))
        if number % 4 < 2:
            place = numbers.randrange(-3000, 3000)
        mutant[place] ^= 1 << numbers.randrange(8)
        if number % 4 == 3:
            del mutant[place : place + numbers.choice((1, 64, len(mutant)))]
        yield bytes(mutant)


def test_damaged_anywhere(tiny, room):
    """A file ends in the one line or, where the bit means nothing, loads the very same model."""
    model, path, loaded = tiny["sparse_ksparse"], room / "ksparse.pt", 0
    for number, mutant in enumerate(mutations(path.read_bytes(), 400)):
        path.write_bytes(mutant)
        try:
            again = common.load_checkpoint(path)
        except common.UserError as error:
            assert "\n" not in str(error) and str(path) in str(error), number
            continue
        loaded += 1
        assert known(again) == known(model) and same(again, model), number
    assert loaded < 200  # most mutations do damage
