"""Shared by the tests: data, trained models, a copy of the project, commands in this process and in their own."""

import contextlib
import functools
import gc
import os
import runpy
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from hypothesis import settings

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "studies"), str(ROOT / "explore")]

import methods  # noqa: E402

import common  # noqa: E402

# Models here are small: a thread more costs time, and much of it where the machine has something else to do.
THREADS = torch.get_num_threads()
torch.set_num_threads(1)
common.FEW = 100  # the small data set has 199 test images

settings.register_profile("quiet", deadline=None, max_examples=100, derandomize=True, database=None)
settings.load_profile("quiet")


class Method(NamedTuple):
    """One that is found, and small models of it."""

    name: str

    @property
    def cls(self):
        return methods.CLASSES[self.name]

    @property
    def defaults(self):
        return {key: declared.default for key, declared in self.cls.hyperparameters.items()}

    def build(self, **changes):
        """A model that trains in a moment."""
        small = dict(hidden=64, epochs=2, batch_size=100, precision="float32")
        if self.name == "sparse_ksparse":
            small["k"] = 5
        return self.cls(**{**small, **changes})

    def train(self, data, **changes):
        """The same, trained, with frozen weights."""
        return methods.trained(self.build(**changes), data)


class Ended(NamedTuple):
    """How a command ended."""

    status: int
    out: str
    err: str


METHODS = {name: Method(name) for name in methods.CLASSES}
CLASSES = list(methods.CLASSES.values())


def environment(**changes):
    """This process's environment variables, with some changed, or removed where they are None. Models here are small:
    a thread more only waits for the others."""
    variables = {**os.environ, "OMP_NUM_THREADS": "1", **changes}
    return {key: value for key, value in variables.items() if value is not None}


def start(command, **more):
    """A command in a process of its own."""
    more.setdefault("env", environment())
    return subprocess.Popen(
        [str(word) for word in command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **more
    )


def ended(process):
    """How a process of `start` Ended."""
    out, err = process.communicate(timeout=300)
    return Ended(process.returncode, out, err)


def run(script, *arguments, **more):
    """How a script of the project, or of another folder by its path, Ended in a process of its own."""
    return ended(start([sys.executable, ROOT / script, *arguments], **more))


def write_archives(data, folder):
    """The four archives of a data set, unpacked."""
    folder.mkdir(parents=True)
    for kind, images, labels in (
        ("train", data.train_images, data.train_labels),
        ("t10k", data.test_images, data.test_labels),
    ):
        image_header = np.array([0x803, len(images), 28, 28], ">i4").tobytes()
        label_header = np.array([0x801, len(labels)], ">i4").tobytes()
        (folder / f"{kind}-images-idx3-ubyte").write_bytes(image_header + images.numpy().tobytes())
        (folder / f"{kind}-labels-idx1-ubyte").write_bytes(label_header + labels.byte().numpy().tobytes())


@pytest.fixture
def project(tmp_path, small):
    """A copy of the project without weights, to train in; its data set "few" has the `small` images."""
    folder = tmp_path / "project"
    (folder / "explore").mkdir(parents=True)
    for name in ("common.py", *(f"{method}.py" for method in METHODS), "explore/index.html", "explore/write.py"):
        shutil.copy(ROOT / name, folder / name)
    write_archives(small, folder / "data" / "few" / "raw")
    return folder


@contextlib.contextmanager
def with_all_threads():
    """As many threads as torch has when it is not told."""
    torch.set_num_threads(THREADS)
    try:
        yield
    finally:
        torch.set_num_threads(1)


@pytest.fixture
def all_threads():
    """The same for a test."""
    with with_all_threads():
        yield


@pytest.fixture(scope="session")
def data():
    """All of MNIST."""
    return common.load_data()


@pytest.fixture(scope="session")
def small(data):
    """The first 600 training and 199 test images: an odd number has one median."""
    parts = data.train_images[:600], data.train_labels[:600], data.test_images[:199], data.test_labels[:199]
    return common.Data(*parts, name="MNIST")


@pytest.fixture(scope="session", params=METHODS)
def method(request):
    """Each of the three methods in turn."""
    return METHODS[request.param]


@pytest.fixture(scope="session")
def trained(method, small):
    """A model of each method in turn."""
    return method.train(small)


@pytest.fixture(scope="session")
def tiny(small):
    """A model of each method, by its name, with four units."""
    shape = dict(hidden=4, epochs=1, batch_size=600)
    return {
        "sparse_l1": METHODS["sparse_l1"].train(small, **shape),
        "sparse_kl": METHODS["sparse_kl"].train(small, **shape),
        "sparse_ksparse": METHODS["sparse_ksparse"].train(small, k=2, **shape),
    }


@pytest.fixture(scope="session")
def report_of(data):
    """report_of(name): (model, Report on all test images) of a shipped model, once in a session."""

    @functools.cache
    def report_of(name):
        model = common.load_pretrained(name)
        return model, common.evaluate(model, data.test_images)

    return report_of


@pytest.fixture
def few(small, monkeypatch):
    """MNIST has only the `small` images."""
    monkeypatch.setattr(common, "load_data", lambda *arguments, **options: small)


@pytest.fixture
def call(monkeypatch, capfd):
    """call("sparse_l1", "--epochs", 3): how that command Ended, in this process; or that of another script's path."""

    def call(script, *arguments):
        path = Path(script)
        monkeypatch.setattr(sys, "argv", [f"{path.stem}.py", *map(str, arguments)])
        capfd.readouterr()
        status = 0
        try:
            if script in METHODS:
                common.main(METHODS[script].cls)
            else:
                runpy.run_path(str(path), run_name="__main__")
        except SystemExit as end:
            status = end.code
        finally:  # what a command may change for good in a process of its own
            torch.set_flush_denormal(False)
            gc.unfreeze()
        out, err = capfd.readouterr()
        return Ended(1, out, f"{err}{status}\n") if isinstance(status, str) else Ended(status, out, err)

    return call


@pytest.fixture
def room(tiny, tmp_path):
    """A folder with weights in it: l1.pt, kl.pt and ksparse.pt."""
    for name, model in tiny.items():
        common.save_checkpoint(model, tmp_path / f"{name.removeprefix('sparse_')}.pt")
    return tmp_path


@pytest.fixture
def archives(tmp_path):
    """The folder of a copy of the four archives."""
    folder = tmp_path / "data" / "MNIST" / "raw"
    return shutil.copytree(ROOT / "data" / "MNIST" / "raw", folder, ignore=shutil.ignore_patterns("*-ubyte"))


def contents(folder):
    """Every file below a folder."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def browser():
    """Chromium, without a window."""
    playwright = pytest.importorskip("playwright.sync_api", reason="no Playwright: pip install playwright")
    path = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if path is None:
        pytest.skip("no browser: install chromium or google-chrome")
    flags = (
        "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
        "--disable-component-update --disable-sync --process-per-site"
    )
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=path, args=flags.split())
        yield browser
        browser.close()
