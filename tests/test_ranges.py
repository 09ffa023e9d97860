"""Every hyperparameter has a range, and what is out of it is said in one line, in Python and on the command line."""

import math
import re

import numpy as np
import pytest
from conftest import METHODS

import common

RANGES = {  # what the line says: the hyperparameters, and values that it is said of
    "at least 0": ("l1_weight beta weight_decay tie", (-1e-9, math.nan, math.inf)),
    "above 0": ("lr encoder_speed", (0, -1.0, math.nan, math.inf)),
    "above 0 and below 1": ("rho beta2", (0, 1, math.nan, "x")),
    "from 0 to 1": ("cool_down", (-0.1, 1.5, math.nan)),
    "a whole number from 1 to 32768": ("hidden k first_k", (0, 2.5, "5", 10**10)),
    "a whole number of at least 1": ("epochs", (0, -1, 2.5)),
    "a whole number from 1 to 60000": ("batch_size", (0, 60_001, 10.0)),
    f"a whole number from 0 to {2**63 - 1}": ("seed", (-1, 2**64, 0.5)),
    "auto or float32 or bfloat16": ("precision", ("half", None)),
    "the name of a folder": ("dataset", ("", "..", ".", "a/b", "/tmp", None)),
}
ROWS = [(key, rule, values) for rule, (keys, values) in RANGES.items() for key in keys.split()]


def test_what_is_out_of_range_is_refused(method, capsys):
    """In Python each of these; on the command line one, since the ranges are the same."""
    assert method.cls.hyperparameters.keys() - {key for key, *_ in ROWS} == {"plain"}
    for key, rule, values in ROWS:
        if key not in method.cls.hyperparameters:
            continue
        for value in values:
            with pytest.raises(ValueError, match=f"^{key} has to be {rule}, not {re.escape(repr(value))}$"):
                method.build(**{key: value})
        with pytest.raises(SystemExit) as end:
            common.parse_arguments(method.cls, [f"--{key.replace('_', '-')}={values[0]}"])
        out, err = capsys.readouterr()
        assert end.value.code == 2 and out == "" and err.count("\n") == 1 and f"{key} has to be {rule}" in err


def test_k_is_at_most_hidden():
    assert METHODS["sparse_ksparse"].build(k=64).k == 64
    with pytest.raises(common.UserError, match="^k has to be a whole number from 1 to hidden, 64, not 65$"):
        METHODS["sparse_ksparse"].build(k=65)


def test_an_unknown_hyperparameter(method):
    words = f"^{method.name} has no hyperparameter 'momentum', but .*hidden, epochs"
    with pytest.raises(common.UserError, match=words):
        method.build(momentum=0.9)


def test_numpy_numbers_are_numbers():
    model = METHODS["sparse_l1"].build(epochs=np.int64(1), lr=np.float32(1))
    assert [type(model.config[key]) for key in ("epochs", "lr")] == [int, float] and model.epochs == model.lr == 1


def test_defaults_are_declared_as_carefully():
    """A whole number for a float does not make whole numbers of its values; what is not allowed is no default."""
    declared = common.hyperparameters({"strength": common.at_least_0(1, "x")}, encoder_speed=5)
    assert type(declared["strength"].default) is type(declared["encoder_speed"].default) is float
    for own, defaults, words in (
        ({}, {"hidden": -1}, "hidden has to be a whole number from 1 to 32768, not -1"),
        ({"strength": common.at_least_0(-1, "x")}, {}, "strength has to be at least 0, not -1.0"),
        ({}, {"lrr": 1.0}, "lrr is no hyperparameter that all methods share"),
        ({"tie": common.at_least_0(1, "x")}, {}, "tie is a hyperparameter that all methods share"),
        ({"plain": common.at_least_0(1, "x")}, {}, "plain is a hyperparameter that all methods share"),
    ):
        with pytest.raises(common.UserError, match=words):
            common.hyperparameters(own, **defaults)


def test_a_name_that_models_have_is_no_hyperparameters():
    class Named(METHODS["sparse_l1"].cls):
        hyperparameters = METHODS["sparse_l1"].cls.hyperparameters | {"history": common.at_least_0(1, "x")}

    with pytest.raises(common.UserError, match="a hyperparameter cannot be called history"):
        Named()
