"""Shared by the tests: data, a trained model of each method, a copy of the project, processes."""

import shutil
import sys
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import settings

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from processes import Running  # noqa: E402

import common  # noqa: E402
import sparse_kl  # noqa: E402
import sparse_ksparse  # noqa: E402
import sparse_l1  # noqa: E402

settings.register_profile("quiet", deadline=None, max_examples=100, derandomize=True, database=None)
settings.load_profile("quiet")


class Method(NamedTuple):
    """What a script hands to common.main."""

    cls: type
    defaults: dict

    def config(self, **changes):
        """Hyperparameters of a model that trains in a moment."""
        small = dict(hidden=64, epochs=2, batch_size=100, seed=0, precision="float32")
        return {**self.defaults, **small, **({"k": 5} if "k" in self.defaults else {}), **changes}

    def build(self, **changes):
        return common.build(self.cls, self.config(**changes))

    def train(self, data, **changes):
        """(model, Info), trained."""
        config, model = self.config(**changes), self.build(**changes)
        history = common.train(model, data, **{key: config[key] for key in common.TRAIN_KEYS})
        name = common.model_name(self.cls, self.defaults, config)
        return model.requires_grad_(False), common.Info(name, config, history)


METHODS = {
    "sparse_l1": Method(sparse_l1.SparseL1, sparse_l1.DEFAULTS),
    "sparse_kl": Method(sparse_kl.SparseKL, sparse_kl.DEFAULTS),
    "sparse_ksparse": Method(sparse_ksparse.KSparse, sparse_ksparse.DEFAULTS),
}
CLASSES = [method.cls for method in METHODS.values()]


@pytest.fixture
def start(tmp_path):
    """start(script, *arguments, before=None): a Running script of the project, or of another folder by its path.
    `before` is called in its process first."""
    return lambda script, *arguments, **more: Running(tmp_path, ROOT / script, *arguments, **more)


@pytest.fixture
def run(start):
    """run(script, *arguments, before=None): its Result."""
    return lambda *arguments, **more: start(*arguments, **more).wait()


@pytest.fixture
def project(tmp_path):
    """A copy of the project without weights, to train in."""
    folder = tmp_path / "project"
    (folder / "outputs").mkdir(parents=True)
    for name in ("common.py", *(f"{method}.py" for method in METHODS), "outputs/explore.html"):
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
    return common.Data(*(part[:count] for part, count in zip(data, (600, 600, 199, 199), strict=True)))


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
    """tiny(name): (model, Info) of a method, with four units."""
    made = {
        name: method.train(small, hidden=4, epochs=1, batch_size=600, **({"k": 2} if "k" in method.defaults else {}))
        for name, method in METHODS.items()
    }
    return made.__getitem__


@pytest.fixture
def room(tiny, tmp_path):
    """A folder with weights in it: l1.pt, kl.pt and ksparse.pt."""
    for name in METHODS:
        common.save_checkpoint(tmp_path / f"{name.removeprefix('sparse_')}.pt", *tiny(name))
    return tmp_path


@pytest.fixture
def archives(tmp_path):
    """The folder of a copy of the four archives."""
    folder = tmp_path / "data" / "MNIST" / "raw"
    return shutil.copytree(ROOT / "data" / "MNIST" / "raw", folder, ignore=shutil.ignore_patterns("*-ubyte"))


def contents(folder):
    """Every file below a folder."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
