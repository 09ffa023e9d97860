"""The methods that are there, and the shipped models. It measures nothing itself."""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

import common  # noqa: E402

CLASSES = {script.stem: common.find_method(script.stem) for script in sorted(ROOT.glob("sparse_*.py"))}
SHIPPED = ["sparse_l1", "sparse_kl", *(f"sparse_ksparse_k{k}" for k in (5, 10, 25, 50, 100))]


def train(name, data, **changes):
    """A model of a method, trained with its defaults but for these `changes`; its weights are frozen."""
    return trained(CLASSES[name](**changes), data)


def trained(model, data):
    """A new model, trained; its weights are frozen."""
    common.train(model, data)
    return model.requires_grad_(False)
