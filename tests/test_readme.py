"""What the README and the scripts' docstrings say, recomputed from the shipped weights on the real test set."""

import re
import sys

import probe
import pytest
import sparsity
from conftest import METHODS, ROOT, with_all_threads
from methods import SHIPPED

import common

README = (ROOT / "README.md").read_text()
STUDIES = (ROOT / "tests" / "studies" / "README.md").read_text()
ROWS = {name: f"k-sparse, k = {name.split('_k')[-1]}" for name in SHIPPED}
ROWS |= {"sparse_l1": "L1", "sparse_kl": "KL"}


def row(text, heading, first_cell):
    """The cells of a table's row below a heading of a text, by the names of their columns."""
    names = None
    for line in text.split(f"\n{heading}\n")[1].split("\n## ")[0].split("\n"):
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if not line.startswith("|"):
            names = None
        elif names is None:
            names = cells
        elif cells[0] == first_cell:
            return dict(zip(names, cells, strict=True))
    raise AssertionError(f"no row {first_cell!r} below {heading!r}")


def agrees(printed, measured):
    """Equal to the last digit that is printed, give or take one: machines round differently."""
    decimals = len(printed.split(".")[1]) if "." in printed else 0
    return abs(float(printed) - measured) <= 1.01 * 10**-decimals


@pytest.fixture(scope="module", autouse=True)
def threads():
    """These models are not small."""
    with with_all_threads():
        yield


@pytest.fixture(scope="module", params=SHIPPED)
def shipped(request, report_of, data):
    """(model, Report, {n: MSE from n units}) of each shipped model in turn."""
    model, report = report_of(request.param)
    return model, report, dict(sparsity.kept_curve(model, data.test_images, (25, 50)))


def test_results(shipped):
    model, report, curve = shipped
    cells = row(README, "## Results, and what they mean", ROWS[model.name])
    losses, loss_name = cells["train / test loss"].removesuffix(")").split(" (")
    train, test = losses.split(" / ")
    assert agrees(train, model.history.train_loss[-1]) and agrees(test, report.loss) and loss_name == model.loss_name
    assert agrees(cells["test MSE"], report.mse) and agrees(cells["active"], report.active)
    for n in (25, 50):
        assert agrees(cells[f"MSE from {n} units"], report.kept[n])
        assert curve.get(n, report.mse) == pytest.approx(report.kept[n], rel=1e-4)
    assert agrees(cells["locality"], report.locality)
    assert int(cells["dead"]) == report.dead
    assert abs(int(cells["idle"]) - report.idle) <= 1  # one may lie at the threshold


def test_the_history_ends_with_the_reports_loss(shipped, data):
    """One figure under one name: computed in the same precision they are the same."""
    model, report, _ = shipped
    precision, last = model.made_by["precision"], model.history.test_loss[-1]
    assert common.mean_loss(model, data.test_images, precision) == pytest.approx(last, rel=2e-3)
    assert common.mean_loss(model, data.test_images) == pytest.approx(report.loss, rel=1e-5)
    assert agrees(f"{last:.4f}", report.loss)


def test_the_code_is_sparse_in_truth(shipped):
    """What this project promises of a shipped model, whatever the README says."""
    model, report, curve = shipped
    assert report.dead == 0 and report.idle <= (80 if model.name == "sparse_ksparse_k100" else 2)
    if model.method == "sparse_l1":
        assert report.loss <= 0.0671 and model.history.train_loss[-1] < 0.0809 and report.active <= 113
        assert curve[25] <= 0.0068 and curve[50] <= 0.0029 and report.locality >= 0.80 and report.idle == 0
    elif model.method == "sparse_kl":
        assert report.loss <= 0.0698 and model.history.train_loss[-1] < 0.0862 and 28 <= report.active <= 46
        assert curve[25] <= 0.0111 and curve[50] <= 0.00445 and report.locality >= 0.72 and report.idle == 0
        assert abs(report.mean_code - 0.08) <= 0.01
    else:
        assert report.mse <= {5: 0.0162, 10: 0.01135, 25: 0.0057, 50: 0.0030, 100: 0.0010}[model.k]


def test_shipped_models_are_what_the_scripts_train(shipped):
    model, _, _ = shipped
    given = {"k": model.k} if model.method == "sparse_ksparse" else {}
    assert model.config == {**METHODS[model.method].defaults, **given}


@pytest.mark.parametrize("name", ["sparse_l1", "sparse_kl", "sparse_ksparse_k25"])
def test_what_a_script_says_it_attains(name, report_of):
    model, report = report_of(name)
    text = " ".join(sys.modules[type(model).__module__].__doc__.split())
    found = re.search(
        r"five seeds\): test (?:BCE|MSE) ([\d.]+)(?: \(uncut ([\d.]+)\))?(?:, MSE ([\d.]+) from 25 units an image)?, "
        r"probe ([\d.]+ ± [\d.]+ %)",
        text,
    )
    loss, uncut, kept, error = found.groups()
    assert agrees(loss, report.loss if uncut is None else report.mse)
    assert uncut is None or agrees(uncut, report.loss)
    assert kept is None or agrees(kept, report.kept[25])
    assert row(STUDIES, "## Luck", ROWS[name])["linear probe"] == error


