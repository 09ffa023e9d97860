"""Sparse autoencoder with a KL penalty on each unit's mean activation.

    code    = sigmoid(hidden)
    ρ̂_j     = mean of code_j over the batch
    KL_j    = KL(ρ ‖ ρ̂_j) = ρ log(ρ / ρ̂_j) + (1 - ρ) log((1 - ρ) / (1 - ρ̂_j))
    loss    = BCE(reconstruction, x) + β · Σ_j KL_j

The penalty says how active a unit may be on average over many images, and leaves open on which. The average is over
the batch: with a smaller one the same weights pay more, so β goes with batches of about 1,200. The target ρ stands
first: KL is not symmetric, and with its arguments swapped a unit that is never active is hardly charged. The penalty
has a way out: every unit stays close to ρ, and large weights in the dictionary turn the small differences between
images into a picture. So the dictionary's weights decay, less and less, and at the end not at all.

Attains (20 epochs, 11 seconds on two cores; the linear probe over five seeds): test BCE 0.0696, MSE 0.0110 from 25
units an image, probe 2.06 ± 0.14 %.
"""

import math

import torch
import torch.nn.functional as F

import common


def kl_penalty(hidden, rho, beta):
    """β · Σ_j KL(ρ ‖ ρ̂_j), a scalar: 0 exactly when every unit's mean is ρ, else positive.

    Args:
        hidden: [batch, hidden], of which the sigmoid makes the code.
        rho: ρ, the wanted mean activation, in (0, 1).
        beta: β, at least 0.
    """
    # ρ̂ and 1 - ρ̂, which is a mean of its own: 1 - ρ̂ rounds to 0 for a unit that is on for the whole batch, and such a
    # unit would never get a gradient again.
    tiny = torch.finfo(hidden.dtype).tiny
    on, off = hidden.sigmoid().mean(dim=0).clamp(min=tiny), (-hidden).sigmoid().mean(dim=0).clamp(min=tiny)
    divergence = rho * (math.log(rho) - on.log()) + (1 - rho) * (math.log(1 - rho) - off.log())
    return beta * divergence.clamp(min=0).sum()  # next to ρ, rounding can make it a little negative


class SparseKL(common.Autoencoder):
    """Sigmoid code with a KL penalty. ρ and β are those of the document this project grew from, the decay of the
    weights is that of A. Ng's lecture notes (CS294A, Sparse autoencoder, 2011)."""

    method = "sparse_kl"
    hyperparameters = common.hyperparameters(
        {
            "rho": common.between_0_and_1(0.08, "ρ, wanted mean activation of a unit", is_compared=True),
            "beta": common.at_least_0(5e-3, "β, weight of the KL penalty"),
        },
        hidden=512,
        epochs=20,
        batch_size=1200,
        lr=9e-3,
        encoder_speed=12.0,
        weight_decay=3e-6,
        tie=2e-7,
    )
    active_above = 0.5  # a sigmoid is never zero

    def initialise(self):
        self.dictionary.copy_(0.003 * torch.randn_like(self.encoder.weight))
        self.encoder.weight.copy_(F.normalize(self.dictionary))
        self.encoder.bias.fill_(math.log(self.rho / (1 - self.rho)))  # every unit starts near ρ
        # With every unit at ρ it draws the mean image.
        self.decoder.bias.copy_(self.mean_image.logit(eps=1e-3) - self.rho * self.dictionary.sum(dim=0))

    def activation(self, hidden):
        return hidden.sigmoid()

    def penalty(self, hidden, code):
        return kl_penalty(hidden, self.rho, self.beta)

    def schedule(self, progress):
        return {"weight_decay": self.weight_decay * (1 - progress)}


if __name__ == "__main__":
    common.main(SparseKL)
