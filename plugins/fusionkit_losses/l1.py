"""Mean absolute error."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from fusionkit.contract import Loss
from fusionkit.flow import Batch, Output


class L1(Loss):
    """Mean absolute error of the standardised quantities, or of the centre, width and height of boxes: the mean over
    quantities and samples.

    It asks for the median, so single samples that are far off pull less than in `mse`.
    """

    tasks = ("regression", "grounding")
    reads_logits_alone = True

    def forward(self, output: Output, batch: Batch) -> Float[Tensor, ""]:
        return F.l1_loss(output.logits.float(), batch.target.float())
