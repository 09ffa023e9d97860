"""How well a linear classifier reads the digit off a code: `python tests/studies/probe.py sparse_l1 pixels`.

Multinomial logistic regression on the frozen codes of the training images, as in Makhzani and Frey 2013, section 4. For
k-sparse, how many times k units the code may keep is chosen on the last sixth of the training images; then it is fitted
to all of them, and the test labels are looked at once. A minute or two for each model.
"""

import argparse
import sys
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from methods import SHIPPED  # noqa: E402

import common  # noqa: E402

L2 = (1e-4,)  # which most codes chose among 1e-3, 3e-4, 1e-4, 3e-5 and 1e-5
TIMES_K = (4, 8)  # the paper too encodes with more units than it trains with


class Probe(NamedTuple):
    """What came out."""

    error: float  # percent of the test images that it gets wrong
    validation_error: float  # percent of the images set aside for the choices
    choice: int  # which encoder
    l2: float  # weight of the squared norm of the classifier's weights


def probe(encoders, data, l2_grid=L2):
    """Fit and judge the classifier.

    Args:
        encoders: functions [batch, 784] -> [batch, units], of which the best on the images set aside is taken.
        data: common.Data.
        l2_grid: strengths to try, strongest first.

    Returns:
        Probe.
    """
    labels, fitted = data.train_labels, len(data.train_labels) * 5 // 6
    results = []
    for choice, encode in enumerate(encoders):
        code, weights = scaled(encode, data.train_images)[0], None
        for l2 in l2_grid:
            weights = logistic_regression(code[:fitted], labels[:fitted], l2, weights)
            results.append((error_percent(weights, code[fitted:], labels[fitted:]), choice, l2))
    validation_error, choice, l2 = min(results)
    return Probe(test_error(encoders[choice], data, l2), validation_error, choice, l2)


def test_error(encode, data, l2):
    """Percent of the test images that the classifier misjudges when it is fitted to all training images."""
    code, scale = scaled(encode, data.train_images)
    weights = logistic_regression(code, data.train_labels, l2)
    test_code, _ = scaled(encode, data.test_images, scale)
    return error_percent(weights, test_code, data.test_labels)


@torch.no_grad()
def scaled(encode, images, scale=None):
    """(code [n, units], scale): by default one factor for all units brings the mean squared norm to 100, so that one
    range of L2 strengths suits every code."""
    code = torch.cat([encode(batch) for batch in common.batches(images, 5_000)])
    if scale is None:
        scale = 10 / code.square().sum(dim=1).mean().sqrt().clamp(min=1e-12)
    return code.mul_(scale), scale


def logistic_regression(code, labels, l2, start=None):
    """Minimise cross-entropy + `l2` · |weights|² with L-BFGS, to convergence.

    Args:
        code: [n, units].
        labels: [n], 0 to 9.
        l2: strength.
        start: weights to start from.

    Returns:
        weights, [10, units + 1], the bias last.
    """
    classifier = torch.nn.Linear(code.shape[1], 10)
    with torch.no_grad():
        classifier.weight.copy_(torch.zeros(()) if start is None else start[:, :-1])
        classifier.bias.copy_(torch.zeros(()) if start is None else start[:, -1])
    optimizer = torch.optim.LBFGS(
        classifier.parameters(),
        max_iter=300,
        history_size=20,
        tolerance_grad=1e-6,
        tolerance_change=0,
        line_search_fn="strong_wolfe",
    )

    def closure():
        optimizer.zero_grad()
        loss = F.cross_entropy(classifier(code), labels) + l2 * classifier.weight.square().sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    return torch.cat([classifier.weight, classifier.bias[:, None]], dim=1).detach()


def error_percent(weights, code, labels):
    """Percent of the codes [n, units] that logistic-regression weights [10, units + 1] misjudge."""
    wrong = F.linear(code, weights[:, :-1], weights[:, -1]).argmax(dim=1) != labels
    return 100 * wrong.sum().item() / len(labels)


def encoders_of(model):
    """The ways to encode with a model: as it is, or for k-sparse with several times k units."""
    if not hasattr(model, "k"):
        return [model.encode]

    def with_units(k):
        def encode(images):
            trained, model.k = model.k, min(k, len(model.dictionary))
            code = model.encode(images)
            model.k = trained
            return code

        return encode

    return [with_units(times * model.k) for times in TIMES_K]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", default=["pixels", *SHIPPED], help="models, or pixels (default: all)")
    names = parser.parse_args().names
    models = [(name, None if name == "pixels" else common.load_pretrained(name)) for name in names]
    torch.set_flush_denormal(True)
    data = common.load_data()
    print(f"{'code':<20} {'test':>7} {'set aside':>10} {'times k':>8} {'L2':>7}")
    for name, model in models:
        result = probe(encoders_of(model) if model else [lambda images: images], data)
        times = TIMES_K[result.choice] if hasattr(model, "k") else ""
        print(
            f"{name:<20} {result.error:>5.2f} % {result.validation_error:>8.2f} % {times!s:>8} {result.l2:>7g}",
            flush=True,
        )


if __name__ == "__main__":
    main()
