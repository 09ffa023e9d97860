"""MNIST and other data sets, where they come from, and minibatches."""

import errno
import gzip
import hashlib
import os
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from conftest import ROOT, contents

import common

IMAGES = "t10k-images-idx3-ubyte.gz"


def test_all_of_mnist(data):
    assert [tuple(part.shape) for part in data[:4]] == [(60_000, 784), (60_000,), (10_000, 784), (10_000,)]
    assert data.train_labels[:10].tolist() == [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]
    assert data.test_labels[:10].tolist() == [7, 2, 1, 0, 4, 1, 4, 9, 5, 9]
    assert data.train_images.double().mean().item() / 255 == pytest.approx(0.1306604762738, abs=1e-12)
    assert data.name == "MNIST"


def test_the_data_is_found_from_any_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    common.load_data(train_count=1)
    assert not list(tmp_path.iterdir())


@pytest.fixture
def mirror(archives, monkeypatch):
    """What is downloaded, as a list; the network is a copy of the archives."""
    downloaded = []

    def download(url, folder, name, md5):
        content = (ROOT / "data" / "MNIST" / "raw" / name).read_bytes()
        assert md5 == hashlib.md5(content).hexdigest()
        Path(folder, name).write_bytes(content)
        downloaded.append(url.rsplit("/", 1)[-1])

    monkeypatch.setattr("torchvision.datasets.utils.download_url", download)
    return downloaded


SPOILT = {
    "a flipped bit": lambda packed, plain: packed[:5000] + bytes([packed[5000] ^ 1]) + packed[5001:],
    "another checksum": lambda packed, plain: packed[:-8] + bytes(4) + packed[-4:],
    "cut off": lambda packed, plain: packed[:-5000],
    "empty": lambda packed, plain: b"",
    "not an archive": lambda packed, plain: b"hello",
    "too short inside": lambda packed, plain: gzip.compress(plain[:-784], 1),
    "too long inside": lambda packed, plain: gzip.compress(plain + bytes(784), 1),
    "something else inside": lambda packed, plain: gzip.compress(b"hello", 1),
    "a header that is cut off": lambda packed, plain: gzip.compress(plain[:13], 1),
    "labels": lambda packed, plain: gzip.compress(plain[:3] + b"\1" + plain[4:8] + plain[16:10_016], 1),
}


def data_dir_of(archives, dataset):
    """The folder to read a copy of MNIST's archives from, once they are there under another name."""
    archives.parent.rename(archives.parents[1] / dataset)
    return archives.parents[1]


@pytest.mark.parametrize("kind", [*SPOILT, "other images"])
def test_an_archive_that_is_there_is_named_and_never_written(archives, mirror, kind):
    """It may be damaged, or one of the user's own, whose images would be taken for MNIST's."""
    packed = (archives / IMAGES).read_bytes()
    plain = gzip.decompress(packed)
    (archives / IMAGES).write_bytes(
        SPOILT.get(kind, lambda packed, plain: gzip.compress(plain[:-1] + b"x", 1))(packed, plain)
    )
    before = contents(archives)
    with pytest.raises(common.UserError) as error:
        common.load_data(data_dir=archives.parents[1], train_count=1)
    assert str(error.value) == (
        f"{archives / IMAGES} is not MNIST's (it is damaged, or data of your own): move it away to have it downloaded; "
        f"or if it is your own, move it to {archives.parents[1]}/YOURNAME/raw and name it with --dataset YOURNAME"
    )
    assert contents(archives) == before and not mirror


def test_what_came_with_the_clone_is_restored_by_git(archives, mirror, monkeypatch):
    """Where there is git: somebody may have downloaded a ZIP."""
    monkeypatch.setattr(common, "ROOT", archives.parents[2])
    (archives / IMAGES).write_bytes(b"")
    with pytest.raises(common.UserError, match=r"own\): move it away to have it downloaded; or if it is your own"):
        common.load_data(data_dir=archives.parents[1], train_count=1)
    (archives.parents[2] / ".git").mkdir()
    with pytest.raises(common.UserError, match=r"own\): restore it with `git checkout data`; or if it is your own"):
        common.load_data(data_dir=archives.parents[1], train_count=1)


