"""Mean squared error."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from fusionkit.contract import Loss
from fusionkit.flow import Batch, Output


class MSE(Loss):
    """Mean squared error of the standardised quantities, or of the centre, width and height of boxes: the mean over
    them and over samples."""

    tasks = ("regression", "grounding")
    reads_logits_alone = True

    def forward(self, output: Output, batch: Batch) -> Float[Tensor, ""]:
        return F.mse_loss(output.logits.float(), batch.target.float())
