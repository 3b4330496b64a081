"""L1 norm of batch-norm scales."""

from __future__ import annotations

from fusionkit_losses.penalty import Penalty


class CENL1(Penalty):
    """Drives scales of batch norms to zero, so that `channel_exchange` has channels to exchange.

    Wang et al., Deep Multimodal Fusion by Channel Exchanging, NeurIPS 2020, eq. 4. The weight is the paper's lambda;
    the authors' code says 2e-4 and adds the term once for each of the M + 1 predictions.
    """

    needs_penalty = "channel_l1"
