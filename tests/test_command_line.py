"""The command line names the model: what is loaded, trained, written and refused.

Each command here runs in this process, in a folder of its own, on few images, and draws one empty picture.
"""

import csv
import re
import shutil
import subprocess

import pytest
import torch
from conftest import METHODS, ROOT, contents
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.figure import Figure
from methods import SHIPPED

import common

TINY = "--hidden 4 --epochs 1"


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
    """refuses(line, *patterns): it ends in one line with these, and leaves every file as it is."""

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


def option(key):
    return "--" + key.replace("_", "-")


def names(line):
    """The names of the models that a command asks for."""
    script, *words = line.split()
    return [model.name for model in common.parse_arguments(METHODS[script].cls, words)[1]]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("sparse_l1", "sparse_l1"),
        ("sparse_l1 --l1-weight 1e-3", "sparse_l1_l1-weight0.001"),
        ("sparse_ksparse --k 15 --epochs 3", "sparse_ksparse_k15_epochs3"),
        ("sparse_ksparse --epochs 3 --k 15", "sparse_ksparse_k15_epochs3"),
        ("sparse_ksparse", f"sparse_ksparse_k{METHODS['sparse_ksparse'].defaults['k']}"),
        ("sparse_kl --seed 1", "sparse_kl_seed1"),
        ("sparse_kl --seed 0 --train --device cpu --show --output-dir x --data-dir y", "sparse_kl"),
        ("sparse_l1 --precision float32", "sparse_l1_precisionfloat32"),
        ("sparse_kl --rho 0.03 0.2", "sparse_kl_rho0.03 sparse_kl_rho0.2"),
        ("sparse_kl --rho 0.03 --epochs 20 --rho 0.2", "sparse_kl_rho0.03 sparse_kl_rho0.2"),
        ("sparse_l1 --lambda 1e-3 --l1-weight 2e-3", "sparse_l1_l1-weight0.001 sparse_l1_l1-weight0.002"),
        ("sparse_l1 --plain", "sparse_l1_plain"),
        ("sparse_ksparse --plain --k 5 10", "sparse_ksparse_plain_k5 sparse_ksparse_plain_k10"),
        ("sparse_kl --plain --tie 2e-7 --epochs 3 --beta2 0.999", "sparse_kl_plain_epochs3_tie2e-07"),
        ("sparse_ksparse --k 5 100 --seed 2", "sparse_ksparse_k5_seed2 sparse_ksparse_k100_seed2"),
    ],
)
def test_names(line, expected):
    assert names(line) == expected.split()


def test_options_that_equal_their_defaults_are_not_in_the_name(method):
    line = " ".join(f"{option(key)} {value}" for key, value in method.defaults.items() if key != "plain")
    assert names(f"{method.name} {line}") == names(method.name)


SOME = st.fixed_dictionaries(
    {"k": st.integers(1, 9)},
    optional={
        "epochs": st.integers(1, 30),
        "hidden": st.integers(9, 99),
        "seed": st.integers(0, 2**40),
        "l1_weight": st.floats(0, 1e9),
        "lr": st.floats(1e-30, 1e9),
        "precision": st.sampled_from(["float32", "bfloat16"]),
    },
)


@given(SOME, SOME)
def test_two_models_have_two_names(one, other):
    cls, defaults = METHODS["sparse_ksparse"].cls, METHODS["sparse_ksparse"].defaults
    same = {**defaults, **one} == {**defaults, **other}
    assert (common.model_name(cls, {**defaults, **one}) == common.model_name(cls, {**defaults, **other})) == same


def test_trained_once_then_loaded(done, here):
    path = here / "checkpoints" / "sparse_l1_hidden4_epochs1.pt"
    first = done(f"sparse_l1 {TINY}")
    assert f"There are no weights at checkpoints/{path.name}" in first and "epoch 1/1" in first
    before = contents(here)
    assert sorted(before) == [f"checkpoints/{path.name}", f"outputs/{path.stem}_empty.png"]
    second = done(f"sparse_l1 {TINY}")
    assert "epoch 1/1" not in second and first.endswith(second) and contents(here) == before
    third = done(f"sparse_l1 {TINY} --train")
    assert "no weights" not in third and "epoch 1/1" in third and contents(here) == before  # the same seed


