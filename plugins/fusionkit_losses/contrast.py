"""What the losses that compare embeddings share: unit vectors, contrast, triplets, and samples of other processes."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor, distributed
from torch.nn import functional as F

from fusionkit.flow import Batch


def real(value: Float[Tensor, "B D"], present: Bool[Tensor, " B"]) -> Float[Tensor, "B D"]:
    """The vectors in 32 bits or more, zero where absent: what stands there may be infinite, and infects gradients."""
    return value.to(torch.promote_types(value.dtype, torch.float32)).masked_fill(~present.unsqueeze(1), 0)


def unit(value: Float[Tensor, "B D"]) -> Float[Tensor, "B D"]:
    """The vectors at length one. One of zeros has no direction: it stays, without the gradient of 1e12 it would get."""
    return F.normalize(value, dim=1).masked_fill(~value.any(1, keepdim=True), 0)


def contrast(
    logits: Float[Tensor, "R N"], positive: Float[Tensor, "R N"], compared: Bool[Tensor, "R N"]
) -> Float[Tensor, " R"]:
    """Of each row the mean of -log softmax over its positives, weighted by `positive`; one at least is above zero.

    Args:
        logits: similarities, scaled.
        positive: weights of the positives, zero elsewhere.
        compared: what the softmax is over; the positives are among it.
    """
    log_share = logits.masked_fill(~compared, -torch.inf).log_softmax(1).masked_fill(~compared, 0)
    return -(positive * log_share).sum(1) / positive.sum(1)


def hinges(
    distance: Float[Tensor, "A N"],
    positive: Bool[Tensor, "A N"],
    negative: Bool[Tensor, "A N"],
    margin: float,
    *,
    hardest: bool,
) -> Float[Tensor, " T"]:
    """max(0, margin + d(anchor, positive) - d(anchor, negative)) of each triplet.

    Args:
        distance: of each anchor to each candidate.
        positive, negative: which candidates are what.
        margin: by which a negative is to be farther away than a positive.
        hardest: one triplet an anchor, of its farthest positive and its nearest negative; else all triplets, which
            takes memory for A x N x N numbers. Anchors without a positive or without a negative have none.
    """
    if hardest:
        farthest = distance.masked_fill(~positive, -torch.inf).amax(1)
        nearest = distance.masked_fill(~negative, torch.inf).amin(1)
        anchors = positive.any(1) & negative.any(1)
        return (margin + farthest[anchors] - nearest[anchors]).relu()
    triplets = positive.unsqueeze(2) & negative.unsqueeze(1)
    return (margin + distance.unsqueeze(2) - distance.unsqueeze(1))[triplets].relu()


def mean(terms: Float[Tensor, " T"]) -> Float[Tensor, ""]:
    """The mean; over nothing zero, with a graph."""
    return terms.sum() / max(1, len(terms))


def everybody(
    embeddings: dict[str, Float[Tensor, "B _"]], batch: Batch
) -> tuple[dict[str, Float[Tensor, "N _"]], Batch, int]:
    """The embeddings and facts of the batches of all processes in one, and where this process's begin.

    In training alone: where no gradients are asked for, each process keeps to its own. Every process has to call it.
    """
    if not (torch.is_grad_enabled() and distributed.is_available() and distributed.is_initialized()):
        return embeddings, batch, 0
    size = batch.index.new_tensor([len(batch)])
    parts = [torch.empty_like(size) for _ in range(distributed.get_world_size())]
    distributed.all_gather(parts, size)
    sizes = torch.cat(parts).tolist()
    join = partial(_Joined.apply, sizes)
    joined = {name: join(value) for name, value in embeddings.items()}
    present = {name: batch.present[name] for name in embeddings}
    facts = replace(batch, inputs={}, valid={}, present=present)
    return joined, facts.map(join), sum(sizes[: distributed.get_rank()])


class _Joined(torch.autograd.Function):
    """The rows of all processes, one process after the other; a row's gradient is the sum of what all make of it."""

    @staticmethod
    def forward(ctx: Any, sizes: list[int], value: Shaped[Tensor, "B ..."]) -> Shaped[Tensor, "N ..."]:
        rank = distributed.get_rank()
        ctx.rows = sum(sizes[:rank]), sizes[rank]
        padded = value.new_zeros(max(sizes), *value.shape[1:])  # what is gathered is of one size everywhere
        padded[: len(value)] = value
        parts = [torch.empty_like(padded) for _ in sizes]
        distributed.all_gather(parts, padded)
        return torch.cat([part[:size] for part, size in zip(parts, sizes, strict=True)])

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[None, Tensor]:  # type: ignore[override]
        total = gradient.clone(memory_format=torch.contiguous_format)
        distributed.all_reduce(total)
        return None, total.narrow(0, *ctx.rows)
