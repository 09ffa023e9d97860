"""The command line names the model: what is loaded, trained, written and refused.

Each command here runs in this process, in a folder of its own, on few images, and draws one empty picture.
"""

import re
import shutil
import subprocess

import pytest
from conftest import METHODS, ROOT, contents
from matplotlib.figure import Figure
from methods import SHIPPED

import common

TINY = "--hidden 4 --epochs 1"
NAME = "sparse_l1_hidden4_epochs1"


@pytest.fixture
def here(tmp_path, monkeypatch):
    """The folder that stands for the project."""
    monkeypatch.setattr(common, "ROOT", tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def command(here, few, call, monkeypatch):
    """command("sparse_l1 --epochs 3"): how it Ended."""
    monkeypatch.setattr(common, "draw_pictures", lambda *arguments: {"empty": Figure()})

    def command(line):
        script, *words = line.split()
        return call(script, *words)

    return command


@pytest.fixture
def done(command):
    """done("sparse_l1 --epochs 3"): what it says when all goes well."""

    def done(line):
        result = command(line)
        assert result.status == 0 and result.err == "", result
        return result.out

    return done


@pytest.fixture
def refuses(command, here):
    """refuses(line, *patterns): it ends in one line with these, before any training, and leaves every file as it is."""

    def refuses(line, *patterns, status=1):
        before = contents(here)
        result = command(line)
        assert result.status == status and result.err.startswith(f"{line.split()[0]}.py: error: "), result
        assert result.err.count("\n") == 1 and "epoch 1/" not in result.out
        for pattern in patterns:
            assert re.search(pattern, result.err), result.err
        assert contents(here) == before

    return refuses


# One command, one model, one file


def names(line):
    """The names of the models that a command asks for."""
    script, *words = line.split()
    return [model.name for model in common.parse_arguments(METHODS[script].cls, words)[1]]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("sparse_l1", "sparse_l1"),
        ("sparse_l1 --lambda 1e-3", "sparse_l1_l1-weight0.001"),
        ("sparse_ksparse --epochs 3 --k 15", "sparse_ksparse_k15_epochs3"),
        ("sparse_ksparse", "sparse_ksparse_k25"),
        ("sparse_kl --seed 0 --train --device cpu --show --output-dir x --data-dir y", "sparse_kl"),
        ("sparse_kl --rho 0.03 0.2", "sparse_kl_rho0.03 sparse_kl_rho0.2"),
        ("sparse_ksparse --plain --k 5 10", "sparse_ksparse_plain_k5 sparse_ksparse_plain_k10"),
        ("sparse_kl --plain --tie 2e-7 --epochs 3 --beta2 0.999", "sparse_kl_plain_epochs3_tie2e-07"),
    ],
)
def test_names(line, expected):
    assert names(line) == expected.split()


def test_options_that_equal_their_defaults_are_not_in_the_name(method):
    given = [f"--{key.replace('_', '-')} {value}" for key, value in method.defaults.items() if key != "plain"]
    assert names(f"{method.name} {' '.join(given)}") == names(method.name)


def test_each_hyperparameter_is_in_the_name(method):
    changed = [{**method.defaults, key: value} for key in method.defaults if key != "plain" for value in (11, 12)]
    assert len({common.model_name(method.cls, config) for config in changed}) == len(changed)


def test_trained_once_then_loaded(done, here):
    first = done(f"sparse_l1 {TINY}")
    assert f"There are no weights at checkpoints/{NAME}.pt: training them." in first and "epoch 1/1" in first
    before = contents(here)
    assert sorted(before) == [f"checkpoints/{NAME}.pt", f"outputs/{NAME}_empty.png"]
    second = done(f"sparse_l1 {TINY}")
    assert "epoch 1/1" not in second and first.endswith(second) and contents(here) == before
    third = done(f"sparse_l1 {TINY} --train")
    assert "no weights" not in third and "epoch 1/1" in third and contents(here) == before  # the same seed


@pytest.mark.parametrize("option", ["--plain", "--seed 1", "--lambda 1e-3"])
def test_another_value_is_a_model_of_its_own_beside_the_first(done, here, option):
    done(f"sparse_l1 {TINY}")
    before = contents(here)
    assert "epoch 1/1" in done(f"sparse_l1 {TINY} {option}")
    after = contents(here)
    assert {key: after[key] for key in before} == before and len(after) == 4


