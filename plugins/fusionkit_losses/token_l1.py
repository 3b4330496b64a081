"""L1 norm of token scores."""

from __future__ import annotations

from fusionkit_losses.penalty import Penalty


class TokenL1(Penalty):
    """Drives the scores of tokens to zero, so that `token_fusion` has tokens to exchange.

    Wang et al., Multimodal Token Fusion for Vision Transformers, CVPR 2022, eq. 4. The weight is the paper's lambda.
    """

    needs_penalty = "token_l1"
