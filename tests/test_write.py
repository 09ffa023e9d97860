"""What explore/write.py says of a model's units, against its definitions in numpy."""

import numpy as np
import pytest
import torch
import write
from conftest import run

import common


@pytest.mark.parametrize("count", [199, 5])
def test_the_images_that_light_each_unit(trained, small, count):
    code = common.evaluate(trained, small.test_images[:count]).code
    low, examples = trained.active_above, write.examples_of(code, trained.active_above)
    for unit in range(64):
        on = code[:, unit].sort(descending=True).values
        on = on[on > low]
        strongest = [image for image in examples.strongest[unit].tolist() if image >= 0]
        assert len(set(strongest)) == min(12, len(on)) and torch.equal(code[strongest, unit], on[:12])
        assert torch.equal(examples.strongest_code[unit, : len(strongest)], on[:12])
        assert not examples.strongest_code[unit, len(strongest) :].any()
        if len(on) and on[0] > low + 1e-6:
            expected, _ = np.histogram(on.numpy(), bins=20, range=(low, on[0].item()))
            assert np.abs(expected - examples.histogram[unit].numpy()).sum() <= 2  # one on an edge
        assert examples.histogram[unit].sum() == len(on)


def test_shares_of_digits(trained, small):
    """Those of the digits that there are."""
    chosen = (small.test_labels != 4) & (small.test_labels != 7)
    images, labels = small.test_images[chosen], small.test_labels[chosen]
    code = common.evaluate(trained, images).code
    shares, missing = write.shares_of_digits(code, labels)
    present = [digit for digit in range(10) if digit not in (4, 7)]
    means = torch.stack([code[labels == digit].mean(dim=0) for digit in present])
    lit = means.sum(dim=0) > 0
    assert missing == [4, 7] and not shares[[4, 7]].any() and not shares[:, ~lit].any()
    assert torch.allclose(shares[present][:, lit], means[:, lit] / means[:, lit].sum(dim=0), atol=1e-6)


def test_a_command_puts_a_model_into_the_page(project, call, monkeypatch):
    """A run tells the command, the command the address, and the next run the address, too, until it is trained anew."""
    monkeypatch.setattr(common, "ROOT", project)
    options = ["--dataset", "few", "--hidden", 8, "--epochs", 1]
    name = "sparse_l1_hidden8_epochs1_datasetfew"
    assert call("sparse_l1", *options).out.endswith(f"explore/write.py {name}\n")
    result = run(project / "explore" / "write.py", name)
    assert result.status == 0, result.err
    assert result.out == f"{(project / 'explore' / 'index.html').as_uri()}#{name}\n"
    assert (project / "explore" / "own.js").read_text() == f'explore(["{name}"]);\n'
    assert (project / "explore" / "images_few.js").is_file()
    assert call("sparse_l1", *options).out.endswith(result.out)
    assert call("sparse_l1", *options, "--train").out.endswith(f"explore/write.py {name}\n")


def test_what_cannot_be_put_there_is_told_in_a_line(call):
    result = call(write.__file__, "sparse_nothing")
    assert result.status == 1 and result.err.startswith("write.py: error: there are no weights at ")
    assert result.err.count("\n") == 1