def test_plain_is_a_model_of_its_own(done, refuses, here, method):
    """With weights beside ours; and what it is not is not taken for it."""
    ours, plain = (f"{method.name} {TINY} {more} --checkpoint x.pt" for more in ("", "--plain"))
    if method.name == "sparse_ksparse":
        ours, plain = f"{ours} --k 2", f"{plain} --k 2"
    done(plain.replace("--checkpoint x.pt", ""))
    (path,) = (here / "checkpoints").iterdir()
    assert path.name.startswith(f"{method.name}_plain_")
    assert "epoch 1/1" not in done(plain.replace("--checkpoint x.pt", ""))
    done(f"{ours} --train")
    refuses(plain, "x.pt was trained with plain = False, not True: leave that option out")


def test_trying_another_value_keeps_both(done, here):
    done(f"sparse_l1 {TINY}")
    before = contents(here)
    done(f"sparse_l1 {TINY} --l1-weight 1e-3")
    done(f"sparse_l1 {TINY} --seed 1")
    after = contents(here)
    assert {key: after[key] for key in before} == before and len(after) == 3 * len(before)
    assert len(set(after.values())) >= 4  # three models, and the empty picture


@pytest.mark.parametrize(
    ("line", "models", "comparison"),
    [
        ("sparse_ksparse --k 1 3", ["sparse_ksparse_k1", "sparse_ksparse_k3"], "sparse_ksparse_k1_3"),
        (
            "sparse_l1 --l1-weight 1e-3 1",
            ["sparse_l1_l1-weight0.001", "sparse_l1_l1-weight1"],
            "sparse_l1_l1-weight0.001_1",
        ),
        (
            "sparse_kl --rho 0.03 0.2 0.5",
            [f"sparse_kl_rho{rho}" for rho in (0.03, 0.2, 0.5)],
            "sparse_kl_rho0.03_0.2_0.5",
        ),
    ],
)
def test_several_values_make_a_model_each_and_a_comparison(done, here, line, models, comparison):
    out = done(f"{line} {TINY}")
    suffix = "_hidden4_epochs1"
    endings = ["_comparison.csv", "_comparison.png", "_comparison_graph.png"][: len(models)]  # the graph from three on
    assert sorted(contents(here)) == sorted(
        [
            *(f"outputs/{comparison}{suffix}{ending}" for ending in endings),
            *(f"checkpoints/{model}{suffix}.pt" for model in models),
            *(f"outputs/{model}{suffix}_empty.png" for model in models),
        ]
    )
    printed = re.search(r"\ncomparison\n((?:  .*\n)+)", out)[1].splitlines()
    table = list(csv.reader((here / f"outputs/{comparison}{suffix}_comparison.csv").open()))
    assert table[0][1:] == ["test loss", "test MSE", "MSE from 25", "MSE from 50", "active", "dead", "idle"]
    assert re.split(" {2,}", printed[0].strip()) == table[0]
    for shown, row, value in zip(printed[1:], table[1:], line.split()[2:], strict=False):
        assert float(shown.split()[0]) == float(row[0]) == float(value)
        assert [float(number) for number in shown.split()] == pytest.approx([*map(float, row)], abs=0.06)
        for loss in (1, 2):
            assert f"{float(row[loss]):.5f}" in out  # the report's
    for name, value in zip(models, line.split()[2:], strict=True):
        model = common.load_pretrained(name + suffix)
        assert model.config[common.compared_key(METHODS[line.split()[0]].cls)] == float(value)


def test_weights_that_disagree_with_their_name_are_not_used(done, refuses, here):
    done(f"sparse_l1 {TINY}")
    shutil.copy(here / "checkpoints" / "sparse_l1_hidden4_epochs1.pt", here / "checkpoints" / "sparse_l1.pt")
    epochs = METHODS["sparse_l1"].defaults["epochs"]
    refuses("sparse_l1", rf"sparse_l1\.pt was trained with .*(hidden\W+4, not|epochs\W+1, not {epochs})", "--train")
    done(f"sparse_l1 --train {TINY} --seed 1")  # and another model does not mind


