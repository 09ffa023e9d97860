"""MNIST and other data sets, where they come from, and minibatches."""

import gzip
import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import ROOT, contents

import common

IMAGES = "t10k-images-idx3-ubyte.gz"
LABELS = "train-labels-idx1-ubyte.gz"
TRAIN_LABELS = [4, 4, 2, 0, 2, 0, 4]


def test_all_of_mnist(data):
    assert [tuple(part.shape) for part in data[:4]] == [(60_000, 784), (60_000,), (10_000, 784), (10_000,)]
    assert data.train_labels[:10].tolist() == [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]
    assert data.test_labels[:10].tolist() == [7, 2, 1, 0, 4, 1, 4, 9, 5, 9]
    assert data.train_images.double().mean().item() / 255 == pytest.approx(0.1306604762738, abs=1e-12)
    assert data.name == "MNIST"


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
        LABELS: TRAIN_LABELS,
        IMAGES: images[7:],
        "t10k-labels-idx1-ubyte.gz": [9, 0, 2],
    }.items():
        (folder / name).write_bytes(gzip.compress(packed_array(values)))
    return folder


def load_mine(mine, **more):
    return common.load_data("mine", mine.parents[1], **more)


def refused(mine, **more):
    """The one line that says what is wrong with data of one's own, which stay as they are."""
    before = contents(mine)
    with pytest.raises(common.UserError) as error:
        load_mine(mine, **more)
    assert contents(mine) == before and "\n" not in str(error.value)
    return str(error.value)


def unpack(folder):
    """Unpack all archives of a folder, as a browser does, which leaves no .gz."""
    for path in list(folder.iterdir()):
        path.with_suffix("").write_bytes(gzip.decompress(path.read_bytes()))
        path.unlink()


@pytest.mark.parametrize("change", [lambda mine: None, unpack], ids=["packed", "unpacked"])
def test_data_of_ones_own(mine, change):
    change(mine)
    images = np.random.default_rng(0).integers(0, 256, (10, 784))
    found = load_mine(mine)
    assert found.name == "mine" and found.train_images.dtype == torch.uint8
    assert found.train_labels.tolist() == TRAIN_LABELS and found.train_labels.dtype == torch.int64
    assert found.train_images.tolist() == images[:7].tolist() and found.test_images.tolist() == images[7:].tolist()
    assert found.test_labels.tolist() == [9, 0, 2]


def test_the_labels_may_be_missing(mine):
    (mine / LABELS).unlink()
    found = load_mine(mine)
    assert found.train_labels is None and found.test_labels.tolist() == [9, 0, 2] and len(found.train_images) == 7
    (mine / "t10k-labels-idx1-ubyte.gz").unlink()
    assert load_mine(mine).test_labels is None


def test_a_view_reads_the_first_training_images_until_there_is_one_of_each_label(mine):
    """And ten where there are no labels."""
    found = load_mine(mine, for_training=False)
    assert found.train_labels.tolist() == [4, 4, 2, 0] and len(found.train_images) == 4 and len(found.test_images) == 3
    assert torch.equal(found.train_images, load_mine(mine).train_images[:4])
    (mine / LABELS).unlink()
    assert len(load_mine(mine, for_training=False).train_images) == 7
    (mine / "train-images-idx3-ubyte.gz").write_bytes(gzip.compress(packed_array(np.zeros((12, 28, 28)))))
    assert len(load_mine(mine, for_training=False).train_images) == 10


def test_a_damaged_archive_is_named_in_a_line_and_stays(mine):
    packed = (mine / IMAGES).read_bytes()
    plain = gzip.decompress(packed)
    for spoilt in (
        packed[:900] + bytes([packed[900] ^ 1]) + packed[901:],
        packed[:-8] + bytes(4) + packed[-4:],  # another checksum
        packed[:-500],
        b"hello",
        gzip.compress(b"hello"),
        gzip.compress(plain[:-784]),
    ):
        (mine / IMAGES).write_bytes(spoilt)
        line = refused(mine)
        assert f"{mine / IMAGES} is damaged, or not in the form of MNIST's archives (" in line
        assert line.endswith("): replace it, or move it away")


@pytest.mark.parametrize("for_training", [True, False])
def test_a_header_may_say_anything(mine, for_training):
    """As of more images than memory holds."""
    unpack(mine)
    path = mine / "train-images-idx3-ubyte"
    content = path.read_bytes()
    for place in range(3, 16):
        path.write_bytes(content[:place] + bytes([content[place] ^ 0x70]) + content[place + 1 :])
        try:
            found = load_mine(mine, for_training=for_training)
        except common.UserError as error:
            assert "\n" not in str(error)
        else:
            assert not for_training and place < 8 and found.train_images.shape == (4, 784)


@pytest.mark.parametrize(
    ("name", "values", "found"),
    [
        (IMAGES, np.zeros((3, 32, 30)), "images [3, 32, 30], labels [3]"),
        (IMAGES, np.zeros((0, 28, 28)), "images [0, 28, 28], labels [3]"),
        (LABELS, [1] * 6, "images [7, 28, 28], labels [6]"),
        (LABELS, [], "images [7, 28, 28], labels [0]"),
    ],
)
def test_archives_that_do_not_fit_are_told_in_a_line(mine, name, values, found):
    (mine / name).write_bytes(gzip.compress(packed_array(values)))
    fault = f"mine has to have images of 28 x 28, and none or as many labels, in {mine}; found: "
    assert refused(mine) == fault + found
    if found != "images [7, 28, 28], labels [6]":  # a view does not count the training images
        assert refused(mine, for_training=False).startswith(fault)


