"""L1 or KL as most scripts on the web train them: `python tests/studies/conventional.py sparse_l1 --until 0.0776`.

Every image is decoded again in every epoch by a DataLoader, layers start as torch makes them, the loss is BCELoss on
sigmoids plus the penalty, and `.item()` is read after each batch. Stops when the test loss is reached, and saves the
weights. It is what benchmark.py compares with, and shares nothing with common.py but the folder of the data.
"""

import argparse
from pathlib import Path

import torch
from torch import nn
from torch.utils.data import DataLoader
from torchvision.datasets import MNIST
from torchvision.transforms import ToTensor

DATA = Path(__file__).resolve().parents[2] / "data"


class Network(nn.Module):
    def __init__(self, method):
        super().__init__()
        self.encoder, self.decoder = nn.Linear(784, 512), nn.Linear(512, 784)
        self.activation = nn.ReLU() if method == "sparse_l1" else nn.Sigmoid()

    def forward(self, images):
        code = self.activation(self.encoder(images))
        return torch.sigmoid(self.decoder(code)), code


def penalty(method, code):
    """L1 summed over units, or KL, with the hyperparameters of sparse_l1.py and sparse_kl.py."""
    if method == "sparse_l1":
        return 4e-5 * code.abs().sum(dim=1).mean()
    rho, mean = torch.tensor(0.08), code.mean(dim=0).clamp(1e-6, 1 - 1e-6)
    return 0.005 * (rho * (rho / mean).log() + (1 - rho) * ((1 - rho) / (1 - mean)).log()).sum()


class Conventional:
    """A network, its optimiser and its data, to train for one epoch after another."""

    def __init__(self, method):
        torch.manual_seed(0)
        self.method, self.model, self.criterion = method, Network(method), nn.BCELoss()
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=9e-3)
        self.train_loader, self.test_loader = (
            DataLoader(MNIST(DATA, train=part, transform=ToTensor(), download=True), batch_size=1200, shuffle=part)
            for part in (True, False)
        )

    def epoch(self):
        total = 0.0
        for images, _ in self.train_loader:
            images = images.view(-1, 784)
            reconstruction, code = self.model(images)
            loss = self.criterion(reconstruction, images) + penalty(self.method, code)
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            total += loss.item()
        return total / len(self.train_loader)

    @torch.no_grad()
    def test_loss(self):
        total = 0.0
        for images, _ in self.test_loader:
            images = images.view(-1, 784)
            total += self.criterion(self.model(images)[0], images).item() * len(images)
        return total / len(self.test_loader.dataset)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("method", choices=("sparse_l1", "sparse_kl"))
    parser.add_argument("--until", type=float, required=True)
    parser.add_argument("--save", type=Path, required=True)
    options = parser.parse_args()
    training, epochs = Conventional(options.method), 0
    while epochs == 0 or training.test_loss() > options.until:
        training.epoch()
        epochs += 1
    torch.save(training.model.state_dict(), options.save)
    print(epochs)


if __name__ == "__main__":
    main()
