"""Each method on every accelerator that is there, beside the CPU. Where there is only a CPU, nothing is tested."""

import pytest
import torch

import common

AVAILABLE = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
DEVICES = [device for device, is_available in AVAILABLE.items() if is_available]

pytestmark = pytest.mark.skipif(not DEVICES, reason="only a CPU")


@pytest.fixture(scope="module", params=DEVICES)
def device(request):
    return request.param


@pytest.fixture(scope="module")
def on_device(small, device):
    """The small data there."""
    return common.Data(*(part.to(device) for part in small[:4]), name="MNIST")


def test_a_report_is_that_of_the_cpu(trained, small, on_device, device):
    model = trained
    expected = common.evaluate(model, small.test_images)
    report = common.evaluate(model.to(device), on_device.test_images)
    model.cpu()
    for figure in ("loss", "mse", "active", "locality", "mean_code"):
        assert getattr(report, figure) == pytest.approx(getattr(expected, figure), rel=1e-3), figure
    assert report.kept == pytest.approx(expected.kept, rel=1e-3)
    assert torch.allclose(report.median_code, expected.median_code, atol=1e-3)
    figures = common.draw_pictures(model, report, small)
    for kind, figure in common.draw_pictures(model, expected, small).items():
        assert figures[kind].get_size_inches().tolist() == figure.get_size_inches().tolist()


def test_the_start_is_that_of_the_cpu_bit_for_bit(method, small, on_device, device):
    starts = []
    for place, images in (("cpu", small.train_images), (device, on_device.train_images)):
        model = method.build().to(place)
        with common.own_random_numbers(0, torch.device(place)):
            common.set_start(model, images)
        assert model.mean_image.device.type == torch.device(place).type
        starts.append(model.cpu().state_dict())
    assert all(torch.equal(starts[0][name], starts[1][name]) for name in starts[0])


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_training_is_as_good_as_on_the_cpu(method, trained, on_device, device, precision):
    """The caller's random numbers on this device go on as they were."""
    model = method.build(precision=precision).to(device)
    torch.manual_seed(7)
    expected = torch.rand(3, device=device)
    torch.manual_seed(7)
    history = common.train(model, on_device)
    assert torch.equal(torch.rand(3, device=device), expected)
    for losses, its_losses in zip(history, trained.history, strict=True):
        assert losses == pytest.approx(its_losses, rel=0.1)


def test_no_step_waits_for_the_card(method, on_device, device, monkeypatch):
    if device != "cuda":
        pytest.skip("only CUDA can tell")

    def unsynchronised(function):
        def watched(*arguments):
            torch.cuda.set_sync_debug_mode("error")
            try:
                return function(*arguments)
            finally:
                torch.cuda.set_sync_debug_mode("default")

        return watched

    monkeypatch.setattr(common, "losses_of", unsynchronised(common.losses_of))
    monkeypatch.setattr(common, "add_tie_gradient", unsynchronised(common.add_tie_gradient))
    model = method.build().to(device)
    monkeypatch.setattr(model, "after_step", unsynchronised(model.after_step))
    common.train(model, on_device)
