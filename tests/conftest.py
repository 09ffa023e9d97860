"""Shared by the tests: the data, a small part of it, a trained model of each method, and processes."""

import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from processes import Running  # noqa: E402

import common  # noqa: E402
import sparse_kl  # noqa: E402
import sparse_ksparse  # noqa: E402
import sparse_l1  # noqa: E402

METHODS = {"sparse_l1": sparse_l1.METHOD, "sparse_kl": sparse_kl.METHOD, "sparse_ksparse": sparse_ksparse.METHOD}


@pytest.fixture
def start(tmp_path):
    """start(script, *arguments, before=None): a Running script. `before` is called in its process first."""
    return lambda *arguments, **more: Running(tmp_path, *arguments, **more)


@pytest.fixture
def run(start):
    """run(script, *arguments, before=None): its Result."""
    return lambda *arguments, **more: start(*arguments, **more).wait()


@pytest.fixture(scope="session")
def data():
    """All of MNIST."""
    return common.load_mnist(ROOT / "data")


@pytest.fixture(scope="session")
def small(data):
    """The first 600 training and 200 test images."""
    return common.Data(*(part[:count] for part, count in zip(data, (600, 600, 200, 200), strict=True)))


@pytest.fixture(scope="session", params=METHODS)
def method(request):
    """Each of the three methods in turn."""
    return METHODS[request.param]


@pytest.fixture(scope="session")
def trained(method, small):
    """(method, model, info) after two epochs on the small set, 64 units."""
    config = small_config(method)
    model = method.build(config)
    history = common.train(model, small, **{key: config[key] for key in common.TRAIN_KEYS})
    return method, model.eval(), common.Info(method.full_name(config), config, history)


def small_config(method, **changes):
    config = {**method.defaults, "hidden": 64, "epochs": 2, "batch_size": 100, "seed": 0, "precision": "float32"}
    return {**config, **changes}
