"""MNIST and its minibatches."""

import torch

import common


def test_all_of_mnist(data):
    assert [tuple(part.shape) for part in data] == [(60_000, 784), (60_000,), (10_000, 784), (10_000,)]
    assert data.train_labels[:10].tolist() == [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]
    assert data.test_labels[:10].tolist() == [7, 2, 1, 0, 4, 1, 4, 9, 5, 9]
    assert common.to_float(data.train_images).mean().item() == torch.tensor(0.1306604762738).item()


def test_batches_are_floats_between_0_and_1(data):
    batch = next(iter(common.Batches(data.test_images, 100)))
    assert batch.shape == (100, 784) and batch.dtype == torch.float32
    assert batch.min() == 0 and batch.max() == 1


def test_an_epoch_holds_every_image_once(small):
    batches = common.Batches(small.train_images, 128, seed=3)
    sizes = [len(batch) for batch in batches]
    assert sizes == [128] * 4 + [88] and len(batches) == 5
    seen = torch.cat(list(batches)).mul(255).round().byte()
    assert sorted(map(bytes, seen.numpy())) == sorted(map(bytes, small.train_images.numpy()))


def test_orders_differ_between_epochs_and_repeat_with_the_seed(small):
    one, two = (common.Batches(small.train_images, 600, seed=3) for _ in range(2))
    first, second = next(iter(one)), next(iter(one))
    assert not torch.equal(first, second)
    assert torch.equal(first, next(iter(two))) and torch.equal(second, next(iter(two)))


def test_without_a_seed_the_order_stays(small):
    assert torch.equal(torch.cat(list(common.Batches(small.test_images, 60))), common.to_float(small.test_images))


def test_the_floor_is_the_entropy_of_the_pixels(data):
    x = common.to_float(data.test_images[:500]).double()
    by_definition = torch.nn.functional.binary_cross_entropy(x, x).item()
    assert abs(common.pixel_entropy(data.test_images[:500]) - by_definition) < 1e-9
    assert abs(common.pixel_entropy(data.test_images) - 0.05808) < 5e-6


def test_first_of_each_digit(data):
    chosen = common.first_of_each_digit(data.test_labels)
    assert data.test_labels[chosen].tolist() == list(range(10))
    assert chosen.tolist()[7] == 0