def test_precision_counts_only_when_given(done):
    first = done(f"sparse_l1 {TINY} --train --precision bfloat16 --checkpoint a.pt")
    assert "precision bfloat16" in first
    assert done("sparse_l1 --checkpoint a.pt").endswith(first.split("\n", 2)[2])


# --checkpoint


def test_checkpoint_only_loads(done, here):
    done(f"sparse_l1 {TINY} --train --checkpoint mine/thesis.pt")
    assert sorted(contents(here)) == ["mine/thesis.pt", "mine/thesis_outputs/thesis_empty.png"]
    before = contents(here)
    for options in ("", TINY, f"--l1-weight {METHODS['sparse_l1'].defaults['l1_weight']}", "--seed 0"):
        assert "hidden 4, epochs 1" in done(f"sparse_l1 --checkpoint mine/thesis.pt {options}")
    assert contents(here) == before


def test_two_files_of_one_name_have_their_pictures_apart(done, here):
    for folder in ("a", "b"):
        done(f"sparse_l1 {TINY} --train --checkpoint {folder}/best.pt")
        assert (here / folder / "best_outputs" / "best_empty.png").is_file()
    done("sparse_l1 --hidden 4 --epochs 1")
    done("sparse_l1 --checkpoint checkpoints/sparse_l1_hidden4_epochs1.pt")
    pictures = [path.name for path in (here / "outputs").glob("*.png")]
    assert pictures == ["sparse_l1_hidden4_epochs1_empty.png"]
    assert not (here / "checkpoints" / "outputs").exists()


def test_a_missing_checkpoint_is_not_trained(refuses):
    refuses("sparse_l1 --checkpoint thesis.pt", "there are no weights at thesis.pt", "--train")
    refuses(f"sparse_l1 {TINY} --checkpoint thesis.pt", "there are no weights at thesis.pt")


def test_options_that_disagree_with_a_checkpoint(refuses, room):
    refuses("sparse_l1 --checkpoint l1.pt --epochs 3", r"l1.pt was trained with .*epochs\W+1, not 3", "leave")
    refuses("sparse_l1 --checkpoint l1.pt --l1-weight 1", r"l1.pt was trained with .*l1.weight\W+\d\S+, not 1\.0")
    refuses("sparse_ksparse --checkpoint ksparse.pt --k 3", r"ksparse.pt was trained with .*k\W+2, not 3")
    refuses("sparse_l1 --checkpoint l1.pt --encoder-speed 1", r"l1.pt was trained with encoder_speed = 14.0, not 1\.0")
    refuses("sparse_l1 --checkpoint l1.pt --precision bfloat16", r"trained with .*precision\W+float32, not bfloat16")


def test_train_replaces_a_checkpoint_of_the_same_method_only(done, refuses, room):
    (room / "thesis.txt").write_text("My thesis")
    (room / "half.pt").write_bytes((room / "l1.pt").read_bytes()[:3000])
    (room / "empty.pt").touch()
    torch.save(METHODS["sparse_l1"].build().state_dict(), room / "plain.pt")
    for name in ("thesis.txt", "half.pt", "empty.pt", "kl.pt", "plain.pt"):
        refuses(
            f"sparse_l1 --train {TINY} --checkpoint {name}", name, "--train does not replace it: move it away first"
        )
    before = (room / "l1.pt").read_bytes()
    done(f"sparse_l1 --train {TINY} --seed 1 --checkpoint l1.pt")
    assert (room / "l1.pt").read_bytes() != before
    assert "seed 1" in done("sparse_l1 --checkpoint l1.pt")


def test_a_damaged_file_under_our_name_is_replaced_by_train_alone(done, refuses, room):
    path = room / "checkpoints" / "sparse_l1_hidden4_epochs1.pt"
    path.parent.mkdir()
    path.write_bytes(b"not weights")
    refuses(f"sparse_l1 {TINY}", f"{path.name} is not a good checkpoint")
    assert "is not a good checkpoint" in done(f"sparse_l1 {TINY} --train")
    done(f"sparse_l1 {TINY}")
    torch.save(METHODS["sparse_l1"].build().state_dict(), room / "plain.pt")
    for others in ("kl.pt", "plain.pt"):  # another method's weights, or a state_dict, are somebody's work
        shutil.copy(room / others, path)
        refuses(f"sparse_l1 {TINY} --train", "--train does not replace it: move it away first")


