"""How far from the best code for the same pictures: `python tests/studies/limit.py`, for k-sparse.

The dictionary of each shipped model stays as it is; of the first 1,000 test images it prints the test MSE with

    model       the code of the encoder, in one pass
    best code   the encoder's units, with the code that fits best (least squares)
    positive    k units chosen one by one (orthogonal matching pursuit), with the best code that is not negative
    any sign    the same with a code of any sign

A minute on two cores.
"""

import argparse
import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from methods import SHIPPED  # noqa: E402

import common  # noqa: E402


def pursue(targets, dictionary, k, positive=False):
    """Orthogonal matching pursuit: one by one, the unit whose picture is most like what is left.

    Args:
        targets: [n, 784], what units have to add up to.
        dictionary: [hidden, 784].
        k: units for each.
        positive: whether codes must not be negative.

    Returns:
        (units [n, k], code [n, k]).
    """
    gram, likeness = dictionary @ dictionary.T, targets @ dictionary.T
    norms = dictionary.norm(dim=1)
    units = torch.empty(len(targets), 0, dtype=torch.long)
    left = likeness
    for _ in range(k):
        gain = left / norms
        gain = (gain if positive else gain.abs()).scatter(1, units, -torch.inf)
        units = torch.cat([units, gain.argmax(dim=1, keepdim=True)], dim=1)
        code = best_code(gram, likeness, units, positive)
        left = likeness - torch.zeros_like(likeness).scatter(1, units, code) @ gram
    return units, code


def best_code(gram, likeness, units, positive=False):
    """The code [n, k] of these units [n, k] with the least squared error, given the products of pictures with each
    other, [hidden, hidden], and with targets, [n, hidden]."""
    among, wanted = gram[units[:, :, None], units[:, None, :]], likeness.gather(1, units)
    ridge = 1e-9 * torch.eye(units.shape[1], dtype=gram.dtype)
    code = torch.linalg.solve(among + ridge, wanted)
    if not positive:
        return code
    code = code.clamp(min=0)
    for _ in range(30):  # coordinate descent
        for unit in range(units.shape[1]):
            slope = wanted[:, unit] - (among[:, unit] * code).sum(dim=1)
            code[:, unit] = (code[:, unit] + slope / among[:, unit, unit]).clamp(min=0)
    return code


@torch.no_grad()
def limits(model, images):
    """A dict of test MSEs of a k-sparse model on images [n, 784] in [0, 1]."""
    dictionary, bias = model.dictionary.double(), model.decoder.bias.double()
    targets = images.double() - bias
    likeness = targets @ dictionary.T

    def error(units, code):
        drawn = model.squash(torch.zeros_like(likeness).scatter(1, units, code) @ dictionary + bias)
        return (drawn - images).square().mean().item()

    values, units = model.encode(images).topk(model.k)
    return {
        "model": error(units, values.double()),
        "best code": error(units, best_code(dictionary @ dictionary.T, likeness, units)),
        "positive": error(*pursue(targets, dictionary, model.k, positive=True)),
        "any sign": error(*pursue(targets, dictionary, model.k)),
    }


def main():
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    images = common.to_float(common.load_data().test_images[:1000])
    for name in SHIPPED:
        if name.startswith("sparse_ksparse"):
            found = limits(common.load_pretrained(name), images)
            print(f"{name:<20}", "  ".join(f"{way}: {error:.4f}" for way, error in found.items()), flush=True)


if __name__ == "__main__":
    main()
