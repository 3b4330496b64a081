"""What the fusions that attend share: tokens of one width, attention that honours masks, a transformer layer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from fusionkit.errors import RequestError
from fusionkit.flow import Features, FeatureSpec

SPREAD = 4
"""Tokens that a single one is spread over."""


@dataclass(frozen=True)
class Tokens:
    """Tokens to attend to, and which of them are real; None means all."""

    value: Float[Tensor, "B N D"]
    mask: Bool[Tensor, "B N"] | None = None

    @property
    def mean(self) -> Float[Tensor, "B D"]:
        """Over the real ones; zero where there is none."""
        return Features(self.value, mask=self.mask).pooled


def together(tokens: list[Tokens]) -> Tokens:
    """Several sequences as one."""
    value = torch.cat([part.value for part in tokens], 1)
    if all(part.mask is None for part in tokens):
        return Tokens(value)
    masks = [
        part.value.new_ones(part.value.shape[:2], dtype=torch.bool) if part.mask is None else part.mask
        for part in tokens
    ]
    return Tokens(value, torch.cat(masks, 1))


class Tokenizers(nn.Module):
    """Brings every modality's tokens to one width: LayerNorm, linear layer, learned positions, for each its own.

    The positions also tell the modalities apart. A modality of a single token, a vector, is spread over four by its
    linear layer: a softmax over one key is one whatever the query, and passes no gradient to it.

    Args:
        inputs: per modality, the shape of its features.
        dim: D.
    """

    def __init__(self, inputs: Mapping[str, FeatureSpec], dim: int):
        super().__init__()
        self.dim = dim
        self.layers, self.positions = nn.ModuleDict(), nn.ParameterDict()
        for name, spec in inputs.items():
            copies = SPREAD if spec.tokens == 1 else 1
            self.layers[name] = nn.Sequential(nn.LayerNorm(spec.dim), nn.Linear(spec.dim, copies * dim))
            self.positions[name] = nn.Parameter(nn.init.trunc_normal_(torch.empty(copies * spec.tokens, dim), std=0.02))

    def forward(self, features: Mapping[str, Features]) -> dict[str, Tokens]:
        made = {}
        for name, layer in self.layers.items():
            value, mask = features[name].tokens, features[name].token_mask
            if mask is not None:  # what is not real may be NaN
                value = value.masked_fill(~mask.unsqueeze(2), 0)
            spread = layer(value)
            copies = spread.shape[2] // self.dim
            if mask is not None:
                mask = mask.repeat_interleave(copies, 1)
            made[name] = Tokens(spread.reshape(len(value), -1, self.dim) + self.positions[name], mask)
        return made


class Attention(nn.Module):
    """Multi-head attention (Vaswani et al., Attention Is All You Need, NeurIPS 2017) over keys that may be masked.

    Where no key is real, the result is zero.

    Args:
        dim: D.
        heads: number of heads, which divides D.
        dropout: of attention weights.

    Raises:
        RequestError: the heads do not divide D.
    """

    def __init__(self, dim: int, heads: int, dropout: float):
        super().__init__()
        if dim % heads:
            raise RequestError(f"{heads} heads do not divide a width of {dim}")
        self.heads, self.dropout = heads, dropout
        self.query, self.key_value = nn.Linear(dim, dim), nn.Linear(dim, 2 * dim)
        self.out = nn.Linear(dim, dim)

    def forward(self, x: Float[Tensor, "B N D"], context: Tokens) -> Float[Tensor, "B N D"]:
        query, key, value, allowed, nothing = self._parts(x, context)
        rate = self.dropout if self.training else 0.0
        read = F.scaled_dot_product_attention(query, key, value, allowed, rate)
        return self._merged(read, nothing)

    def with_weights(
        self, x: Float[Tensor, "B N D"], context: Tokens
    ) -> tuple[Float[Tensor, "B N D"], Float[Tensor, "B heads N S"]]:
        """The same, and the weights, which the kernels of `forward` never write down; without dropout of weights."""
        query, key, value, allowed, nothing = self._parts(x, context)
        scores = query @ key.transpose(2, 3) / query.shape[3] ** 0.5
        weights = (scores if allowed is None else scores.masked_fill(~allowed, -torch.inf)).softmax(3)
        if nothing is not None:
            weights = weights.masked_fill(nothing.unsqueeze(3), 0)
        return self._merged(weights @ value, nothing), weights

    def _parts(self, x: Tensor, context: Tokens) -> tuple[Tensor, Tensor, Tensor, Tensor | None, Tensor | None]:
        """Query, key and value by head; which keys may be read, `[B, 1, 1, S]`; who has none, `[B, 1, 1]`."""
        query = self.query(x).unflatten(2, (self.heads, -1)).transpose(1, 2)
        key, value = self.key_value(context.value).unflatten(2, (2, self.heads, -1)).permute(2, 0, 3, 1, 4)
        if context.mask is None:
            return query, key, value, None, None
        nothing = ~context.mask.any(1)[:, None, None]
        return query, key, value, (context.mask[:, None, None] | nothing.unsqueeze(3)), nothing

    def _merged(self, read: Tensor, nothing: Tensor | None) -> Tensor:
        out = self.out(read.transpose(1, 2).flatten(2))
        return out if nothing is None else out.masked_fill(nothing, 0)


class Layer(nn.Module):
    """A transformer layer with the norms first: x += Attention(LN x, LN c), x += FFN(LN x).

    The context c is that of another modality, or nothing: then x attends to itself.

    Args:
        dim: D.
        heads: of the attention.
        dropout: of attention weights and of both updates.
        cross: whether there will be a context.
    """

    def __init__(self, dim: int, heads: int, dropout: float, *, cross: bool):
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.context_norm = nn.LayerNorm(dim) if cross else None
        self.attention = Attention(dim, heads, dropout)
        self.feed_forward = nn.Sequential(
            nn.LayerNorm(dim), nn.Linear(dim, 4 * dim), nn.GELU(), nn.Dropout(dropout), nn.Linear(4 * dim, dim)
        )
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tokens, context: Tokens | None = None) -> Tokens:
        return self._after(x, self.attention(*self._read(x, context)))

    def with_weights(self, x: Tokens, context: Tokens | None = None) -> tuple[Tokens, Float[Tensor, "B heads N S"]]:
        """The same, and what the attention looked at."""
        update, weights = self.attention.with_weights(*self._read(x, context))
        return self._after(x, update), weights

    def _read(self, x: Tokens, context: Tokens | None) -> tuple[Tensor, Tokens]:
        normed = self.norm(x.value)
        if context is None or self.context_norm is None:
            return normed, Tokens(normed, x.mask)
        return normed, Tokens(self.context_norm(context.value), context.mask)

    def _after(self, x: Tokens, update: Tensor) -> Tokens:
        value = x.value + self.dropout(update)
        return Tokens(value + self.dropout(self.feed_forward(value)), x.mask)
