"""Sparse autoencoder with a KL penalty on each unit's mean activation.

    code    = sigmoid(hidden)
    ρ̂_j     = mean of code_j over the batch
    KL_j    = KL(ρ ‖ ρ̂_j) = ρ log(ρ / ρ̂_j) + (1 - ρ) log((1 - ρ) / (1 - ρ̂_j))
    loss    = BCE(reconstruction, x) + β · Σ_j KL_j

The penalty says how often a unit may fire, on average over many images, and leaves open on which. The target
ρ stands first: KL is not symmetric, and with its arguments swapped a unit that never fires is hardly charged.
"""

import math

import torch

import common


def kl_penalty(code, rho, beta):
    """β · Σ_j KL(ρ ‖ ρ̂_j), a scalar: 0 exactly when every unit's mean is ρ, else positive.

    Args:
        code: [batch, hidden], in [0, 1].
        rho: ρ, the wanted mean activation, in (0, 1).
        beta: β, at least 0.
    """
    # A unit that is off (or on) for the whole batch would cost infinity.
    tiny = torch.finfo(code.dtype).eps
    mean = code.mean(dim=0).clamp(tiny, 1 - tiny)
    divergence = rho * (math.log(rho) - mean.log()) + (1 - rho) * (math.log(1 - rho) - (1 - mean).log())
    return beta * divergence.clamp(min=0).sum()  # next to ρ, rounding can make it a little negative


class SparseKL(common.Autoencoder):
    """Sigmoid code with a KL penalty. ρ and β are those of the script this project grew from.

    Args:
        hidden: number of units in the code.
        rho: ρ.
        beta: β.
    """

    active_above = 0.5  # a sigmoid is never zero
    input_scale, code_scale = 0.3, 2.0  # the encoder calmer (see SparseL1), the decoder quicker

    def __init__(self, hidden, rho, beta):
        super().__init__(hidden)
        self.rho, self.beta = rho, beta

    def activation(self, hidden):
        return hidden.sigmoid()

    def penalty(self, code):
        return kl_penalty(code.float(), self.rho, self.beta)

    def own_figures(self, report):
        return {"mean code": f"ρ̂ = {report.mean_code:.4f}, wanted ρ = {self.rho:g}"}

    @torch.no_grad()
    def initialise(self, images):
        super().initialise(images)
        self.encoder.weight.mul_(2)  # a sigmoid is flat at ρ
        self.encoder.bias.fill_(math.log(self.rho / (1 - self.rho)))  # every unit starts near ρ


METHOD = common.Method(
    name="sparse_kl",
    model=SparseKL,
    defaults={"hidden": 512, "epochs": 20, "batch_size": 1200, "lr": 9e-3, "rho": 0.08, "beta": 5e-3},
    options=[
        common.Option("rho", common.number(above=0, below=1), "ρ, the wanted mean activation of a unit"),
        common.Option("beta", common.number(at_least=0), "β, the weight of the KL penalty"),
    ],
)

if __name__ == "__main__":
    common.main(METHOD)
