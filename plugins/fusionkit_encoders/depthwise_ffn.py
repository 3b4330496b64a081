"""The feed-forward network of Dual-ViT: a depthwise convolution between two linear layers, and its wide maps.

Yao, Li, Pan, Wang, Zhang, Mei: Dual Vision Transformer, TPAMI 2023.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

TILE = 2**19
"""Values of a wide map of an FFN that are made at a time: 2 MB in single precision."""

Grid = tuple[int, int]


def as_map(tokens: Float[Tensor, "B N D"], grid: Grid) -> Float[Tensor, "B D H W"]:
    """The tokens as a map, which is a view of them."""
    return tokens.unflatten(1, grid).permute(0, 3, 1, 2)


def as_tokens(map: Float[Tensor, "B D H W"]) -> Float[Tensor, "B N D"]:
    """The cells of a map row by row; a view where the map's channels are last."""
    return map.permute(0, 2, 3, 1).flatten(1, 2)


class DepthwiseFFN(nn.Module):
    """Linear, 3x3 depthwise convolution over the map, GELU, linear.

    Args:
        dim: D.
        ratio: the hidden width is this times D.
    """

    def __init__(self, dim: int, ratio: int):
        super().__init__()
        hidden = ratio * dim
        self.widen = nn.Linear(dim, hidden)
        self.depthwise = nn.Conv2d(hidden, hidden, 3, padding=1, groups=hidden)
        self.narrow = nn.Linear(hidden, dim)

    def forward(
        self, x: Float[Tensor, "B N D"], grid: Grid, mask: Bool[Tensor, "B N"] | None = None
    ) -> Float[Tensor, "B N D"]:
        if x.shape[1] * self.widen.out_features <= TILE and not x.is_cuda:  # kept as it is, in the cache anyway
            hidden = self.widen(x)
            if mask is not None:
                hidden = hidden.masked_fill(~mask.unsqueeze(2), 0)
            return self.narrow(F.gelu(as_tokens(self.depthwise(as_map(hidden, grid)))))
        device = x.device.type
        if torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device):
            x = x.to(torch.get_autocast_dtype(device))
        return _WideFFN.apply(x, grid, mask, *self.parameters())  # type: ignore[no-untyped-call]


class _WideFFN(torch.autograd.Function):
    """linear(gelu(convolution(linear(x)))), tile by tile, that keeps x alone.

    The three wide maps in between are up to eight times x, by far the largest tensors of the network. A tile, some
    samples and some hidden channels, stays in the cache. Made again going back, none is ever kept, which saves more
    than the first linear layer's second run costs.
    """

    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any, x: Tensor, grid: Grid, mask: Tensor | None, *weights: Tensor
    ) -> Tensor:
        ctx.save_for_backward(x, mask, *weights)
        ctx.grid = grid
        *wide, narrow, bias = (weight.to(x.dtype) for weight in weights)
        out = bias.expand(x.shape).contiguous()
        for samples, channels in _tiles(x, narrow.shape[1]):
            _, convolved = _widened(x, mask, grid, wide, samples, channels)
            out[samples].flatten(0, 1).addmm_(F.gelu(convolved).flatten(0, 1), narrow[:, channels].t())
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        x, mask, *weights = ctx.saved_tensors
        *wide, narrow, _ = (weight.to(x.dtype) for weight in weights)
        of_x, sums = x.new_zeros(x.shape), [torch.zeros_like(weight) for weight in weights]
        of_widen, of_bias, of_kernel, of_offset, of_narrow, _ = sums
        for samples, channels in _tiles(x, narrow.shape[1]):
            hidden, convolved = _widened(x, mask, ctx.grid, wide, samples, channels)
            part, above = x[samples].flatten(0, 1), gradient[samples].flatten(0, 1)
            of_narrow[:, channels] += above.t() @ F.gelu(convolved).flatten(0, 1)
            below = torch.ops.aten.gelu_backward((above @ narrow[:, channels]).view_as(convolved), convolved)
            kernel = wide[2][channels]
            of_hidden, to_kernel, to_offset = torch.ops.aten.convolution_backward(
                *(as_map(below, ctx.grid), as_map(hidden, ctx.grid), kernel, [len(kernel)]),
                *([1, 1], [1, 1], [1, 1], False, [0, 0], len(kernel), [True] * 3),
            )
            of_hidden = as_tokens(of_hidden)
            if mask is not None:
                of_hidden = of_hidden.masked_fill(~mask[samples].unsqueeze(2), 0)
            of_hidden = of_hidden.flatten(0, 1)
            of_x[samples].flatten(0, 1).addmm_(of_hidden, wide[0][channels])
            of_widen[channels] += of_hidden.t() @ part
            of_bias[channels] += of_hidden.sum(0)
            of_kernel[channels] += to_kernel
            of_offset[channels] += to_offset
        sums[-1] += gradient.sum((0, 1))
        return of_x, None, None, *sums


def _tiles(x: Tensor, hidden: int) -> Iterator[tuple[slice, slice]]:
    """Samples and hidden channels of each tile, which has `TILE` values; on a GPU it is all of them."""
    samples, channels = len(x), hidden
    if not x.is_cuda:
        values = x.shape[1] * hidden
        samples, channels = max(TILE // values, 1), math.ceil(hidden / math.ceil(values / TILE))
    for sample in range(0, len(x), samples):
        for channel in range(0, hidden, channels):
            yield slice(sample, sample + samples), slice(channel, channel + channels)


def _widened(
    x: Tensor, mask: Tensor | None, grid: Grid, weights: Sequence[Tensor], samples: slice, channels: slice
) -> tuple[Tensor, Tensor]:
    """A tile before and after the depthwise convolution, which looks at neighbours and so at no masked ones."""
    widen, bias, kernel, offset = (weight[channels] for weight in weights)
    hidden = F.linear(x[samples], widen, bias)
    if mask is not None:
        hidden = hidden.masked_fill(~mask[samples].unsqueeze(2), 0)
    return hidden, as_tokens(F.conv2d(as_map(hidden, grid), kernel, offset, padding=1, groups=len(kernel)))
