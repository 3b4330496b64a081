"""Feature sequences, ragged or not."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Literal

import torch
from jaxtyping import Bool, Float
from pydantic import PositiveInt
from torch import Tensor, nn
from torch.nn import functional as F

from fusionkit.contract import Encoder
from fusionkit.errors import ShapeError
from fusionkit.flow import Features, InputSpec
from fusionkit.options import Probability


class Sequence(Encoder):
    """One token a time step; each layer is a stage. What stands in steps that are not valid changes nothing.

    Args:
        spec: `(T, D)`.
        variant: "gru" reads the steps in both directions (Cho et al., EMNLP 2014), over gaps as if they were not there.
            "transformer" is a pre-norm encoder with sinusoidal positions (Vaswani et al., NeurIPS 2017). "tcn" has
            residual pairs of convolutions that look both ways, dilated 1, 2, 4, ... (Bai et al., arXiv 1803.01271,
            there causal).
        width: of the tokens.
        layers: number of layers.
        dropout: on the embedded steps and in every layer.
        heads: of the transformer.
        kernel: steps that a convolution of the TCN sees; odd.

    Raises:
        ShapeError: the modality is no sequence, or width, heads and kernel do not fit.
    """

    def __init__(
        self,
        spec: InputSpec,
        *,
        variant: Literal["gru", "transformer", "tcn"] = "gru",
        width: PositiveInt = 128,
        layers: PositiveInt = 2,
        dropout: Probability = 0.2,
        heads: PositiveInt = 4,
        kernel: PositiveInt = 3,
    ):
        super().__init__(spec)
        if len(spec.shape) != 2:
            hint = "; use mlp" if len(spec.shape) == 1 else ""
            raise ShapeError(f"sequence reads sequences T x D, not {spec}{hint}")
        steps, features = spec.shape
        self.enter = nn.Linear(features, width)
        self.dropout = nn.Dropout(dropout)
        positions = sinusoids(steps, width) if variant == "transformer" else None
        self.register_buffer("positions", positions, persistent=False)
        for layer in range(layers):
            if variant == "gru":
                self.stages.append(GRULayer(width, dropout))
            elif variant == "transformer":
                self.stages.append(TransformerLayer(width, heads, dropout))
            else:
                self.stages.append(ConvolutionLayer(width, kernel, 2**layer, dropout))
        self.norm = nn.LayerNorm(width)

    positions: Tensor | None

    def embed(self, value: Float[Tensor, "B T D"], valid: Bool[Tensor, "B T"] | None) -> Features:
        if valid is not None:
            value = value.masked_fill(~valid.unsqueeze(-1), 0)  # zero times a weight is zero, infinity is not
        tokens = self.enter(value)
        if self.positions is not None:
            tokens = tokens + self.positions
        return Features(self.dropout(tokens), mask=valid)

    def step(self, stage: int, features: Features) -> Features:
        return replace(features, tokens=self.stages[stage](features.tokens, features.mask))

    def finish(self, features: Features) -> Features:
        return replace(features, tokens=self.norm(features.tokens))


class GRULayer(nn.Module):
    """Two gated recurrent units, one for each direction, and a residual connection.

    Valid steps are moved to the front, so that neither direction meets any other before them.
    """

    def __init__(self, width: int, dropout: float):
        super().__init__()
        if width % 2:
            raise ShapeError(f"sequence: a GRU in two directions needs an even width, not {width}")
        self.norm = nn.LayerNorm(width)
        self.ahead = nn.GRU(width, width // 2, batch_first=True)
        self.back = nn.GRU(width, width // 2, batch_first=True)
        self.dropout = nn.Dropout(dropout)

    def forward(self, tokens: Float[Tensor, "B T D"], mask: Bool[Tensor, "B T"] | None) -> Float[Tensor, "B T D"]:
        x = self.norm(tokens)
        if mask is None:
            read = torch.cat([self.ahead(x)[0], self.back(x.flip(1))[0].flip(1)], dim=-1)
        else:
            order = torch.argsort(~mask, dim=1, stable=True)  # valid steps first, in their order
            x = _take(x, order)
            length = mask.sum(1, keepdim=True)
            step = torch.arange(mask.shape[1], device=mask.device).expand_as(mask)
            mirrored = torch.where(step < length, length - 1 - step, step)
            back = _take(self.back(_take(x, mirrored))[0], mirrored)
            read = _take(torch.cat([self.ahead(x)[0], back], dim=-1), torch.argsort(order, dim=1))
        return tokens + self.dropout(read)


def _take(tokens: Float[Tensor, "B T D"], steps: Tensor) -> Float[Tensor, "B T D"]:
    return tokens.gather(1, steps.unsqueeze(-1).expand_as(tokens))


class TransformerLayer(nn.Module):
    """A pre-norm transformer layer that attends to valid steps alone."""

    def __init__(self, width: int, heads: int, dropout: float):
        super().__init__()
        if width % heads:
            raise ShapeError(f"a width of {width} cannot be split among {heads} heads")
        self.layer = nn.TransformerEncoderLayer(
            width, heads, 4 * width, dropout, activation=F.gelu, batch_first=True, norm_first=True
        )

    def forward(self, tokens: Float[Tensor, "B T D"], mask: Bool[Tensor, "B T"] | None) -> Float[Tensor, "B T D"]:
        if mask is None:
            return self.layer(tokens)
        # A sequence without any valid step would have a softmax over nothing; what it attends to is masked later.
        return self.layer(tokens, src_key_padding_mask=~mask & mask.any(1, keepdim=True))


class ConvolutionLayer(nn.Module):
    """Two dilated convolutions with norms and a residual connection; steps that are not valid are zero to both."""

    def __init__(self, width: int, kernel: int, dilation: int, dropout: float):
        super().__init__()
        if kernel % 2 == 0:
            raise ShapeError(f"sequence: the kernel of a TCN must be odd, not {kernel}")
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2))
        self.convolutions = nn.ModuleList(
            nn.Conv1d(width, width, kernel, padding=dilation * (kernel // 2), dilation=dilation) for _ in range(2)
        )
        self.dropout = nn.Dropout(dropout)

    def forward(self, tokens: Float[Tensor, "B T D"], mask: Bool[Tensor, "B T"] | None) -> Float[Tensor, "B T D"]:
        x = tokens
        for norm, convolution in zip(self.norms, self.convolutions, strict=True):
            x = F.gelu(norm(x))
            if mask is not None:
                x = x.masked_fill(~mask.unsqueeze(-1), 0)
            x = self.dropout(convolution(x.transpose(1, 2)).transpose(1, 2))
        return tokens + x


def sinusoids(steps: int, width: int) -> Float[Tensor, "T D"]:
    """Sines and cosines of geometrically falling frequencies, one pair of columns each."""
    frequencies = torch.exp(torch.arange(0, width, 2) * (-math.log(10_000) / width))
    angles = torch.arange(steps).unsqueeze(1) * frequencies
    return torch.stack([angles.sin(), angles.cos()], dim=2).flatten(1)[:, :width]