@pytest.mark.parametrize("kind", SPOILT)
def test_a_damaged_archive_of_ones_own_is_named_and_never_written(archives, mirror, kind):
    packed = (archives / IMAGES).read_bytes()
    (archives / IMAGES).write_bytes(SPOILT[kind](packed, gzip.decompress(packed)))
    data_dir = data_dir_of(archives, "mine")
    before = contents(data_dir)
    words = rf"{IMAGES} is damaged, or not in the form of MNIST's archives \(.+\): mend or replace it$"
    with pytest.raises(common.UserError, match=words) as error:
        common.load_data("mine", data_dir, 1)
    assert "\n" not in str(error.value)
    assert contents(data_dir) == before and not mirror


def test_a_missing_archive_is_downloaded(data, archives, mirror):
    """An unpacked one that is not MNIST's does not do."""
    packed = (archives / IMAGES).read_bytes()
    (archives / IMAGES).unlink()
    (archives / IMAGES).with_suffix("").write_bytes(b"mine")
    assert torch.equal(common.load_data(data_dir=archives.parents[1], train_count=1).test_images, data.test_images)
    assert mirror == [IMAGES] and (archives / IMAGES).read_bytes() == packed and len(list(archives.iterdir())) == 5
    assert (archives / IMAGES).with_suffix("").read_bytes() == b"mine"


@pytest.mark.parametrize("end", ["-idx{}-ubyte.gz", "-idx{}-ubyte", ".idx{}-ubyte"])
def test_archives_that_somebody_unpacked(data, archives, mirror, end):
    """A browser did, and left the .gz; or torchvision, or Kaggle, where the names have a dot."""
    for path in list(archives.iterdir()):
        beginning, kind = path.name.split("-idx")
        content = gzip.decompress(path.read_bytes())
        path.unlink()
        path.with_name(beginning + end.format(kind[0])).write_bytes(content)
    found = common.load_data(data_dir=archives.parents[1])
    assert all(map(torch.equal, found[:4], data[:4])) and not mirror and len(list(archives.iterdir())) == 4
    own = common.load_data("mine", data_dir_of(archives, "mine"), 3)
    assert torch.equal(own.test_images, data.test_images)


@pytest.mark.parametrize("dataset", ["MNIST", "KMNIST"])
def test_a_download_that_fails_says_why(tmp_path, monkeypatch, dataset):
    def fail(*arguments):
        raise OSError("certificate verify failed: self-signed certificate\nmore")

    monkeypatch.setattr("torchvision.datasets.utils.download_url", fail)
    words = (
        r"cannot be downloaded \(certificate verify failed: self-signed certificate\): put it there, or name another"
    )
    with pytest.raises(common.UserError, match=words):
        common.load_data(dataset, tmp_path / "new")
    assert not list(tmp_path.iterdir())


def test_all_archives_are_downloaded_into_an_empty_folder(data, mirror, tmp_path):
    assert torch.equal(common.load_data(data_dir=tmp_path / "new").train_labels, data.train_labels)
    assert len(mirror) == 4


def test_a_download_that_cannot_be_written_says_so(archives, mirror, monkeypatch):
    def no_room(*paths):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    (archives / IMAGES).unlink()
    monkeypatch.setattr(os, "replace", no_room)
    with pytest.raises(common.UserError, match=f"cannot write .*{IMAGES}: No space left.*--data-dir"):
        common.load_data(data_dir=archives.parents[1], train_count=1)


# The data sets that torchvision downloads


def test_torchvision_knows_the_three():
    from torchvision import datasets

    for name in common.DOWNLOADED:
        source = getattr(datasets, name)
        assert {archive for archive, _ in source.resources} == set(common.MNIST_CHECKSUMS) and source.mirrors
    assert dict(datasets.MNIST.resources) == {name: packed for name, (packed, _) in common.MNIST_CHECKSUMS.items()}