def test_several_values_make_a_model_each_and_a_comparison(done, here):
    """The table is printed after all trainings, with no report of each model."""
    out = done(f"sparse_ksparse --k 3 1 {TINY}")
    models = [f"sparse_ksparse_k{k}_hidden4_epochs1" for k in (3, 1)]
    assert sorted(contents(here)) == sorted(
        [f"checkpoints/{name}.pt" for name in models]
        + [f"outputs/{name}_empty.png" for name in models]
        + ["outputs/sparse_ksparse_k3_1_hidden4_epochs1_comparison.png"]
    )
    heading, *rows = out.splitlines()[-7:]
    assert heading.split()[:3] == ["k", "test", "loss"] and [row.split()[0] for row in rows[:2]] == ["3", "1"]
    assert rows[2:] == [
        "comparison    outputs/sparse_ksparse_k3_1_hidden4_epochs1_comparison.png",
        *(f"pictures      outputs/{name}_{{empty}}.png" for name in models),
        f"page          python explore/write.py {' '.join(models)}",
    ]
    assert "active units" not in out
    cls = METHODS["sparse_ksparse"].cls
    assert [common.load_checkpoint(common.checkpoint_path(name), cls).k for name in models] == [3, 1]
    assert "epoch 1/1" not in done(f"sparse_ksparse --k 3 1 {TINY}")


def test_weights_that_disagree_with_their_name_are_not_used(done, refuses, here):
    done(f"sparse_l1 {TINY}")
    shutil.copy(here / "checkpoints" / f"{NAME}.pt", here / "checkpoints" / "sparse_l1.pt")
    refuses("sparse_l1", r"checkpoints/sparse_l1\.pt was trained with hidden = 4, not 512: .*--train")


# --checkpoint


def test_checkpoint_only_loads_and_draws_beside_it(done, here):
    done(f"sparse_l1 {TINY} --train --checkpoint mine/thesis.pt")
    before = contents(here)
    assert sorted(before) == ["mine/thesis.pt", "mine/thesis_outputs/thesis_empty.png"]
    for options in ("", TINY, "--lambda 4e-5 --seed 0"):
        out = done(f"sparse_l1 --checkpoint mine/thesis.pt {options}")
        assert "epoch 1/1" not in out and "\ntrained with  hidden 4, epochs 1\n" in out
        assert "\nweights       mine/thesis.pt\n" in out
        assert out.endswith("\npage          python explore/write.py mine/thesis.pt\n")
    assert contents(here) == before


def test_a_missing_checkpoint_is_not_trained(refuses):
    refuses(f"sparse_l1 {TINY} --checkpoint thesis.pt", "there are no weights at thesis.pt: .*--train")


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("sparse_l1 --checkpoint l1.pt --epochs 3", "l1.pt was trained with epochs = 1, not 3: leave that option out"),
        ("sparse_l1 --checkpoint l1.pt --lambda 1", "l1.pt was trained with l1_weight = 4e-05, not 1.0: leave"),
        ("sparse_l1 --checkpoint l1.pt --plain", "l1.pt was trained with plain = False, not True: leave"),
        ("sparse_ksparse --checkpoint ksparse.pt --k 3", "ksparse.pt was trained with k = 2, not 3: leave"),
        ("sparse_l1 --checkpoint l1.pt --precision bfloat16", "trained with precision = float32, not bfloat16: leave"),
        (
            "sparse_kl --checkpoint l1.pt",
            "l1.pt cannot be used .they are of 'sparse_l1', not of sparse_kl.; name another file",
        ),
    ],
)
def test_options_that_contradict_a_checkpoint(refuses, room, line, words):
    refuses(line, words)


def test_train_replaces_only_weights_of_the_same_method_elsewhere(done, refuses, room):
    (room / "thesis.txt").write_text("My thesis")
    (room / "half.pt").write_bytes((room / "l1.pt").read_bytes()[:3000])
    for name in ("thesis.txt", "half.pt", "kl.pt"):
        refuses(f"sparse_l1 --train {TINY} --checkpoint {name}", f"{name} .*--train replaces only weights of sparse_l1")
    done(f"sparse_l1 --train {TINY} --seed 1 --checkpoint l1.pt")
    assert "seed 1" in done("sparse_l1 --checkpoint l1.pt")