def test_more_units_reconstruct_better(report_of):
    errors = [report_of(f"sparse_ksparse_k{k}")[1].mse for k in (5, 10, 25, 50, 100)]
    assert errors == sorted(errors, reverse=True)


def test_floor(data):
    assert f"{common.pixel_entropy(data.test_images):.5f}" in README


def test_probe_of_the_best_model(data):
    """The one figure of the probe that is quick enough to fit again here: k = 25, with the choices that were made."""
    cells = row(STUDIES, "## Is the code useful?", ROWS["sparse_ksparse_k25"])
    model = common.load_pretrained("sparse_ksparse_k25")
    encoder = probe.encoders_of(model)[probe.TIMES_K.index(int(cells["units kept, times k"]))]
    error = probe.test_error(encoder, data, float(cells["L2"]))
    assert abs(error - float(cells["test error"].rstrip(" %"))) <= 0.05


def test_results_beside_theirs(data, report_of):
    """Ours, on the same images as theirs."""
    heading, first = "## Beside the documents' own", data.test_images[:1200]
    thousand = data.test_images[:1000]
    rows = {
        "published train loss": lambda model, report: model.history.train_loss[-1],
        "test BCE, first 1,200 images (published 0.07757 and 0.0771)": lambda model, *_: (
            common.evaluate(model, first).loss
        ),
        "test BCE, all 10,000": lambda model, report: report.loss,
        "test MSE, all 10,000": lambda model, report: report.mse,
        "MSE from 25 units, first 1,000 images": lambda model, *_: common.evaluate(model, thousand).kept[25],
        "active units": lambda model, report: report.active,
    }
    for name in ("sparse_l1", "sparse_kl"):
        model, report = report_of(name)
        for first_cell, measure in rows.items():
            cells = row(STUDIES, heading, first_cell)
            assert agrees(cells[f"{ROWS[name]}, here"], measure(model, report)), first_cell
    for k in (5, 10, 25):
        _, report = report_of(f"sparse_ksparse_k{k}")
        assert agrees(row(STUDIES, heading, "here, no unit dead")[f"k = {k}"], report.mse) and report.dead == 0


def test_plain_and_ours(report_of):
    """Of the table: ours, and theirs as they stand in the studies."""
    heading = "## What is faithful, and what is not"
    for name in ("sparse_l1", "sparse_kl", "sparse_ksparse_k5", "sparse_ksparse_k25"):
        model, report = report_of(name)
        line = next(line for line in README.split(heading)[1].split("\n") if line.startswith(f"| {ROWS[name]} |"))
        _, theirs, _, here, their_dead, _, dead, _, locality = (cell.strip() for cell in line.strip("|").split("|"))
        assert agrees(here, report.mse) and agrees(locality, report.locality)
        assert dead == f"{report.dead} of {model.hidden}"
        beside = STUDIES.split("## Beside the documents' own")[1].split("\n## ")[0]
        assert theirs in beside and their_dead in beside


def test_the_first_screen(report_of):
    for name in ("sparse_l1", "sparse_kl", "sparse_ksparse_k25"):
        model, report = report_of(name)
        cells = row(README, "## See it", ROWS[name])
        assert agrees(cells["test MSE"], report.mse) and int(cells["dead units"]) == report.dead
        assert agrees(cells["MSE from 25 units"], report.kept[25])
        active, units = cells["active units"].split(" of ")
        assert agrees(active, report.active) and int(units) == model.config["hidden"]


def test_what_a_script_prints(report_of):
    """The lines of L1 stand there; their last digits are those of this machine."""
    model, report = report_of("sparse_l1")
    numbers = r"\d+\.\d+"
    shown = README.split("says what they are worth:\n\n```\n")[1].split("\n```")[0]
    printed = common.report_text(model, report, ROOT / "checkpoints" / "sparse_l1.pt")
    assert re.sub(numbers, "", shown) == re.sub(numbers, "", printed).replace(f"{ROOT}/", "")
    assert all(map(agrees, re.findall(numbers, shown), map(float, re.findall(numbers, printed))))


@pytest.mark.parametrize("file", ["README.md", "tests/studies/README.md"])
def test_every_file_that_is_named_is_there(file):
    path = ROOT / file
    for target in re.findall(r"\]\(([^)#]+)\)", path.read_text()):
        assert target.startswith("https://") or (path.parent / target).exists(), target
    for program in re.findall(r"`(?:tests/studies/)?(\w+\.py)\b", path.read_text()):
        is_in_the_text = program == "sparse_NAME.py"
        assert is_in_the_text or any((folder / program).exists() for folder in (ROOT, ROOT / "tests" / "studies")), (
            program
        )
