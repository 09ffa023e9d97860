"""What the networks are that this project's two documents describe: `python tests/studies/originals.py DIR ...`.

The documents belong to https://github.com/IvLabs/Variational-DL (autoencoders/sparse: L1 and KL) and
https://github.com/Khdave02/Autoencoders (K_Sparse_AE). Each DIR is a clone of one of them. Of their scripts only the
definitions are executed, and nothing of their weights. It prints what their shipped weights are worth, and how long an
epoch of theirs takes beside ours: four minutes on two cores. With --train it also trains theirs until their published
test loss, which takes another twenty.
"""

import argparse
import ast
import collections
import sys
from pathlib import Path
from statistics import median
from types import SimpleNamespace

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader
from torchvision.datasets import MNIST
from torchvision.transforms import ToTensor

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

import methods  # noqa: E402
from benchmark import three_epochs, timed  # noqa: E402

import common  # noqa: E402

CLONES = "clone https://github.com/IvLabs/Variational-DL and https://github.com/Khdave02/Autoencoders and name both"
SCRIPTS = {  # where theirs lie in a clone
    "sparse_l1": ("autoencoders/sparse", "sparse_l1.py", "sparse_l1.pth"),
    "sparse_kl": ("autoencoders/sparse", "sparse_kl.py", "sparse_kl.pth"),
    "sparse_ksparse": ("K_Sparse_AE", "main.py", "K_SAE_model.pth"),
}
PUBLISHED = {"sparse_l1": 0.07757, "sparse_kl": 0.0771}  # test losses, of their first 1,200 test images


def find(folders):
    """{method: (script, weights)} of theirs in these folders; ends the process when one is not there."""
    found = {}
    for method, (below, script, weights) in SCRIPTS.items():
        places = [place for folder in folders for place in (folder / below, folder) if (place / script).is_file()]
        if not places or not (places[0] / weights).is_file():
            sys.exit(f"originals.py: error: {below}/{script} with {weights} is not in the folders named: {CLONES}")
        found[method] = places[0] / script, places[0] / weights
    return found


def definitions(script):
    """What a script of theirs defines: its classes, functions and plain numbers, by their names. Whatever else it does
    when it is imported, such as asking at the terminal and training, is left out."""
    tree = ast.parse(script.read_text())
    kinds = (ast.ClassDef, ast.FunctionDef)
    tree.body = [
        node
        for node in tree.body
        if isinstance(node, kinds) or (isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant))
    ]
    # What their functions expect around them; the screen is not cleared, and there is no progress bar.
    around = {"torch": torch, "nn": nn, "F": F, "device": torch.device("cpu"), "tqdm": lambda batches: batches}
    exec(compile(tree, script, "exec"), around)
    around["clrscr"] = lambda: None
    around["print"] = lambda *words: None
    return around


class Original:
    """One of their networks as they ship it: `network` with `encode` to [n, units] and `decode` back."""

    def __init__(self, method, script, weights):
        self.method, self.theirs = method, definitions(script)
        self.network = self.new_network()
        if method == "sparse_ksparse":
            self.network = load_pickled(weights, self.theirs["K_SparseAutoencoder"])
        else:
            self.network.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))
        self.network.eval()

    def new_network(self):
        return self.theirs["K_SparseAutoencoder" if self.method == "sparse_ksparse" else "AE"]()

    def reconstruct(self, images, k):
        return self.network(images, k)[0] if self.method == "sparse_ksparse" else self.network(images)

    def encode(self, images, k):
        if self.method == "sparse_ksparse":
            return self.network(images, k)[1][3]  # the fourth of the layers that it returns
        return self.network.encode(images).flatten(start_dim=1)

    def decode(self, code):
        """Of L1 and KL."""
        return self.network.decode(code.view(-1, 32, 4, 4))

    def trainer(self, loader):
        """A new network, and a function that trains it for an epoch, as their script does."""
        torch.manual_seed(0)
        network, theirs = self.new_network(), self.theirs
        if self.method == "sparse_ksparse":
            optimizer = torch.optim.Adam(network.parameters(), theirs["lr"])
            return network, lambda: theirs["training"](network, loader, [], 0, optimizer, nn.MSELoss(), 25)
        optimizer = torch.optim.Adam(network.parameters(), theirs["learning_rate"])
        theirs["epochs"], theirs["loader"] = 1, SimpleNamespace(train_loader_fn=lambda batch_size: loader)
        return network, lambda: theirs["train_model"](network, optimizer, nn.BCELoss())


def load_pickled(weights, cls):
    """A network that was pickled as a whole, under an earlier name of its class. No other classes than these may occur
    in a pickle, so nothing else is executed."""
    layers = (nn.Sequential, nn.Conv2d, nn.ConvTranspose2d, nn.Linear, nn.ReLU, collections.OrderedDict)
    with torch.serialization.safe_globals([(cls, "__main__.SparseAutoencoder"), *layers]):
        return torch.load(weights, map_location="cpu", weights_only=True)


