"""L1 norm of token scores."""

from __future__ import annotations

from fusionkit_losses.penalty import Penalty


class TokenL1(Penalty):
    """Drives the scores of tokens to zero, so that `token_fusion` has tokens to exchange.

    Wang et al., Multimodal Token Fusion for Vision Transformers, CVPR 2022. A mean over samples and tokens, where the
    authors' code sums: their weights are too small here by as many times as a batch has tokens.
    """

    needs_penalty = "token_l1"
