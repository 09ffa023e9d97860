"""Shared by the tests: data, a trained model of each method, a copy of the project, processes."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import settings

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "studies")]

import methods  # noqa: E402

import common  # noqa: E402

settings.register_profile("quiet", deadline=None, max_examples=100, derandomize=True, database=None)
settings.load_profile("quiet")


class Method(NamedTuple):
    """One of the three, and small models of it."""

    name: str

    @property
    def cls(self):
        return methods.CLASSES[self.name]

    @property
    def defaults(self):
        return common.default_config(self.cls, self.parser())

    def parser(self):
        return methods.PARSERS[self.name]()

    def config(self, **changes):
        """Hyperparameters of a model that trains in a moment."""
        small = dict(hidden=64, epochs=2, batch_size=100, precision="float32")
        if self.name == "sparse_ksparse":
            small["k"] = 5
        return methods.config_of(self.name, **{**small, **changes})

    def build(self, **changes):
        return common.build(self.cls, self.config(**changes))

    def train(self, data, **changes):
        """(model, Info), trained."""
        config = self.config(**changes)
        model, history = methods.train(self.cls, config, data)
        return model, common.Info(common.model_name(self.cls, self.defaults, config), config, history)


METHODS = {name: Method(name) for name in methods.CLASSES}
CLASSES = list(methods.CLASSES.values())


def command_of(script, arguments):
    """The command that starts a script of the project, or of another folder by its path."""
    return [sys.executable, ROOT / script, *map(str, arguments)]


def start(script, *arguments, **more):
    """A script in a process of its own."""
    return subprocess.Popen(
        command_of(script, arguments), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **more
    )


def run(script, *arguments, prefix=(), **more):
    """The same, when it has ended: its returncode, stdout and stderr. `prefix` is a command that starts it."""
    command = [*prefix, *command_of(script, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, **more)


def environment(**changes):
    """This process's environment variables, with some changed, or removed where they are None."""
    return {key: value for key, value in {**os.environ, **changes}.items() if value is not None}


@pytest.fixture
def project(tmp_path):
    """A copy of the project without weights, to train in."""
    folder = tmp_path / "project"
    (folder / "outputs" / "shipped" / "explore").mkdir(parents=True)
    for name in ("common.py", *(f"{method}.py" for method in METHODS), "outputs/shipped/explore/index.html"):
        shutil.copy(ROOT / name, folder / name)
    (folder / "data").symlink_to(ROOT / "data")
    return folder


@pytest.fixture(scope="session")
def data():
    """All of MNIST."""
    return common.load_mnist()


@pytest.fixture(scope="session")
def small(data):
    """The first 600 training and 199 test images: an odd number has one median."""
    return common.Data(data.train_images[:600], data.train_labels[:600], data.test_images[:199], data.test_labels[:199])


@pytest.fixture(scope="session", params=METHODS)
def method(request):
    """Each of the three methods in turn."""
    return METHODS[request.param]


@pytest.fixture(scope="session")
def trained(method, small):
    """(model, Info) of each method in turn."""
    return method.train(small)


@pytest.fixture(scope="session")
def tiny(small):
    """(model, Info) of each method, by its name, with four units."""
    shape = dict(hidden=4, epochs=1, batch_size=600)
    return {
        "sparse_l1": METHODS["sparse_l1"].train(small, **shape),
        "sparse_kl": METHODS["sparse_kl"].train(small, **shape),
        "sparse_ksparse": METHODS["sparse_ksparse"].train(small, k=2, **shape),
    }


@pytest.fixture
def room(tiny, tmp_path):
    """A folder with weights in it: l1.pt, kl.pt and ksparse.pt."""
    for name, (model, info) in tiny.items():
        common.save_checkpoint(tmp_path / f"{name.removeprefix('sparse_')}.pt", model, info)
    return tmp_path


@pytest.fixture
def archives(tmp_path):
    """The folder of a copy of the four archives."""
    folder = tmp_path / "data" / "MNIST" / "raw"
    return shutil.copytree(ROOT / "data" / "MNIST" / "raw", folder, ignore=shutil.ignore_patterns("*-ubyte"))


def contents(folder):
    """Every file below a folder."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
