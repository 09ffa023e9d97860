"""Checkpoints: what goes in comes out, and nothing else is believed."""

import io
import os
import pickle
import random
import zipfile

import pytest
import torch
from conftest import METHODS, ROOT

import common

EVERY = list(METHODS.values())


def load(path):
    return common.load_checkpoint(path, EVERY)


@pytest.fixture
def saved(trained, tmp_path):
    method, model, info = trained
    path = tmp_path / "model.pt"
    common.save_checkpoint(path, method, model, info)
    return path, model, info


def rewrite(path, change):
    """Change a checkpoint's content and write it back with a checksum that fits."""
    content = torch.load(path, weights_only=True)
    del content["sha256"]
    change(content)
    try:
        content["sha256"] = common._digest(content)
    except (KeyError, ValueError, TypeError, AttributeError):
        content["sha256"] = ""
    torch.save(content, path)


def refused(path, *words):
    before = path.read_bytes()
    with pytest.raises(common.UserError) as error:
        load(path)
    text = str(error.value)
    assert "\n" not in text and str(path) in text and len(text) < 400
    for word in words:
        assert word in text
    assert path.read_bytes() == before


def test_round_trip(saved, small):
    path, model, info = saved
    loaded, again = load(path)
    assert again == info and not loaded.training
    for name, value in model.state_dict().items():
        assert torch.equal(value, loaded.state_dict()[name])
    images = common.to_float(small.test_images[:5])
    assert all(torch.equal(one, two) for one, two in zip(model(images), loaded(images), strict=True))


def test_the_same_model_gives_the_same_bytes(method, saved, tmp_path):
    path, model, info = saved
    common.save_checkpoint(tmp_path / "other.pt", method, model, info)
    assert (tmp_path / "other.pt").read_bytes() == path.read_bytes()


def test_save_leaves_one_file(method, saved):
    path, model, info = saved
    common.save_checkpoint(path, method, model, info)
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_shipped_models_load_by_name(data):
    images = common.to_float(data.test_images[:3])
    paths = sorted((ROOT / "checkpoints").glob("*.pt"))
    assert len(paths) == 7
    for path in paths:
        model, info = common.load_pretrained(path.stem)
        assert info.name == path.stem
        reconstruction, code = model(images)
        assert reconstruction.shape == (3, 784) and code.shape == (3, info.config["hidden"])
        with torch.no_grad():
            assert torch.equal(model.decode(model.encode(images)), reconstruction)


def test_missing(tmp_path):
    with pytest.raises(common.UserError, match="no weights.*--train"):
        load(tmp_path / "none.pt")


def test_empty_and_random(tmp_path):
    path = tmp_path / "bad.pt"
    for content in (b"", b"PK", random.Random(0).randbytes(10_000), b"\x80\x02}q\x00."):
        path.write_bytes(content)
        refused(path, "not a good checkpoint", "--train")