@pytest.mark.parametrize("content", ["damaged", "of another method"])
def test_train_replaces_whatever_has_its_own_name(done, refuses, room, content):
    path = room / "checkpoints" / f"{NAME}.pt"
    path.parent.mkdir()
    path.write_bytes(b"not weights" if content == "damaged" else (room / "kl.pt").read_bytes())
    refuses(f"sparse_l1 {TINY}", f"{NAME}.pt cannot be used .*--train")
    done(f"sparse_l1 {TINY} --train")
    assert "epoch 1/1" not in done(f"sparse_l1 {TINY}")


def test_a_training_that_fails_leaves_the_weights_that_are_there(refuses, room):
    options = "--train --checkpoint kl.pt --hidden 32 --epochs 1 --batch-size 100 --lr 1e6"
    refuses(f"sparse_kl {options}", "training diverged in epoch 1 of 1: .*; no weights were written; try a smaller lr")


# What is wrong is said in one line

WRONG = [
    ("sparse_ksparse --k 2.5", "--k: invalid int value: '2.5'"),
    ("sparse_l1 --epochs 1e3", "--epochs: invalid int value: '1e3'"),
    ("sparse_kl --beta x", "--beta: invalid float value: 'x'"),
    ("sparse_kl --beta=-1", "beta has to be at least 0, not -1"),
    ("sparse_l1 --precision half", "precision has to be auto or float32 or bfloat16, not 'half'"),
    ("sparse_ksparse --k", "--k: expected at least one argument"),
    ("sparse_ksparse --k 5 10 5", "--k takes several values if they differ"),
    ("sparse_l1 --lambda 1e-3 1e-4 --checkpoint x.pt", "--l1-weight takes several .* without --checkpoint"),
    ("sparse_kl --rho 0.1 2", "rho has to be above 0 and below 1, not 2"),
    ("sparse_ksparse --k 5 --hidden 4", "k has to be a whole number from 1 to hidden, 4, not 5"),
    ("sparse_l1 --rho 0.1", "unrecognized arguments: --rho 0.1"),
    ("sparse_l1 --beta 1", "unrecognized arguments: --beta 1"),
    ("sparse_l1 5", "unrecognized arguments: 5"),
]


@pytest.mark.parametrize(("line", "pattern"), WRONG, ids=[line for line, _ in WRONG])
def test_wrong_command_line(refuses, line, pattern):
    refuses(line, pattern, status=2)


def test_no_such_device(refuses):
    refuses(
        f"sparse_l1 {TINY} --device abacus", r"--device abacus cannot be used here \(.+\): take auto, cpu, cuda or mps"
    )


def test_an_error_that_nobody_foresaw_is_a_traceback(command, monkeypatch):
    monkeypatch.setattr(common, "run", lambda cls: {}["nothing"])
    with pytest.raises(KeyError):
        command("sparse_l1")


def test_help_has_every_option_and_its_default_on_two_screens(command, method, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    result = command(f"{method.name} --help")
    text = " ".join(result.out.split("\noptions:\n")[1].split())
    assert result.status == 0 and result.out.count("\n") <= 60
    for key, value in method.defaults.items():
        declared, plain = method.cls.hyperparameters[key], ""
        if declared.plain is not None:
            plain = f", plain: {declared.plain}"
        words = declared.help if key == "plain" else f"{declared.help} (default: {value}{plain}"
        assert f" --{key.replace('_', '-')} " in text and words in text, key
    assert text.count("several values: a model each, compared") == 1
    for flag in ("--train", "--device", "--data-dir", "--checkpoint", "--output-dir", "--show"):
        assert f"{flag} " in text


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="not a git clone")
def test_git_ignores_what_users_train_and_nothing_that_is_shipped():
    mine = ["checkpoints/sparse_l1_seed1.pt", "outputs/mine_features.png", "outputs/sparse_l1_comparison.png"]
    mine += ["explore/own.js", "explore/models/mine.js", "explore/images_FashionMNIST.js", "data/KMNIST/raw/x.gz"]
    files = ["outputs/shipped/sparse_l1_loss.png", "explore/index.html", "explore/write.py", "sparse_l1.py"]
    shipped = [file for name in SHIPPED for file in (f"checkpoints/{name}.pt", f"explore/models/{name}.js")]
    command = ["git", "check-ignore", *mine, *files, *shipped]
    assert subprocess.run(command, cwd=ROOT, capture_output=True, text=True).stdout.split() == mine
