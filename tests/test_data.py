"""MNIST, where it comes from, and its minibatches."""

import errno
import gzip
import hashlib
import os
from pathlib import Path

import pytest
import torch
from conftest import ROOT, contents

import common

IMAGES = "t10k-images-idx3-ubyte.gz"


def test_all_of_mnist(data):
    assert [tuple(part.shape) for part in data] == [(60_000, 784), (60_000,), (10_000, 784), (10_000,)]
    assert data.train_labels[:10].tolist() == [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]
    assert data.test_labels[:10].tolist() == [7, 2, 1, 0, 4, 1, 4, 9, 5, 9]
    assert data.train_images.double().mean().item() / 255 == pytest.approx(0.1306604762738, abs=1e-12)


def test_the_data_is_found_from_any_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    common.load_mnist(train_count=1)
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
    "images of one's own": lambda packed, plain: gzip.compress(
        plain[:4] + bytes([0, 0, 0, 5]) + plain[8 : 16 + 5 * 784]
    ),
    "other sizes inside": lambda packed, plain: gzip.compress(plain[:7] + b"\x11" + plain[8:], 1),
}


@pytest.mark.parametrize("kind", SPOILT)
def test_an_archive_that_is_there_is_named_and_never_written(archives, mirror, kind):
    """It may be damaged, or one of the user's own."""
    packed = (archives / IMAGES).read_bytes()
    (archives / IMAGES).write_bytes(SPOILT[kind](packed, gzip.decompress(packed)))
    before = contents(archives)
    words = rf"{IMAGES} is damaged, or not MNIST's \(.+\): move it away to have it downloaded, or name another folder"
    with pytest.raises(common.UserError, match=words) as error:
        common.load_mnist(archives.parents[1], 1)
    assert "\n" not in str(error.value)
    assert contents(archives) == before and not mirror


def test_a_missing_archive_is_downloaded(data, archives, mirror):
    packed = (archives / IMAGES).read_bytes()
    (archives / IMAGES).unlink()
    assert torch.equal(common.load_mnist(archives.parents[1], 1).test_images, data.test_images)
    assert mirror == [IMAGES] and (archives / IMAGES).read_bytes() == packed and len(list(archives.iterdir())) == 4


def test_a_download_that_fails_says_why(tmp_path, monkeypatch):
    def fail(*arguments):
        raise OSError("certificate verify failed: self-signed certificate\nmore")

    monkeypatch.setattr("torchvision.datasets.utils.download_url", fail)
    with pytest.raises(common.UserError, match=r"cannot be downloaded \(certificate verify failed: self-signed certif"):
        common.load_mnist(tmp_path / "new")
    assert not list(tmp_path.iterdir())


def test_all_archives_are_downloaded_into_an_empty_folder(data, mirror, tmp_path):
    assert torch.equal(common.load_mnist(tmp_path / "new").train_labels, data.train_labels)
    assert len(mirror) == 4


def test_a_download_that_cannot_be_written_says_so(archives, mirror, monkeypatch):
    def no_room(*paths):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    (archives / IMAGES).unlink()
    monkeypatch.setattr(os, "replace", no_room)
    with pytest.raises(common.UserError, match=f"cannot write .*{IMAGES}: No space left.*--data-dir"):
        common.load_mnist(archives.parents[1], 1)


def rewrite_labels(path, change):
    """Change the labels [n] of an archive."""
    content = bytearray(gzip.decompress(path.read_bytes()))
    content[8:] = bytes(change(content[8:]))
    path.write_bytes(gzip.compress(bytes(content), 1))


def test_as_many_images_as_it_takes_to_have_one_of_each_label(data, archives):
    """Also of archives that are sorted, whose first images are all of one label."""
    assert len(common.load_mnist(archives.parents[1], None).train_images) == 18  # an 8 is the last to come
    rewrite_labels(archives / "train-labels-idx1-ubyte.gz", sorted)
    few = common.load_mnist(archives.parents[1], None)
    assert few.train_labels[-1] == 9 and few.train_labels[-2] == 8 and len(few.train_images) == len(few.train_labels)
    assert torch.equal(few.train_images, data.train_images[: len(few.train_labels)])
    assert common.first_of_each(few.train_labels)[1] == (few.train_labels == 0).sum()


def test_labels_may_lack_digits_but_not_go_beyond_9(archives):
    path = archives / "t10k-labels-idx1-ubyte.gz"
    rewrite_labels(path, lambda labels: (min(label, 8) for label in labels))
    few = common.load_mnist(archives.parents[1], None)
    assert common.first_images(few.test_images, few.test_labels).shape == (9, 784)
    rewrite_labels(path, lambda labels: (12 if label == 3 else label for label in labels))
    with pytest.raises(
        common.UserError, match=rf"{path.name} has labels up to 12, and digits go up to 9: name another"
    ):
        common.load_mnist(archives.parents[1], None)


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