@pytest.fixture(params=["FashionMNIST", "KMNIST"])
def other(request, monkeypatch):
    """A data set like MNIST, whose archives are here a copy of MNIST's."""
    from torchvision import datasets

    monkeypatch.setattr(getattr(datasets, request.param), "resources", datasets.MNIST.resources)
    return request.param


def test_another_data_set_is_read_where_it_lies_or_downloaded(data, archives, mirror, other):
    data_dir = data_dir_of(archives, other)
    found = common.load_data(other, data_dir, None)
    assert found.name == other and not mirror and torch.equal(found.test_images, data.test_images)
    (data_dir / other / "raw" / IMAGES).unlink()
    assert torch.equal(common.load_data(other, data_dir, None).test_images, data.test_images)
    assert mirror == [IMAGES]


@pytest.mark.parametrize("name", ["FashionMNIST", "KMNIST"])
def test_mnist_is_not_taken_for_another(archives, mirror, name):
    data_dir = data_dir_of(archives, name)
    words = rf"train-images-idx3-ubyte.gz is not {name}'s \(.*--dataset YOURNAME$"
    with pytest.raises(common.UserError, match=words):
        common.load_data(name, data_dir)
    assert not mirror


class BrokenModule(ModuleType):
    def __getattr__(self, name):
        raise ValueError("infer_schema(func): Parameter input has unsupported type\nmore")


def test_a_torchvision_that_does_not_fit_is_told_in_a_line(archives, monkeypatch):
    """It may raise anything. MNIST is read without it."""
    monkeypatch.setitem(sys.modules, "torchvision", BrokenModule("torchvision"))
    data_dir = archives.parents[1]
    assert common.load_data(data_dir=data_dir, train_count=1).name == "MNIST"
    (archives / IMAGES).unlink()
    reason = r"\(infer_schema\(func\): Parameter input has unsupported type\)"
    with pytest.raises(
        common.UserError, match=rf"{IMAGES} is missing in .* and cannot be downloaded {reason}: put it "
    ):
        common.load_data(data_dir=data_dir, train_count=1)
    data_dir_of(archives, "KMNIST")
    words = rf"gz cannot be checked, as torchvision cannot be imported {reason}: install the torchvision that fits to "
    with pytest.raises(common.UserError, match=words):
        common.load_data("KMNIST", data_dir)


# Data of one's own


def packed_array(values):
    """An unpacked archive of an array of bytes."""
    values = np.asarray(values, np.uint8)
    return bytes([0, 0, 8, values.ndim]) + np.array(values.shape, ">i4").tobytes() + values.tobytes()


@pytest.fixture
def mine(tmp_path):
    """The folder of seven training and three test images of one's own, and their labels."""
    folder = tmp_path / "data" / "mine" / "raw"
    folder.mkdir(parents=True)
    images = np.random.default_rng(0).integers(0, 256, (10, 28, 28))
    for name, values in {
        "train-images-idx3-ubyte.gz": images[:7],
        "train-labels-idx1-ubyte.gz": [4, 4, 2, 0, 2, 0, 4],
        IMAGES: images[7:],
        "t10k-labels-idx1-ubyte.gz": [9, 0, 2],
    }.items():
        (folder / name).write_bytes(gzip.compress(packed_array(values)))
    return folder


def load_mine(mine, *arguments):
    return common.load_data("mine", mine.parents[1], *arguments)


def refused(mine, *arguments):
    """The one line that says what is wrong with data of one's own, which stay as they are."""
    before = contents(mine)
    with pytest.raises(common.UserError) as error:
        load_mine(mine, *arguments)
    assert contents(mine) == before and str(error.value).isprintable()
    return str(error.value)


def test_data_of_ones_own(mine, mirror):
    images = np.random.default_rng(0).integers(0, 256, (10, 784))
    found = load_mine(mine)
    assert found.name == "mine" and not mirror
    assert found.train_images.tolist() == images[:7].tolist() and found.train_images.dtype == torch.uint8
    assert found.test_images.tolist() == images[7:].tolist()
    assert found.train_labels.tolist() == [4, 4, 2, 0, 2, 0, 4] and found.train_labels.dtype == torch.int64
    assert found.test_labels.tolist() == [9, 0, 2]
    assert [len(load_mine(mine, count).train_images) for count in (0, 3, 7, None)] == [0, 3, 7, 4]