def test_missing_images_of_ones_own_are_told_and_never_downloaded(mine, mirror):
    (mine / IMAGES).unlink()
    line = refused(mine)
    assert line.startswith(f"{IMAGES} is missing in {mine}, where the images of mine belong; MNIST, ") and not mirror


# What is downloaded


@pytest.fixture
def mirror(monkeypatch):
    """What is downloaded, as a list; the network is a folder with MNIST's archives."""
    downloaded = []

    def download(url, folder, name, md5):
        content = (ROOT / "data" / "MNIST" / "raw" / name).read_bytes()
        assert url.endswith(f"/{name}") and md5 == hashlib.md5(content).hexdigest()
        Path(folder, name).write_bytes(content)
        downloaded.append(name)

    monkeypatch.setattr("torchvision.datasets.utils.download_url", download)
    return downloaded


def test_only_what_is_missing_is_downloaded(archives, mirror, capsys):
    """It lies there afterwards, and what was there before is as it was."""
    before = contents(archives)
    (archives / IMAGES).unlink()
    for _ in range(2):
        common.load_data(data_dir=archives.parents[1], for_training=False)
        assert mirror == [IMAGES] and contents(archives) == before
    assert f"Downloading {IMAGES} of MNIST" in capsys.readouterr().out


@pytest.mark.parametrize("name", common.DOWNLOADED)
def test_all_is_downloaded_into_an_empty_folder(mirror, tmp_path, monkeypatch, name):
    """The checksums are those that torchvision has for each, here all as for MNIST."""
    from torchvision import datasets

    assert [name for name, _ in getattr(datasets, name).resources] == [name for name, _ in datasets.MNIST.resources]
    monkeypatch.setattr(getattr(datasets, name), "resources", datasets.MNIST.resources)
    assert common.load_data(name, tmp_path, for_training=False).name == name
    assert len(mirror) == len(contents(tmp_path / name / "raw")) == 4


def test_a_download_that_fails_says_why(tmp_path, monkeypatch):
    """After all mirrors have been asked; and nothing is left of it."""
    from torchvision import datasets

    asked = []

    def fail(url, *arguments):
        asked.append(url)
        raise OSError("certificate verify failed:\nself-signed certificate")

    monkeypatch.setattr("torchvision.datasets.utils.download_url", fail)
    with pytest.raises(common.UserError) as error:
        common.load_data("MNIST", tmp_path / "new")
    folder = tmp_path / "new" / "MNIST" / "raw"
    assert str(error.value) == (
        f"{LABELS} is missing in {folder} and cannot be downloaded (certificate verify failed: self-signed "
        "certificate): put it there, or name another folder for the data"
    )
    assert asked == [mirror + LABELS for mirror in datasets.MNIST.mirrors] and len(asked) > 1 and not contents(tmp_path)


# Minibatches


@pytest.mark.parametrize(("count", "size"), [(6001, 600), (600, 128), (600, 600), (5, 600)])
def test_an_epoch_holds_every_image_once_in_batches_of_nearly_one_size(data, count, size):
    """So no step is made of a single image that happens to be left over."""
    images = data.train_images[:count]
    parts = list(common.batches(images, size, torch.Generator().manual_seed(3)))
    sizes = [len(part) for part in parts]
    assert len(sizes) == -(-count // size) and max(sizes) <= size and max(sizes) - min(sizes) <= 1
    together = torch.cat(parts)
    assert together.dtype == torch.float32 and together.min() == 0 and together.max() == 1
    seen = together.mul(255).round().byte()
    assert sorted(map(bytes, seen.numpy())) == sorted(map(bytes, images.numpy()))


def test_the_order_is_drawn_anew_for_each_epoch(small):
    """Without a generator it is that of the images."""
    generator = torch.Generator().manual_seed(3)
    one, two = (next(iter(common.batches(small.train_images, 600, generator))) for _ in range(2))
    (unmixed,) = common.batches(small.train_images, 600)
    assert not torch.equal(one, two) and torch.equal(unmixed, common.to_float(small.train_images))


def test_the_first_image_of_each_label(data):
    """Of those labels that occur; of the first ten without labels, and with more than ten."""
    images, labels = data.test_images, data.test_labels
    expected = [common.to_float(images[labels == label][0]).tolist() for label in range(10)]
    assert common.first_images(images, labels).tolist() == expected
    assert common.first_images(images, labels.clamp(min=1)).tolist() == expected[1:]
    assert common.first_images(images, torch.arange(10_000)).shape == (10, 784)
    assert torch.equal(common.first_images(images, None), common.to_float(images[:10]))


def test_to_float_makes_a_tensor_of_its_own(small):
    before = small.test_images.clone()
    images = common.to_float(small.test_images).zero_()
    assert torch.equal(small.test_images, before)
    with pytest.raises(common.UserError, match="takes bytes, torch.uint8, not torch.float32"):
        common.to_float(images)