def test_weights_of_another_method(refuses, room):
    refuses("sparse_kl --checkpoint l1.pt", "l1.pt holds weights of 'sparse_l1', not of sparse_kl")


# What is wrong is said in one line

WRONG = [
    ("sparse_ksparse --k 2.5", "--k: invalid int value: '2.5'"),
    ("sparse_ksparse --k 5,25", "--k: invalid int value: '5,25'"),
    ("sparse_l1 --epochs 1e3", "--epochs: invalid int value: '1e3'"),
    ("sparse_kl --beta x", "--beta: invalid float value: 'x'"),
    ("sparse_l1 --precision half", "precision has to be auto or float32 or bfloat16, not 'half'"),
    ("sparse_ksparse --k", "--k: expected at least one argument"),
    ("sparse_ksparse --k 5 10 5", "same value twice for k"),
    ("sparse_l1 --lambda 0.001 1e-3", "same value twice for l1_weight"),
    ("sparse_ksparse --k 5 10 --checkpoint x.pt", "takes one model"),
    ("sparse_kl --rho 0.1 2", "rho has to be above 0 and below 1, not 2"),
    ("sparse_ksparse --k 5 --hidden 4", "k has to be a whole number from 1 to hidden, 4, not 5"),
    ("sparse_l1 --epoch 3", "unrecognized arguments: --epoch 3"),
    ("sparse_l1 --l1_weight 1", "unrecognized arguments: --l1_weight 1"),
    ("sparse_l1 5", "unrecognized arguments: 5"),
    ("sparse_l1 --lr 1e-3 --epochs 3 --lr 1e-4", "--lr is given twice, and takes one value"),
    ("sparse_kl --checkpoint a.pt --checkpoint b.pt", "--checkpoint is given twice"),
    ("sparse_kl --data-dir a --data-dir b", "--data-dir is given twice"),
    ("sparse_l1 --lambda -1e-4", "l1_weight has to be at least 0, not -0.0001"),
    ("sparse_kl --rho 0.1 -.5E-2", "rho has to be above 0 and below 1, not -0.005"),
    ("sparse_l1 --epochs -1e4", "--epochs: invalid int value"),
]


@pytest.mark.parametrize(("line", "pattern"), WRONG, ids=[line for line, _ in WRONG])
def test_wrong_command_line(refuses, line, pattern):
    refuses(line, pattern, status=2)


@pytest.mark.parametrize("device", ["abacus", "cuda:99", "cpus", "meta"])
def test_no_such_device(refuses, device):
    refuses(f"sparse_l1 {TINY} --device={device}", rf"--device {device} cannot be used here \(.+\): take auto, cpu")


def test_auto_goes_on_without_a_card_that_cannot_be_used(capsys, monkeypatch):
    def broken(name):
        raise RuntimeError("CUDA error: no kernel image is available\nand many more lines")

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(common, "usable_device", broken)
    assert common.pick_device("auto") == torch.device("cpu")
    out = capsys.readouterr().out
    assert "cuda is there and cannot be used (CUDA error: no kernel image is available): going on with the CPU." in out


@pytest.mark.parametrize(
    ("options", "flag"), [("--checkpoint file/x.pt --train", "--checkpoint"), ("--output-dir file/x", "--output-dir")]
)
def test_a_file_where_a_folder_is_needed(refuses, here, options, flag):
    (here / "file").write_text("mine")
    refuses(f"sparse_l1 {TINY} {options}", "cannot write", "Not a directory|has to be a folder", flag)


def test_the_form_of_the_pictures_can_be_chosen(done, refuses, here):
    done(f"sparse_ksparse {TINY} --k 1 2 3 --format svg")
    assert {path.suffix for path in (here / "outputs").iterdir() if path.is_file()} == {".svg", ".csv"}
    refuses("sparse_l1 --format pdf --show", "--show opens pictures of --format png, not pdf", status=2)
    refuses("sparse_l1 --format bmp", "invalid choice: 'bmp'", status=2)


