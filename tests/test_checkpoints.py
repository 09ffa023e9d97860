"""Checkpoints: what goes in comes out, and nothing else is believed."""

import copy
import os
import pickle
import random
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import CLASSES, METHODS

import common


def load(path):
    return common.load_checkpoint(path)


@pytest.fixture
def path(room):
    """A good checkpoint, of L1."""
    return room / "l1.pt"


def rewrite(path, change):
    """Change a checkpoint's content; its checksums will fit."""
    content = torch.load(path, weights_only=True)
    change(content)
    torch.save(content, path)


def refused(path, words="not a good checkpoint|holds weights of|was written by another program"):
    before = path.read_bytes()
    with pytest.raises(common.UserError, match=words) as error:
        load(path)
    text = str(error.value)
    assert text.isprintable() and path.name in text and len(text) < 400  # no newline, and no terminal's escape codes
    assert path.read_bytes() == before


def same(one, other):
    return all(map(torch.equal, one.state_dict().values(), other.state_dict().values()))


def test_round_trip(trained, tmp_path, small):
    model = trained
    path = tmp_path / f"{model.name}.pt"
    common.save_checkpoint(model, path)
    loaded = load(path)
    assert (loaded.config, loaded.history, loaded.name) == (model.config, model.history, model.name)
    assert same(model, loaded)
    images = common.to_float(small.test_images)
    assert all(map(torch.equal, model(images), loaded(images)))
    content = path.read_bytes()
    common.save_checkpoint(loaded, path)
    assert path.read_bytes() == content and list(tmp_path.iterdir()) == [path]


def test_what_is_loaded_is_ready_to_use(path, small):
    model = load(path)
    reconstruction, code = model(common.to_float(small.test_images))
    assert not model.training and reconstruction.numpy().shape == (199, 784) and code.numpy().shape == (199, 4)
    assert model.dictionary.numpy().shape == (4, 784)


def test_load_pretrained_takes_a_path_that_ends_in_pt_or_a_name(path, monkeypatch):
    """And never one for the other, whatever lies in the working directory."""
    folder = path.parent / "checkpoints"
    folder.mkdir()
    shutil.copy(path, folder / "sparse_l1_l1-weight0.001.pt")
    monkeypatch.setattr(common, "ROOT", path.parent)
    monkeypatch.chdir(path.parent)
    assert common.load_pretrained("sparse_l1_l1-weight0.001").name == "sparse_l1_l1-weight0.001"
    for name in (path, str(path), "l1.pt", "./l1.pt"):
        assert common.load_pretrained(name).name == "l1"
    shutil.copy(path, path.parent / "mine")
    shutil.copy(path, folder / "mine.pt")
    assert common.load_pretrained("./mine").name == common.load_pretrained(Path("mine")).name == "mine"
    (folder / "mine.pt").unlink()
    for name in ("mine", "runs/mine"):
        with pytest.raises(common.UserError, match="there are no weights at (checkpoints/mine.pt|runs/mine): "):
            common.load_pretrained(name)
    for name, place in (("l1", "checkpoints/l1.pt"), ("sparse_l1_l1-weight0.001.pt", "sparse_l1_l1-weight0.001.pt")):
        with pytest.raises(common.UserError, match=f"there are no weights at {place}"):
            common.load_pretrained(name)


def test_shipped_models_load_by_name():
    for name in ("sparse_l1", "sparse_kl", "sparse_ksparse_k25"):
        assert common.load_pretrained(name).name == name


def test_missing(tmp_path):
    with pytest.raises(common.UserError, match="no weights at .*none.pt"):
        load(tmp_path / "none.pt")


@pytest.mark.parametrize("content", [b"", b"PK", random.Random(0).randbytes(10_000), pickle.dumps({})], ids=len)
def test_something_else(tmp_path, content):
    path = tmp_path / "bad.pt"
    path.write_bytes(content)
    refused(path)