@pytest.mark.parametrize("count", [-1, 8, 2.5, "seven"])
def test_how_many_to_read_is_out_of_range(mine, count):
    assert refused(mine, count) == f'train_count has to be a whole number from 0 to 7, "all" or None, not {count}'


@pytest.mark.parametrize("lacking", ["train", "t10k", "both"])
def test_the_labels_may_be_missing(mine, lacking):
    for part in ("train", "t10k"):
        if lacking in (part, "both"):
            (mine / f"{part}-labels-idx1-ubyte.gz").unlink()
    found = load_mine(mine)
    assert (found.train_labels is None, found.test_labels is None) == (lacking != "t10k", lacking != "train")
    assert (len(found.train_images), len(found.test_images)) == (7, 3)
    assert len(load_mine(mine, None).train_images) == (4 if lacking == "t10k" else 7)


def test_one_image_of_each_is_enough(mine):
    for part in ("train", "t10k"):
        (mine / f"{part}-images-idx3-ubyte.gz").write_bytes(gzip.compress(packed_array(np.ones((1, 28, 28)))))
        (mine / f"{part}-labels-idx1-ubyte.gz").unlink()
    for count in ("all", None, 1):
        assert [part if part is None else part.shape for part in load_mine(mine, count)[:4]] == [(1, 784), None] * 2


def test_archives_may_be_unpacked(mine):
    """torchvision leaves them beside the .gz, which counts; browsers leave them in its place, or under its name."""
    expected = load_mine(mine)
    for path in list(mine.iterdir()):
        path.with_suffix("").write_bytes(b"not read")
    load_mine(mine)
    for path in list(mine.glob("*.gz")):
        plain = gzip.decompress(path.read_bytes())
        path.with_suffix("").write_bytes(plain)
        if path.name == IMAGES:
            path.write_bytes(plain)
        else:
            path.unlink()
    found = load_mine(mine)
    assert all(torch.equal(part, same) for part, same in zip(found[:4], expected[:4], strict=True))


@pytest.mark.parametrize(
    ("name", "values", "reason"),
    [
        (IMAGES, np.zeros((3, 32, 30)), "its images are 32 x 30, not 28 x 28"),
        (IMAGES, np.zeros((0, 28, 28)), "it has no images"),
        ("train-images-idx3-ubyte.gz", np.zeros((0, 28, 28)), "it has no images"),
        ("train-labels-idx1-ubyte.gz", [1] * 6, "it has 6 labels for 7 images"),
        ("t10k-labels-idx1-ubyte.gz", [1] * 4, "it has 4 labels for 3 images"),
        ("t10k-labels-idx1-ubyte.gz", [1, 12, 9], "it has labels up to 12, and they go from 0 to 9"),
        ("t10k-labels-idx1-ubyte.gz", [[1, 1, 1]], "it does not begin as they do"),
    ],
)
def test_what_an_archive_of_ones_own_may_not_hold(mine, name, values, reason):
    for path, content in ((mine / name, gzip.compress), ((mine / name).with_suffix(""), bytes)):
        (mine / name).unlink(missing_ok=True)
        path.write_bytes(content(packed_array(values)))
        fault = "is damaged, or not in the form of MNIST's archives"
        assert refused(mine) == f"{path} {fault} ({reason}): mend or replace it"


def test_a_header_may_tell_of_more_images_than_memory_holds(mine):
    content = bytearray(gzip.decompress((mine / IMAGES).read_bytes()))
    content[4] = 127
    (mine / IMAGES).write_bytes(content)
    assert "t10k-labels-idx1-ubyte.gz" in (line := refused(mine)) and "it has 3 labels for 2130706435 images" in line
    (mine / "t10k-labels-idx1-ubyte.gz").unlink()
    assert IMAGES in (line := refused(mine)) and "it is too short" in line


