"""Sparse autoencoder with an L1 penalty on the code.

    code    = ReLU(hidden)
    loss    = BCE(reconstruction, x) + λ · mean over images of Σ_j |code_j|

The penalty charges for every bit of activation, so units that do not earn their price stay at zero. Its weak
spot: it charges for how strongly a unit fires, not for whether it does.
"""

import torch
import torch.nn.functional as F

import common


def l1_penalty(code, l1_weight):
    """λ · mean over images of Σ_j |code_j|, a scalar.

    Args:
        code: [batch, hidden], never negative, so that it is its own absolute value.
        l1_weight: λ, at least 0.
    """
    return l1_weight * code.sum(dim=1, dtype=torch.float32).mean()


class SparseL1(common.Autoencoder):
    """ReLU code with an L1 penalty. λ is that of the script this project grew from.

    Args:
        hidden: number of units in the code.
        l1_weight: λ.
    """

    # Adam moves every weight by about the same step. Smaller numbers into the encoder and larger weights in it
    # make that step a smaller part of them: the encoder is calmer at this high learning rate.
    input_scale = 0.1

    def __init__(self, hidden, l1_weight):
        super().__init__(hidden)
        self.l1_weight = l1_weight

    def activation(self, hidden):
        return F.relu(hidden)

    def penalty(self, code):
        return l1_penalty(code, self.l1_weight)


METHOD = common.Method(
    name="sparse_l1",
    model=SparseL1,
    defaults={"hidden": 512, "epochs": 20, "batch_size": 1200, "lr": 9e-3, "l1_weight": 4e-5},
    options=[common.Option("l1_weight", common.number(at_least=0), "λ, the weight of the L1 penalty")],
)

if __name__ == "__main__":
    common.main(METHOD)