def test_help_names_every_option_and_its_default(command, method):
    result = command(f"{method.name} --help")
    assert result.status == 0
    described = {}
    for line in result.out.split("\noptions:\n")[1].splitlines():
        if line.startswith("  -"):
            described[line.split()[0]] = line
        elif line.startswith("    "):
            described[[*described][-1]] += " " + line.strip()
    for key, value in method.defaults.items():
        declared = method.cls.hyperparameters[key]
        if key != "plain":
            plain = f", plain: {declared.plain}" if declared.plain is not None else ""
            assert f"{declared.help}; {declared.allowed}" in described[option(key)]
            assert f"(default: {value}{plain})" in described[option(key)]
    assert "with several values it trains a model for each" in described[option(common.compared_key(method.cls))]
    for flag in ("--train", "--device", "--data-dir", "--checkpoint", "--output-dir", "--show"):
        assert flag in described


@pytest.mark.parametrize(
    ("error", "reported"),
    [
        (lambda: torch.empty(2**60), True),
        (lambda: bytearray(2**60), True),
        (lambda: (_ for _ in ()).throw(torch.OutOfMemoryError("CUDA out of memory.")), True),
        (lambda: (_ for _ in ()).throw(RuntimeError("MPS backend out of memory (MPS allocated: 9 GB)")), True),
        (lambda: (_ for _ in ()).throw(RuntimeError("CUDA error: an illegal memory access was encountered")), False),
        (lambda: (_ for _ in ()).throw(RuntimeError("Expected a contiguous memory format")), False),
    ],
)
def test_only_too_little_memory_is_reported_as_such(command, refuses, monkeypatch, error, reported):
    monkeypatch.setattr(common, "run", lambda *arguments: error())
    if reported:
        refuses("sparse_l1", "not enough memory", "--hidden")
    else:
        with pytest.raises(RuntimeError, match="memory"):  # with its traceback
            command("sparse_l1")


@pytest.mark.parametrize("was_flushed", [False, True])
def test_the_process_has_its_denormal_numbers_back(command, monkeypatch, was_flushed):
    def is_flushed():
        return (torch.tensor(1e-39) / 2).item() == 0

    during = []
    monkeypatch.setattr(common, "run", lambda *arguments: during.append(is_flushed()))
    torch.set_flush_denormal(was_flushed)
    command("sparse_l1")
    assert during == [True] and is_flushed() == was_flushed
    torch.set_flush_denormal(False)


# A training that fails


@pytest.mark.parametrize("options", ["--epochs 1 --batch-size 600 --lr 1e30", "--epochs 5 --batch-size 100 --lr 1e6"])
def test_divergence_leaves_the_weights_that_are_there(refuses, room, method, options):
    name = method.name.removeprefix("sparse_")
    refuses(
        f"{method.name} --train --hidden 32 {options} --checkpoint {name}.pt",
        r"training diverged in epoch \d of \d: .*a smaller lr",
    )


# Git


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="not a git clone")
def test_git_ignores_what_users_train_and_nothing_that_is_shipped():
    def ignored(path):
        return subprocess.run(["git", "check-ignore", "-q", path], cwd=ROOT).returncode == 0

    for name in ("sparse_l1", "sparse_kl_seed1", "sparse_ksparse_k15", "mine"):
        for file in (f"{name}_features.png", f"{name}_comparison.png"):
            assert ignored(f"outputs/{file}") and not ignored(f"outputs/shipped/{file}")
    for file in ("own.js", "models/mine.js", "images_FashionMNIST.js"):
        assert ignored(f"explore/{file}")
    assert not ignored("explore/index.html") and not ignored("explore/write.py")
    assert ignored("checkpoints/sparse_l1_seed1.pt") and not ignored("sparse_l1.py")
    for name in SHIPPED:
        assert not ignored(f"checkpoints/{name}.pt") and not ignored(f"explore/models/{name}.js")
