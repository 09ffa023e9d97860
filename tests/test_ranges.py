"""Every hyperparameter has a range, and what is out of it is said in one line, in Python and on the command line."""

import math
import re

import numpy as np
import pytest
from conftest import METHODS

import common

HYPERPARAMETERS = [
    ("sparse_l1", "l1_weight", "at least 0", (-0.1, math.nan, math.inf)),
    ("sparse_kl", "rho", "above 0 and below 1", (0, 1, 2, math.nan)),
    ("sparse_kl", "beta", "at least 0", (-1, math.nan, math.inf)),
    ("sparse_ksparse", "k", "a whole number from 1 to 32768", (0, 2.5)),
    ("sparse_ksparse", "k", "a whole number from 1 to hidden, 64,", (65,)),
    ("sparse_ksparse", "first_k", "a whole number from 1 to 32768", (0, "5")),
    ("sparse_ksparse", "l1_weight", "at least 0", (-0.1, math.nan)),
    ("sparse_l1", "hidden", "a whole number from 1 to 32768", (0, -1, 10**10, 64.0)),
    ("sparse_l1", "epochs", "a whole number of at least 1", (0, -1, 2.5)),
    ("sparse_l1", "batch_size", "a whole number from 1 to 60000", (0, 60_001, 10.0)),
    ("sparse_l1", "lr", "above 0", (0, -1.0, math.nan, math.inf)),
    ("sparse_l1", "weight_decay", "at least 0", (-1e-9, math.nan, math.inf)),
    ("sparse_l1", "tie", "at least 0", (-1e-9, math.nan, math.inf)),
    ("sparse_l1", "seed", f"a whole number from 0 to {2**63 - 1}", (-1, 2**64, 0.5)),
    ("sparse_l1", "precision", "auto or float32 or bfloat16", ("half", None)),
    ("sparse_l1", "encoder_speed", "above 0", (0, math.nan)),
    ("sparse_l1", "beta2", "above 0 and below 1", (0, 1, "x")),
    ("sparse_l1", "cool_down", "from 0 to 1", (-0.1, 1.5, math.nan)),
    ("sparse_l1", "dataset", "the name of a folder", ("", "..", ".", "a/b", "/tmp", None)),
]


@pytest.mark.parametrize(("name", "key", "rule", "values"), HYPERPARAMETERS)
def test_what_is_out_of_range_is_refused(name, key, rule, values, capsys):
    """In Python each of these; on the command line one, since the ranges are the same."""
    method = METHODS[name]
    for value in values:
        with pytest.raises(ValueError, match=f"^{key} has to be {rule},? not {re.escape(repr(value))}$"):
            method.build(**{key: value})
    given = [*([] if key == "hidden" else ["--hidden=64"]), f"--{key.replace('_', '-')}={values[0]}"]
    with pytest.raises(SystemExit) as end:
        common.parse_arguments(method.cls, given)
    out, err = capsys.readouterr()
    assert end.value.code == 2 and out == "" and err.count("\n") == 1 and f"{key} has to be {rule}" in err


def test_every_hyperparameter_is_in_the_table(method):
    tabled = {(name, key) for name, key, *_ in HYPERPARAMETERS}
    for key in method.cls.hyperparameters:
        assert (method.name, key) in tabled or ("sparse_l1", key) in tabled or key == "plain"


def test_an_unknown_hyperparameter(method):
    with pytest.raises(
        common.UserError, match=f"^{method.name} has no hyperparameter 'momentum', but .*hidden, epochs"
    ):
        method.build(momentum=0.9)


def test_numpy_numbers_are_numbers():
    model = METHODS["sparse_l1"].build(epochs=np.int64(1), batch_size=np.int64(3), lr=np.float32(1))
    assert (model.epochs, model.batch_size, model.lr) == (1, 3, 1)
    assert [type(model.config[key]) for key in ("epochs", "batch_size", "lr")] == [int, int, float]
    assert METHODS["sparse_ksparse"].build(hidden=np.int64(8), k=np.int32(2)).k == 2


def test_defaults_are_declared_as_carefully(method):
    """A whole number for a float does not make whole numbers of its values; what is not allowed is no default."""
    declared = common.hyperparameters({"strength": common.at_least_0(1, "x")}, encoder_speed=5)
    assert type(declared["strength"].default) is type(declared["encoder_speed"].default) is float
    for own, defaults, words in (
        ({}, {"hidden": -1}, "hidden has to be a whole number from 1 to 32768, not -1"),
        ({}, {"lrr": 1.0}, "lrr is no hyperparameter that all methods share"),
        ({"tie": common.at_least_0(1, "x")}, {}, "tie is a hyperparameter that all methods share"),
        ({"plain": common.at_least_0(1, "x")}, {}, "plain is a hyperparameter that all methods share"),
    ):
        with pytest.raises(common.UserError, match=words):
            common.hyperparameters(own, **defaults)

    class Named(method.cls):
        hyperparameters = method.cls.hyperparameters | {"history": common.at_least_0(1, "50 % of it")}

    with pytest.raises(common.UserError, match="a hyperparameter cannot be called history"):
        Named()
    assert "50 % of it (default: 1.0)" in " ".join(common.option_parser(Named).format_help().split())
