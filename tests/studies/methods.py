"""The three methods, and how a study or a test trains a model of one of them. It measures nothing itself."""

import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import common  # noqa: E402
import sparse_kl  # noqa: E402
import sparse_ksparse  # noqa: E402
import sparse_l1  # noqa: E402

CLASSES = {"sparse_l1": sparse_l1.SparseL1, "sparse_kl": sparse_kl.SparseKL, "sparse_ksparse": sparse_ksparse.KSparse}
PARSERS = {
    "sparse_l1": sparse_l1.option_parser,
    "sparse_kl": sparse_kl.option_parser,
    "sparse_ksparse": sparse_ksparse.option_parser,
}
SHIPPED = ["sparse_l1", "sparse_kl", *(f"sparse_ksparse_k{k}" for k in (5, 10, 25, 50, 100))]
FASTEST = common.fastest_precision(torch.device("cpu"))


def config_of(name, **changes):
    """The hyperparameters of a method's script without options, as a dict, with some of them changed."""
    defaults = common.default_config(CLASSES[name], PARSERS[name]())
    return {**defaults, "precision": FASTEST, **changes}


def train(cls, config, data, label="training"):
    """(model, History) of a subclass of Autoencoder with these hyperparameters; the model's weights are frozen."""
    model = common.build(cls, config)
    history = common.train(model, data, common.training_of(config), label)
    return model.requires_grad_(False), history