@torch.no_grad()
def figures(original, images, k=None):
    """A dict of what a network of theirs does to test images [n, 1, 28, 28] in [0, 1]."""
    output = torch.cat([original.reconstruct(batch, k) for batch in images.split(500)])
    reconstruction = output.clamp(0, 1)  # as ours; theirs of k-sparse may be above 1
    is_on = torch.cat([original.encode(batch, k) for batch in images.split(500)]) > 0
    result = {}
    if original.method != "sparse_ksparse":
        result["BCE of the first 1,200"] = f"{F.binary_cross_entropy(reconstruction[:1200], images[:1200]).item():.5f}"
        result["BCE of all"] = f"{F.binary_cross_entropy(reconstruction, images).item():.5f}"
    result["MSE of the first 1,200"] = f"{F.mse_loss(reconstruction[:1200], images[:1200]).item():.5f}"
    result["MSE of all"] = f"{F.mse_loss(reconstruction, images).item():.5f}"
    if original.method == "sparse_ksparse":
        result["uncut MSE of all"] = f"{F.mse_loss(output, images).item():.5f}"
    result["dead units"] = f"{(~is_on.any(dim=0)).sum().item()} of {is_on.shape[1]}"
    result["active units"] = f"{is_on.sum(dim=1).float().mean().item():.1f}"
    return result


@torch.no_grad()
def kept_curve(original, images, counts):
    """[(n, MSE)] when on each of the images [m, 1, 28, 28] only n units keep their code, and all others are at their
    median: those n whose switching off, one at a time, changes the picture most. Of L1 and KL."""
    code = torch.cat([original.encode(batch, None) for batch in images.split(500)])
    median_code = code.median(dim=0).values
    counts = [n for n in counts if n <= code.shape[1]]
    errors = dict.fromkeys(counts, 0.0)
    for image, own in zip(images, code, strict=True):
        units = (own != median_code).nonzero()[:, 0]
        switched = own.repeat(len(units), 1)
        switched[torch.arange(len(units)), units] = median_code[units]
        change = (original.decode(switched) - original.decode(own[None])).flatten(start_dim=1).norm(dim=1)
        strongest = units[change.argsort(descending=True)]
        kept = median_code.repeat(len(counts), 1)
        for row, n in enumerate(counts):
            kept[row, strongest[:n]] = own[strongest[:n]]
        for n, drawn in zip(counts, original.decode(kept), strict=True):
            errors[n] += F.mse_loss(drawn, image).item() / len(images)
    return list(errors.items())


def epochs_beside_ours(original, loader, data, repeats):
    """(seconds of an epoch of theirs, of ours), medians of so many in turns."""
    _, train_epoch = original.trainer(loader)
    theirs, ours = [], []
    for _ in range(repeats):
        theirs.append(timed(train_epoch))
        ours.append(timed(three_epochs, original.method, data) / 3)
    return median(theirs), median(ours)


@torch.no_grad()
def first_loss(network, images):
    """What they publish as the test loss: BCE of the first 1,200 test images."""
    return F.binary_cross_entropy(network(images[:1200]), images[:1200]).item()


def train_until_published(original, loader, images, most=40):
    """(epochs, seconds of training, test loss) of a new network of theirs, until the published test loss."""
    network, train_epoch = original.trainer(loader)
    seconds = 0.0
    for epoch in range(1, most + 1):
        seconds += timed(train_epoch)
        loss = first_loss(network, images)
        print(f"  epoch {epoch}: test loss of the first 1,200 {loss:.5f}, {seconds:.0f} s", flush=True)
        if loss <= PUBLISHED[original.method]:
            break
    return epoch, seconds, loss


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", type=Path, nargs="*", metavar="DIR", help="clones of theirs")
    parser.add_argument("--train", action="store_true", help="train theirs until their published test loss, too")
    parser.add_argument("--repeats", type=int, default=3, help="epochs that are timed (default: %(default)s)")
    options = parser.parse_args()
    if options.repeats < 1:
        parser.error("--repeats has to be at least 1")
    found = find(options.folders)
    torch.set_flush_denormal(True)
    data = common.load_data()
    images = common.to_float(data.test_images).view(-1, 1, 28, 28)
    training_set = MNIST(ROOT / "data", train=True, transform=ToTensor(), download=True)
    for method, paths in found.items():
        original = Original(method, *paths)
        for k in (25, 10, 5) if method == "sparse_ksparse" else (None,):
            print(f"original {method}" + (f", k = {k}" if k else ""))
            for what, value in figures(original, images, k).items():
                print(f"  {what:<24} {value}")
        batch_size = methods.CLASSES[method].hyperparameters["batch_size"].default  # theirs is the same
        loader = DataLoader(training_set, batch_size, shuffle=True)
        if method != "sparse_ksparse":
            for n, error in kept_curve(original, images[:1000], (25, 50)):
                print(f"  MSE from {n} units{'':<7} {error:.5f} (of the first 1,000 images)")
        theirs, ours = epochs_beside_ours(original, loader, data, options.repeats)
        print(f"  an epoch                 {theirs:.1f} s, ours {ours:.2f} s: {theirs / ours:.0f} times as long")
        if options.train and method in PUBLISHED:
            epochs, seconds, loss = train_until_published(original, loader, images)
            reached = "reached" if loss <= PUBLISHED[method] else "not reached"
            print(f"  published loss           {reached}: {loss:.5f} after {epochs} epochs, {seconds:.0f} s")


if __name__ == "__main__":
    main()