def test_truncated_anywhere(path):
    content = path.read_bytes()
    for length in [*range(0, len(content), len(content) // 40), *range(len(content) - 30, len(content))]:
        path.write_bytes(content[:length])
        refused(path)


class Evil:
    def __reduce__(self):
        return os.system, ("touch executed",)


def test_a_pickle_that_would_run_code_does_not(path, monkeypatch):
    monkeypatch.chdir(path.parent)
    content = torch.load(path, weights_only=True)
    content["config"] = Evil()
    torch.save(content, path)
    refused(path)
    path.write_bytes(pickle.dumps(Evil()))
    refused(path)
    assert not (path.parent / "executed").exists()


def test_of_another_method(room):
    for cls in CLASSES:
        for other in CLASSES:
            if other is not cls:
                path = room / f"{cls.method.removeprefix('sparse_')}.pt"
                with pytest.raises(common.UserError, match=f"holds weights of '{cls.method}', not of {other.method}"):
                    common.load_checkpoint(path, other)


def test_a_plain_state_dict_is_told_as_such(path):
    torch.save(load(path).state_dict(), path)
    refused(path, r"is a plain state_dict, weights without their hyperparameters: .*load_state_dict")


def test_weights_of_an_earlier_version_are_told_as_such(path):
    """They had a dictionary and a decoder_bias instead of a decoder."""
    rewrite(path, lambda content: content["weights"].update(decoder_bias=content["weights"].pop("decoder.bias")))
    refused(path, "is of an earlier version of this program.*: restore it, or move it and train anew")


def test_hyperparameters_that_are_numpy_numbers(small, tmp_path):
    whole = dict(epochs=np.int64(1), batch_size=np.int64(300), seed=np.int64(1), hidden=np.int32(4))
    config = dict(l1_weight=np.float64(1e-3), lr=np.float32(1e-3), **whole)
    model = METHODS["sparse_l1"].train(small, **config)
    common.save_checkpoint(model, tmp_path / "numpy.pt")
    assert load(tmp_path / "numpy.pt").config == model.config


def in_the_second_format(content):
    content["format"] = 2
    if content["method"] == "sparse_ksparse":
        content["config"]["patience"] = 20_000
    for key in ("plain", "start", "input", "norm", "fade"):
        content["config"].pop(key, None)


def in_the_first_format(content):
    """As files were that knew no more of a model than this."""
    in_the_second_format(content)
    del content["format"], content["made_by"]
    for key in ("encoder_speed", "beta2", "cool_down", "tie_scale", "dataset", "start_std", "first_k"):
        content["config"].pop(key, None)


@pytest.mark.parametrize("name", ["l1", "kl", "ksparse"])
def test_a_file_of_an_earlier_format_has_what_was_no_hyperparameter_then(room, name):
    path = room / f"{name}.pt"
    expected = load(path).config | {"fade": 0.0}
    for earlier in (in_the_second_format, in_the_first_format):
        rewrite(path, earlier)
        assert load(path).config == expected


def test_other_defaults_are_not_those_of_the_first_format(path, monkeypatch):
    """A script whose rate of the encoder is changed does not take old weights for its own."""
    rewrite(path, in_the_first_format)
    cls = METHODS["sparse_l1"].cls
    slower = cls.hyperparameters | {"encoder_speed": cls.hyperparameters["encoder_speed"]._replace(default=1.0)}
    monkeypatch.setattr(cls, "hyperparameters", slower)
    assert load(path).config["encoder_speed"] == 14 and cls().config["encoder_speed"] == 1


def test_a_file_says_what_made_it(path):
    content = torch.load(path, weights_only=True)
    assert content["config"]["dataset"] == "MNIST" and content["made_by"]["torch"] == torch.__version__


def test_a_newer_file_is_told_as_such(path):
    rewrite(path, lambda content: (content.update(format=common.FORMAT + 1), content.pop("method")))
    refused(path, "was written by a newer version of this program: update it")


def spoil(model, key, value):
    model.config[key] = value


UNSAVABLE = {
    "a key too many": lambda model: spoil(model, "momentum", 0.9),
    "a key too few": lambda model: model.config.pop("seed"),
    "another hidden": lambda model: spoil(model, "hidden", 5),
    "other epochs": lambda model: spoil(model, "epochs", 3),
    "a value out of its range": lambda model: spoil(model, "lr", -1.0),
    "names of a compiled model": lambda model: model.add_module("encoder", torch.compile(model.encoder)),
    "weights that are not finite": lambda model: model.decoder.bias.fill_(float("nan")),
    "no history": lambda model: setattr(model, "history", None),
}


@pytest.mark.parametrize("fault", UNSAVABLE)
def test_what_cannot_be_loaded_cannot_be_saved(tiny, tmp_path, fault):
    model = copy.deepcopy(tiny["sparse_l1"])
    UNSAVABLE[fault](model)
    with pytest.raises(common.UserError) as error:
        common.save_checkpoint(model, tmp_path / "x.pt")
    assert "\n" not in str(error.value) and not list(tmp_path.iterdir())


def test_what_is_changed_after_the_training_is_not_saved(tiny, tmp_path):
    """k may be another for a while, to encode with more units: the file says what the model was trained with."""
    model = copy.deepcopy(tiny["sparse_ksparse"])
    model.k = 4
    common.save_checkpoint(model, tmp_path / "x.pt")
    assert load(tmp_path / "x.pt").k == 2


def test_what_is_not_trained_has_no_report_and_no_pictures(small, tmp_path):
    model = METHODS["sparse_l1"].build()
    report = common.evaluate(model, small.test_images)
    for use in (common.report_text, lambda *both: common.write_outputs(*both, small, tmp_path)):
        with pytest.raises(common.UserError, match="not trained yet"):
            use(model, report)
    assert not list(tmp_path.iterdir())


def test_pictures_and_page_are_of_the_models_own_data(tiny, small, tmp_path):
    report = common.evaluate(tiny["sparse_l1"], small.test_images)
    with pytest.raises(common.UserError, match="one of MNIST, and these images are of 'mine'"):
        common.write_outputs(tiny["sparse_l1"], report, small._replace(name="mine"), tmp_path)
    assert not list(tmp_path.iterdir())


FAULTS = {
    "not a dictionary": lambda content: content.clear(),
    **{f"no {key}": lambda content, key=key: content.pop(key) for key in ("method", "config", "history", "weights")},
    "no bias": lambda content: content["weights"].pop("encoder.bias"),
    "another weight": lambda content: content["weights"].update(more=torch.zeros(1)),
    "NaN among the weights": lambda content: content["weights"]["decoder.weight"][5, 3].fill_(float("nan")),
    "infinity among the weights": lambda content: content["weights"]["mean_image"][7].fill_(float("inf")),
    "a method that is not text": lambda content: content.update(method=torch.zeros(3)),
    "another size": lambda content: content["config"].update(hidden=5),
    "an unknown hyperparameter": lambda content: content["config"].update(momentum=0.9),
    "a missing hyperparameter": lambda content: content["config"].pop("seed"),
    "hyperparameters that are a list": lambda content: content.update(config=list(content["config"])),
    "escape codes": lambda content: content["config"].update(precision="\x1b[2J"),
    "one loss too many": lambda content: content["history"]["test_loss"].append(0.1),
    "a loss in the wrong list": lambda content: content["history"]["test_loss"].append(
        content["history"]["train_loss"].pop()
    ),
    "a loss that is not finite": lambda content: content["history"].update(test_loss=[float("nan")]),
    "a loss that is text": lambda content: content["history"].update(test_loss=["x"]),
    "losses that are not a list": lambda content: content["history"].update(train_loss={0.5: "x"}),
    "a hyperparameter out of its range": lambda content: content["config"].update(l1_weight=-1.0),
    "one of the training out of its range": lambda content: content["config"].update(lr=0),
    "a hyperparameter that is text": lambda content: content["config"].update(hidden="64"),
    "a hyperparameter that is nothing": lambda content: content["config"].update(lr=None),
    "half a unit": lambda content: content["config"].update(hidden=1.5),
    "a trillion epochs": lambda content: content["config"].update(epochs=10**12),
    "other epochs than it has losses": lambda content: content["config"].update(epochs=2),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_made_by_hand(path, fault):
    rewrite(path, FAULTS[fault])
    refused(path)


def peak_memory():
    """Bytes, since the last call where the system can begin anew, else since the process began."""
    resource = pytest.importorskip("resource", reason="cannot tell")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    try:
        with open("/proc/self/status") as status:
            peak = next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM"))
        with open("/proc/self/clear_refs", "w") as switch:
            switch.write("5")
    except OSError:
        pass
    return peak


@pytest.mark.parametrize("claimed", ["in the hyperparameters", "in a view", "in both"])
def test_ten_billion_units(path, claimed):
    def claim(content):
        if claimed != "in a view":
            content["config"]["hidden"] = 10**10
        if claimed != "in the hyperparameters":
            content["weights"]["encoder.weight"] = torch.zeros(1, 1).expand(10**10, 784)

    rewrite(path, claim)
    peak_memory()
    before = peak_memory()
    refused(path, "good checkpoint" if claimed == "in a view" else "hidden has to be .*, not 10000000000")
    assert peak_memory() - before < 50e6


def test_a_zip_bomb(path):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("model/data.pkl", bytes(50_000_000))
    refused(path, "claims to hold more")


def test_too_long(tmp_path):
    path = tmp_path / "long.pt"
    with open(path, "wb") as file:
        file.truncate(common.MAX_CHECKPOINT_BYTES + 1)  # sparse: it takes no room
    with pytest.raises(common.UserError, match="bytes long"):
        load(path)


def test_a_flipped_bit_in_a_weight(path):
    """It would be a good weight, but not the one that was saved."""
    content = bytearray(path.read_bytes())
    weight = load(path).dictionary[1, 300].numpy().tobytes()
    content[content.index(weight)] ^= 1
    path.write_bytes(content)
    refused(path, "checksum")


def mutations(content, count, seed):
    """Copies of `content` with flipped bits, cuts and splices."""
    random_ = random.Random(seed)
    for number in range(count):
        mutant = bytearray(content)
        kind = number % 4
        if kind == 0:
            for _ in range(random_.choice((1, 1, 1, 8))):
                mutant[random_.randrange(len(mutant))] ^= 1 << random_.randrange(8)
        elif kind == 1:  # where the file's structure is: its ends
            place = random_.randrange(3000)
            mutant[place if random_.random() < 0.5 else -1 - place] ^= 1 << random_.randrange(8)
        elif kind == 2:
            start = random_.randrange(len(mutant))
            del mutant[start : start + random_.choice((1, 64, 5000, len(mutant)))]
        else:
            start, source = random_.randrange(len(mutant)), random_.randrange(len(mutant))
            length = random_.choice((1, 64, 5000))
            mutant[start : start + length] = mutant[source : source + length]
        yield bytes(mutant)


def test_fuzz(tiny, room):
    """Every mutant either loads the very same model or ends in the one clear error."""
    model = tiny["sparse_ksparse"]
    path, loaded = room / "ksparse.pt", 0
    for number, mutant in enumerate(mutations(path.read_bytes(), 800, seed=1)):
        path.write_bytes(mutant)
        try:
            again = load(path)
        except common.UserError as error:
            assert str(error).isprintable() and str(path) in str(error), number
            continue
        loaded += 1
        assert (again.config, again.history) == (model.config, model.history) and same(model, again), number
    assert loaded < 400  # most mutations do damage
