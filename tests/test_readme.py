"""What the README says, recomputed from the shipped weights on the real test set."""

import re

import pytest
from conftest import METHODS, ROOT

import common

README = (ROOT / "README.md").read_text()
MODELS = ["sparse_l1", "sparse_kl", *(f"sparse_ksparse_k{k}" for k in (5, 10, 25, 50, 100))]


def row(heading, first_cell):
    """The cells of a table's row below a heading."""
    section = README.split(f"\n{heading}\n")[1].split("\n## ")[0]
    for line in section.split("\n"):
        cells = [cell.strip().strip("*") for cell in line.strip("|").split("|")]
        if cells[0] == first_cell or cells[0].startswith(first_cell + " ("):
            return cells[1:]
    raise AssertionError(f"no row {first_cell!r} below {heading!r}")


def agrees(printed, measured):
    """Equal to the last digit that is printed, give or take one: machines round differently."""
    decimals = len(printed.split(".")[1]) if "." in printed else 0
    return abs(float(printed) - measured) <= 1.01 * 10**-decimals


@pytest.fixture(scope="module", params=MODELS)
def shipped(request, data):
    model, info = common.load_pretrained(request.param)
    return model, info, common.evaluate(model, data.test_images, data.test_labels)


def test_results(shipped):
    model, info, report = shipped
    if model.loss_name == "BCE":
        seeds, ours, above, mse, active, dead = row("## Results", {"sparse_l1": "L1", "sparse_kl": "KL"}[info.name])
        train, test = ours.split(" / ")
        assert agrees(train, info.history.train_loss[-1])
        assert agrees(test, report.loss) and agrees(above, report.loss - report.floor)
        assert float(test) < float(seeds.split(" / ")[1])
    else:
        mse, active, dead = row("## Results", f"k-sparse, k = {info.config['k']}")[-3:]
    assert agrees(mse, report.mse) and agrees(active, report.active) and int(dead) == report.dead


def test_targets(shipped):
    model, info, report = shipped
    assert report.dead == 0
    if model.loss_name == "BCE":
        assert report.loss <= 0.06445 and info.history.train_loss[-1] <= 0.0680
    assert info.config == {**common_defaults(info.name), **({"k": info.config["k"]} if "k" in info.config else {})}


def common_defaults(name):
    method = METHODS[re.sub(r"_k\d+$", "", name)]
    return {**method.defaults, "seed": 0, "precision": "bfloat16"}


def test_more_units_reconstruct_better(data):
    errors = []
    for k in (5, 10, 25, 50, 100):
        model, _ = common.load_pretrained(f"sparse_ksparse_k{k}")
        errors.append(common.evaluate(model, data.test_images, data.test_labels).mse)
    assert errors == sorted(errors, reverse=True)


def test_hyperparameters_table():
    for name, column in (("sparse_l1", 0), ("sparse_kl", 1), ("sparse_ksparse", 2)):
        for option in METHODS[name].all_options():
            if option.name not in ("seed", "k"):
                printed = row("## Hyperparameters", f"`--{option.name.replace('_', '-')}`")[column]
                assert float(printed) == METHODS[name].defaults[option.name]


def test_floor(data):
    floor = common.pixel_entropy(data.test_images)
    assert f"{floor:.5f}" in README


def test_probe_of_the_best_model(data):
    """The one figure of the probe that is quick enough to fit again here: k = 25, with the choices that were made."""
    cells = row("## What did it learn?", "k-sparse, k = 25")
    error, width, l2 = float(cells[0].rstrip(" %")), int(cells[2]), float(cells[3])
    model, _ = common.load_pretrained("sparse_ksparse_k25")
    result = common.probe(model.probe_code, data, widths=(width,), l2_grid=(l2,))
    assert abs(result.error - error) <= 0.05


def test_every_picture_is_there():
    for path in re.findall(r"\]\((outputs/[^)]+)\)", README):
        assert (ROOT / path).is_file(), path
