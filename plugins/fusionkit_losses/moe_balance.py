"""Balance of a mixture of experts."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from fusionkit.contract import Loss
from fusionkit.flow import Batch, Output


class MoEBalance(Loss):
    """The penalty `moe_balance` of the fusion `mixture_of_experts`: how unevenly the experts are used.

    Shazeer et al., Outrageously Large Neural Networks: The Sparsely-Gated Mixture-of-Experts Layer, ICLR 2017. It is
    zero where all experts are used alike.

    Args:
        task: what is predicted.
    """

    needs_penalty = "moe_balance"

    def forward(self, output: Output, batch: Batch) -> Float[Tensor, ""]:
        return output.penalties["moe_balance"]
