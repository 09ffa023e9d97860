"""The frontier's program, on a tiny setting."""

import frontier
import pytest
import torch

import common
import sparse_ksparse


def test_frontier_draws_its_picture(tmp_path, capsys):
    frontier.main(["--hidden", "8", "--epochs", "1", "--images", "600", "--output", str(tmp_path / "frontier.png")])
    assert (tmp_path / "frontier.png").read_bytes().startswith(b"\x89PNG")
    lines = [line for line in capsys.readouterr().out.split("\n") if "MSE" in line]
    assert len(lines) == 2 + 5 + 4 + 4  # k = 2 and 5, for there are eight units


def test_pca_is_the_best_linear_code(data):
    some = common.Data(data.train_images[:2000], data.train_labels[:2000], data.test_images, data.test_labels)
    points = frontier.pca_curve(some, (1, 10, 100))
    images, train = common.to_float(some.test_images).double(), common.to_float(some.train_images).double()
    mean = train.mean(dim=0)
    basis = torch.linalg.svd(train - mean, full_matrices=False).Vh[:10]
    expected = ((mean + (images - mean) @ basis.T @ basis).clamp(0, 1) - images).square().mean().item()
    assert points[1] == (10, pytest.approx(expected, rel=1e-3))
    assert points[0][1] > points[1][1] > points[2][1]


def test_what_the_active_units_say_alone(small):
    method = sparse_ksparse.METHOD
    model = method.build({**method.defaults, "hidden": 16, "k": 3})
    model.initialise(small.train_images)
    report, alone = frontier.measure(model.eval(), small)
    assert alone == pytest.approx(report.mse, rel=1e-5)  # nothing is hidden below a threshold here
