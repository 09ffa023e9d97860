"""What the networks are that this project's first document describes: `python tests/studies/originals.py DIR`.

DIR is the folder autoencoders/sparse of a clone of https://github.com/IvLabs/Variational-DL. Their network is imported
from there, so its code runs; their weights are read with weights_only. For L1 and KL it prints the test loss of the
first 1,200 test images, which is what they publish, and of all 10,000, the MSE, and how many units are ever on.
"""

import argparse
import importlib.util
import sys
from pathlib import Path

import torch
import torch.nn.functional as F

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import common  # noqa: E402


def load_original(folder, name):
    """Their network, with their weights, in evaluation mode."""
    sys.path.insert(0, str(folder))  # it imports a loader from there
    spec = importlib.util.spec_from_file_location(f"original_{name}", folder / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    network = module.AE()
    network.load_state_dict(torch.load(folder / f"{name}.pth", map_location="cpu", weights_only=True))
    return network.eval()


@torch.no_grad()
def figures(network, images):
    """A dict of what a network does to test images [n, 1, 28, 28] in [0, 1]."""
    reconstruction = torch.cat([network(batch) for batch in images.split(500)])
    code = torch.cat([network.encode(batch) for batch in images.split(500)]).flatten(start_dim=1)
    on = code > 0
    return {
        "BCE of the first 1,200": f"{F.binary_cross_entropy(reconstruction[:1200], images[:1200]).item():.5f}",
        "BCE of all": f"{F.binary_cross_entropy(reconstruction, images).item():.5f}",
        "MSE of all": f"{F.mse_loss(reconstruction, images).item():.5f}",
        "units on for no image": f"{(~on.any(dim=0)).sum().item()} of {code.shape[1]}",
        "units on, on an image": f"{on.sum(dim=1).float().mean().item():.1f}",
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, metavar="DIR", help="autoencoders/sparse of a clone of theirs")
    folder = parser.parse_args().folder.resolve()
    for name in ("sparse_l1", "sparse_kl"):
        if not (folder / f"{name}.py").is_file() or not (folder / f"{name}.pth").is_file():
            where = "clone https://github.com/IvLabs/Variational-DL and give its folder autoencoders/sparse"
            sys.exit(f"originals.py: error: there is no {name}.py with its {name}.pth in {folder}: {where}")
    images = common.to_float(common.load_mnist(train_count=0).test_images).view(-1, 1, 28, 28)
    for name in ("sparse_l1", "sparse_kl"):
        print(f"original {name}")
        for what, value in figures(load_original(folder, name), images).items():
            print(f"  {what:<24} {value}")


if __name__ == "__main__":
    main()
