"""Next-token prediction of a text."""

from __future__ import annotations

from fusionkit_losses.penalty import Penalty


class Captioning(Penalty):
    """How badly a language model predicts each token of a text from the image and the tokens before it.

    Liu et al., Visual Instruction Tuning (LLaVA), NeurIPS 2023. The fusion `llava` computes it, with an encoder
    `causal_lm` of `head: true`: the cross-entropy over the vocabulary in nats, a mean over the tokens of each text and
    then over the samples, so that how a batch is cut changes nothing. A sample without text counts as zero. (The
    authors' mean is over the tokens of the batch, in which long texts count more.)
    """

    tasks = ("classification", "multilabel", "regression", "grounding", "retrieval")
    needs_penalty = "captioning"