@pytest.mark.parametrize("name", [IMAGES, "train-images-idx3-ubyte.gz"])
def test_images_of_ones_own_are_never_downloaded(mine, mirror, name):
    (mine / name).unlink()
    assert refused(mine) == (
        f"mine is none of MNIST, FashionMNIST, KMNIST, which are downloaded, and {name} is missing in {mine}, "
        "where data of your own belongs"
    )
    assert not mirror


def test_a_data_set_that_is_not_there(tmp_path, mirror):
    with pytest.raises(
        common.UserError, match=r"^mnist is none of MNIST, FashionMNIST, KMNIST, which .*/mnist/raw, where"
    ):
        common.load_data("mnist", tmp_path)
    assert not mirror


@pytest.mark.parametrize(
    "name", ["", ".", "..", ".hidden", "a/b", "a\\b", "/tmp", "a\nb", "a\0b", "\ud800", None, Path("a")]
)
def test_a_data_set_has_a_folders_name(name, tmp_path):
    with pytest.raises(
        common.UserError, match=r"^a data set's name is that of a folder, without / or .*, not '"
    ) as error:
        common.load_data(name, tmp_path)
    assert str(error.value).isprintable()


def test_any_letters_will_do_for_a_name(mine):
    mine.parent.rename(mine.parents[1] / "My dígits, 2")
    assert common.load_data("My dígits, 2", mine.parents[1]).name == "My dígits, 2"


def test_data_that_is_put_together_by_hand_is_nobody_elses(data):
    assert common.Data(*data[:4]).name == "own"
    assert common.word_for_label("own") == common.word_for_label("KMNIST") == "class"
    assert common.word_for_label("MNIST") == "digit"


def rewrite_labels(path, change):
    """Change the labels [n] of an archive."""
    content = bytearray(gzip.decompress(path.read_bytes()))
    content[8:] = bytes(change(content[8:]))
    path.write_bytes(gzip.compress(bytes(content), 1))


def test_as_many_images_as_it_takes_to_have_one_of_each_label(data, archives):
    """Also of archives that are sorted, whose first images are all of one label."""
    data_dir = archives.parents[1]
    assert len(common.load_data(data_dir=data_dir, train_count=None).train_images) == 18  # an 8 is the last to come
    rewrite_labels(archives / "train-labels-idx1-ubyte.gz", sorted)
    few = common.load_data("sorted", data_dir_of(archives, "sorted"), None)
    assert few.train_labels[-1] == 9 and few.train_labels[-2] == 8 and len(few.train_images) == len(few.train_labels)
    assert torch.equal(few.train_images, data.train_images[: len(few.train_labels)])
    assert common.first_of_each(few.train_labels)[1] == (few.train_labels == 0).sum()


def test_labels_may_lack_digits(archives):
    rewrite_labels(archives / "t10k-labels-idx1-ubyte.gz", lambda labels: (min(label, 8) for label in labels))
    few = common.load_data("eight", data_dir_of(archives, "eight"), None)
    assert common.first_images(few.test_images, few.test_labels).shape == (9, 784)


def test_an_epoch_holds_every_image_once(small):
    parts = list(common.batches(small.train_images, 128, torch.Generator().manual_seed(3)))
    assert [len(part) for part in parts] == [128] * 4 + [88]
    together = torch.cat(parts)
    assert together.dtype == torch.float32 and together.min() == 0 and together.max() == 1
    seen = together.mul(255).round().byte()
    assert sorted(map(bytes, seen.numpy())) == sorted(map(bytes, small.train_images.numpy()))


def test_orders_differ_between_epochs_and_repeat_with_the_seed(small):
    one, two = (torch.Generator().manual_seed(3) for _ in range(2))
    first, second, again = (
        next(iter(common.batches(small.train_images, 600, generator))) for generator in (one, one, two)
    )
    assert not torch.equal(first, second) and torch.equal(first, again)


def test_to_float_makes_a_tensor_of_its_own(small):
    before = small.test_images.clone()
    images = common.to_float(small.test_images)
    images.zero_()
    assert torch.equal(small.test_images, before)
    with pytest.raises(common.UserError, match="wants bytes, torch.uint8, not torch.float32"):
        common.to_float(images)
