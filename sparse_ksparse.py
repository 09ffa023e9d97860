"""k-sparse autoencoder: only the k largest units of the code survive.

    code    = TopK(ReLU(hidden))
    loss    = MSE(output, x) + λ · mean over images of Σ_j |code_j|

No penalty has to be balanced against the reconstruction: k is the number of active units. The decoder is linear
and tied, its matrix the encoder's transposed, so that a unit fires for what it draws.

Makhzani and Frey, k-Sparse Autoencoders, 2013, arXiv 1312.5663.
"""

import math

import torch
import torch.nn.functional as F

import common


def top_k(code, k):
    """Keep the k largest units of each image and set the rest to zero; gradients pass through those k only.

    Args:
        code: [batch, hidden].
        k: units to keep, from 1 to hidden. Among equals some are kept, so that it is always k.

    Returns:
        [batch, hidden].
    """
    if k >= code.shape[1]:
        return code
    values, units = code.topk(k, dim=1, sorted=False)
    return torch.zeros_like(code).scatter(1, units, values)


class KSparse(common.Autoencoder):
    """k largest of a ReLU code, linear decoder tied to the encoder, MSE.

    Args:
        hidden: number of units in the code.
        k: how many of them may be active.
        l1_weight: λ.

    Raises:
        UserError: k is larger than hidden.
    """

    loss_name = "MSE"
    probe_widths = (4, 8)  # the paper too encodes with more units than it trains with
    bfloat16_code = False  # with 8 bits many units would tie for the k-th place
    loss_note = "(in its first half training uses more than k units)"

    def __init__(self, hidden, k, l1_weight):
        super().__init__(hidden)
        if k > hidden:
            raise common.UserError(f"--k {k} is more than the {hidden} units of --hidden", status=2)
        self.k, self.l1_weight = k, l1_weight
        self.dictionary = self.encoder.weight  # tied
        self.active_k = k
        self.register_buffer("fired", torch.zeros(hidden), persistent=False)  # above 0: lit in this epoch

    def probe_code(self, images, width):
        return top_k(F.relu(self.pre_activation(images)), min(width * self.k, len(self.dictionary)))

    def activation(self, hidden):
        return top_k(F.relu(hidden), self.k)

    def training_pass(self, images):
        values, units = F.relu(self.pre_activation(images)).topk(self.active_k, dim=1, sorted=False)
        self.fired.index_put_((units,), values.detach(), accumulate=True)
        if images.device.type == "cpu" and len(self.dictionary) >= 64 * self.active_k:
            # For a large --hidden: fetch the rows that count instead of multiplying the rest by zero. A row costs more
            # this way; on two CPU cores it breaks even at 30 units per active one, and is a fifth faster at 64.
            drawn = F.embedding_bag(units, self.dictionary, per_sample_weights=values, mode="sum")
            return drawn + self.decoder_bias, values
        code = values.new_zeros(len(images), len(self.dictionary)).scatter(1, units, values)
        return self.output(code), values

    def penalty(self, code):
        return self.l1_weight * code.sum(dim=1).mean()

    def squash(self, output):
        return output.clamp(0, 1)

    def reconstruction_loss(self, output, images):
        """Mean squared error over images and pixels: a scalar."""
        return F.mse_loss(output, images)

    def start_epoch(self, progress):
        # The paper's schedule: with few units from the start, those that happen to win early win for ever
        # and the rest die. Beginning with many, all of them learn something first.
        start = min(max(4 * self.k, 100), len(self.dictionary))
        self.active_k = max(self.k, round(start * (self.k / start) ** min(1, 2 * progress)))
        # A unit that no image of the last epoch lit is offered to more images, until one does. It happens at k = 5.
        if progress > 0:
            self.encoder.bias.data[self.fired == 0] += 1
        self.fired.zero_()
        return (1 + math.cos(math.pi * progress)) / 2  # of Adam's rate: small batches are noisy, come to rest

    @torch.no_grad()
    def initialise(self, images):
        super().initialise(images)
        self.decoder_bias.copy_(self.mean_image)
        self.encoder.weight.normal_(std=0.01)


METHOD = common.Method(
    name="sparse_ksparse",
    model=KSparse,
    defaults={"hidden": 1000, "epochs": 60, "batch_size": 100, "lr": 5e-4, "k": 25, "l1_weight": 0},
    options=[
        common.Option(
            "k", common.number(int, at_least=1), "active units per image; several values: a model each", True
        ),
        common.Option("l1_weight", common.number(at_least=0), "λ, the weight of the L1 penalty"),
    ],
)

if __name__ == "__main__":
    common.main(METHOD)