def test_truncated_anywhere(saved):
    path, _, _ = saved
    content = path.read_bytes()
    for length in [*range(0, len(content), len(content) // 40), *range(len(content) - 30, len(content))]:
        path.write_bytes(content[:length])
        refused(path, "not a good checkpoint")


class Evil:
    def __reduce__(self):
        return os.system, ("touch executed",)


def test_a_pickle_that_would_run_code_does_not(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    plain, zipped = tmp_path / "plain.pt", tmp_path / "zipped.pt"
    plain.write_bytes(pickle.dumps(Evil()))
    torch.save({"name": "sparse_l1", "config": Evil()}, zipped)
    for path in (plain, zipped):
        with pytest.raises(common.UserError):
            load(path)
    assert not (tmp_path / "executed").exists()


def test_of_another_method(method, saved):
    path, _, _ = saved
    for other in EVERY:
        if other is not method:
            with pytest.raises(common.UserError, match=f"holds weights of '{method.name}', not of {other.name}"):
                common.load_checkpoint(path, [other])


@pytest.mark.parametrize("key", ["method", "config", "history", "weights"])
def test_missing_keys(saved, key):
    path, _, _ = saved
    rewrite(path, lambda content: content.pop(key))
    refused(path)


@pytest.mark.parametrize("key", ["encoder.weight", "encoder.bias", "dictionary", "decoder_bias", "mean_image"])
def test_missing_weights(saved, key):
    path, _, _ = saved
    rewrite(path, lambda content: content["weights"].pop(key))
    refused(path, "shapes")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_weights_that_are_not_finite(saved, value):
    path, _, _ = saved
    rewrite(path, lambda content: content["weights"]["encoder.weight"][3, 5].fill_(value))
    refused(path, "finite")


def test_history_of_disagreeing_lengths(saved):
    path, _, _ = saved
    rewrite(path, lambda content: content["history"]["test_loss"].append(0.1))
    refused(path, "history")


def test_another_shape(saved):
    path, _, _ = saved
    rewrite(path, lambda content: content["config"].update(hidden=65))
    refused(path, "shapes")


def test_unknown_hyperparameters(saved):
    path, _, _ = saved
    rewrite(path, lambda content: content["config"].update(momentum=0.9))
    refused(path, "hyperparameters")


NOT_LR, NOT_HIDDEN = (-1.0, 0, "0.1", None, float("nan")), (32_000, -1, 0, "64", None, 1.5, float("nan"))


@pytest.mark.parametrize(("key", "value"), [*(("lr", v) for v in NOT_LR), *(("hidden", v) for v in NOT_HIDDEN)])
def test_hyperparameters_out_of_range(saved, key, value):
    path, _, _ = saved
    rewrite(path, lambda content: content["config"].update({key: value}))
    refused(path)


def test_a_history_that_is_not_made_of_numbers(saved):
    path, _, _ = saved
    rewrite(path, lambda content: content["history"].update(test_loss=["x", "y"]))
    refused(path, "history")


def test_text_that_is_not_a_precision(saved):
    path, _, _ = saved
    rewrite(path, lambda content: content["config"].update(precision="\x1b[2J"))
    refused(path, "precision")


def test_ten_billion_units(saved):
    path, _, _ = saved
    rewrite(path, lambda content: content["config"].update(hidden=10**10))
    refused(path, "'10000000000' is not a whole number")  # and not that memory ran out


def test_a_view_that_claims_ten_billion_units(saved):
    path, _, _ = saved

    def claim(content):
        content["config"]["hidden"] = 10**10
        content["weights"]["encoder.weight"] = torch.zeros(1, 1).expand(10**10, 784)

    rewrite(path, claim)
    refused(path, "claims to hold more")


def test_a_zip_bomb(saved):
    path, _, _ = saved
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("model/data.pkl", bytes(50_000_000))
    refused(path, "claims to hold more")


def test_too_long(tmp_path):
    path = tmp_path / "long.pt"
    with open(path, "wb") as file:
        file.truncate(common.MAX_CHECKPOINT_BYTES + 1)  # sparse: it takes no room
    with pytest.raises(common.UserError, match="bytes long"):
        load(path)


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


def test_fuzz(tmp_path, small):
    """Every mutant either loads the very same model or ends in the one clear error."""
    method = METHODS["sparse_ksparse"]
    config = {**method.defaults, "hidden": 4, "k": 2, "epochs": 1, "seed": 0, "precision": "float32"}
    model = method.build(config)
    model.initialise(small.train_images)
    info = common.Info("sparse_ksparse_k2", config, common.History([1.0], [1.0], [1.0]))
    path = tmp_path / "model.pt"
    common.save_checkpoint(path, method, model, info)
    original, weights = path.read_bytes(), model.state_dict()
    loaded = 0
    for mutant in mutations(original, 2400, seed=1):
        path.write_bytes(mutant)
        try:
            again, its_info = load(path)
        except common.UserError as error:
            assert "\n" not in str(error) and str(path) in str(error)
            continue
        loaded += 1
        assert its_info == info
        assert all(torch.equal(value, weights[name]) for name, value in again.state_dict().items())
    assert loaded < 1200  # most mutations do damage


def test_a_flipped_weight_behind_a_correct_zip_checksum(saved):
    path, _, _ = saved
    content = torch.load(path, weights_only=True)
    content["weights"]["dictionary"][0, 0] += 1e-3
    buffer = io.BytesIO()
    torch.save(content, buffer)
    path.write_bytes(buffer.getvalue())
    refused(path, "checksum")
