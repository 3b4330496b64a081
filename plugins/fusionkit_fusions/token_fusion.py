"""TokenFusion: tokens that say little give way to those of the other modalities."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise

import torch
from jaxtyping import Bool, Float
from pydantic import NonNegativeFloat, PositiveInt
from torch import Tensor, nn
from torch.nn import functional as F

from fusionkit.contract import Fusion
from fusionkit.flow import Features, FeatureSpec, Fused
from fusionkit.options import Probability
from fusionkit_fusions.attention import Attention, Tokens
from fusionkit_fusions.projection import presence

Place = int | tuple[int, int]


class TokenFusion(Fusion):
    """Shared transformer layers with private norms, and an exchange of tokens within each.

    Wang, Chen, Cao, Huang, Sun, Wang: "Multimodal Token Fusion for Vision Transformers", CVPR 2022, as in the authors'
    code for maps of one grid. In each layer a private network scores every token, s in (0, 1), and with u the update of
    the shared attention:

        u_m[n] <- s_m[n] u_m[n]
        u_m[n] <- u_m'[n]  where s_m[n] < threshold       (more than two modalities: the mean of the others)
        x_m += u_m,  x_m += MLP(LN_m x_m)

    the exchange reading all from before it. Scores are driven to zero by their L1 norm, the penalty `token_l1`: here a
    mean over samples and tokens, summed over layers and modalities; the authors' code sums over all, so the same weight
    acts as many times less as a batch has tokens. Without the loss `token_l1` nothing is exchanged.

    The tokens of all modalities have to lie at the same places. Here maps are brought to the grid of the largest by
    averaging, and a sequence, a vector too, is spread evenly over its cells; only between maps of one scene does that
    mean that what is exchanged lay at the same place. The paper's alignment by camera geometry is a matter of the data.
    Only modalities that a sample has give tokens away. The result is the mean over the modalities present of LN of
    their mean token.

    Args:
        inputs: per modality, the shape of its features.
        threshold: the score below which a token gives way.
        dim: width of the tokens and of the result.
        heads: of each attention.
        depth: layers.
        dropout: of attention weights and updates.
    """

    def __init__(
        self,
        inputs: Mapping[str, FeatureSpec],
        *,
        threshold: NonNegativeFloat = 0.02,
        dim: PositiveInt = 128,
        heads: PositiveInt = 4,
        depth: PositiveInt = 2,
        dropout: Probability = 0.1,
    ):
        super().__init__(inputs)
        self.place = _place(inputs.values())
        count = self.place if isinstance(self.place, int) else self.place[0] * self.place[1]
        self.project = nn.ModuleDict(
            {name: nn.Sequential(nn.LayerNorm(spec.dim), nn.Linear(spec.dim, dim)) for name, spec in inputs.items()}
        )
        self.positions = nn.ParameterDict(
            {name: nn.Parameter(nn.init.trunc_normal_(torch.empty(count, dim), std=0.02)) for name in inputs}
        )
        self.layers = nn.ModuleList(SharedLayer(list(inputs), dim, heads, dropout, threshold) for _ in range(depth))
        self.norms = nn.ModuleDict({name: nn.LayerNorm(dim) for name in inputs})

    def forward(self, features: dict[str, Features]) -> Fused:
        present = presence(features)
        tokens, masks = [], []
        for name, project in self.project.items():
            value, mask = _placed(features[name], self.place)
            tokens.append(project(value) + self.positions[name])
            masks.append(mask)
        x, mask = torch.stack(tokens), torch.stack(masks)
        penalty = x.new_zeros(())
        for layer in self.layers:
            x, scores = layer(x, mask, present)
            penalty = penalty + scores.mean((1, 2)).sum()
        means = [Tokens(value, real).mean for value, real in zip(x, mask, strict=True)]
        spoken = torch.stack([norm(mean) for norm, mean in zip(self.norms.values(), means, strict=True)])
        vector = spoken.masked_fill(~present.unsqueeze(2), 0).sum(0) / present.sum(0).clamp(min=1).unsqueeze(1)
        return Fused(vector, penalties={"token_l1": penalty})


class SharedLayer(nn.Module):
    """A transformer layer whose weights all modalities share, save norms and scores, with the exchange in it.

    Args:
        names: of the modalities.
        dim: D.
        heads: of the attention.
        dropout: of attention weights and updates.
        threshold: the score below which a token gives way.
    """

    def __init__(self, names: Sequence[str], dim: int, heads: int, dropout: float, threshold: float):
        super().__init__()
        self.threshold = threshold
        self.norms = nn.ModuleDict({name: nn.LayerNorm(dim) for name in names})
        self.attention = Attention(dim, heads, dropout)
        self.mlp_norms = nn.ModuleDict({name: nn.LayerNorm(dim) for name in names})
        self.mlp = nn.Sequential(nn.Linear(dim, 4 * dim), nn.GELU(), nn.Dropout(dropout), nn.Linear(4 * dim, dim))
        self.dropout = nn.Dropout(dropout)
        self.scores = nn.ModuleDict({name: _score_network(dim) for name in names})

    def forward(
        self, x: Float[Tensor, "M B N D"], mask: Bool[Tensor, "M B N"], present: Bool[Tensor, "M B"]
    ) -> tuple[Float[Tensor, "M B N D"], Float[Tensor, "M B N"]]:
        """The tokens after the layer, and their scores, zero where they are not real."""
        updates, scores = [], []
        for name, value, real in zip(self.norms, x, mask, strict=True):
            score = self.scores[name](value).sigmoid().squeeze(2)
            normed = self.norms[name](value)
            updates.append(self.attention(normed, Tokens(normed, real)) * score.unsqueeze(2))
            scores.append(score.masked_fill(~real, 0))
        scored = torch.stack(scores)
        x = x + self.dropout(exchange_tokens(torch.stack(updates), scored, mask & present.unsqueeze(2), self.threshold))
        normed = torch.stack([norm(value) for norm, value in zip(self.mlp_norms.values(), x, strict=True)])
        return x + self.dropout(self.mlp(normed)), scored


def _score_network(dim: int) -> nn.Sequential:
    layers: list[nn.Module] = [nn.LayerNorm(dim)]
    for before, after in pairwise([dim, dim, max(dim // 2, 1), max(dim // 4, 1)]):
        layers += [nn.Linear(before, after), nn.GELU()]
    return nn.Sequential(*layers, nn.Linear(max(dim // 4, 1), 1))


def exchange_tokens(
    x: Float[Tensor, "M B N D"], scores: Float[Tensor, "M B N"], real: Bool[Tensor, "M B N"], threshold: float
) -> Float[Tensor, "M B N D"]:
    """Tokens of low score become the mean of the others' real tokens at the same place, where there are any."""
    held = x.masked_fill(~real.unsqueeze(3), 0)
    others = real.sum(0) - real.long()  # [M, B, N]
    mean = (held.sum(0) - held) / others.clamp(min=1).unsqueeze(3) if len(x) > 2 else held.flip(0)
    taken = real & (scores < threshold) & (others > 0)
    return torch.where(taken.unsqueeze(3), mean, x)


def _place(specs: Iterable[FeatureSpec]) -> Place:
    """The grid of the largest map; where there is none, the greatest number of tokens."""
    specs = list(specs)
    grids = [spec.grid for spec in specs if spec.grid is not None]
    return max(grids, key=lambda grid: grid[0] * grid[1]) if grids else max(spec.tokens for spec in specs)


def _placed(features: Features, place: Place) -> tuple[Float[Tensor, "B N D"], Bool[Tensor, "B N"]]:
    """The tokens at the places that all modalities share, each the mean of the real ones around it."""
    tokens, mask = features.tokens, features.token_mask
    if mask is None:
        mask = tokens.new_ones(tokens.shape[:2], dtype=torch.bool)
    value = tokens.masked_fill(~mask.unsqueeze(2), 0).transpose(1, 2)
    share = mask.unsqueeze(1).to(value.dtype)
    if isinstance(place, tuple) and features.grid is not None:
        if features.grid != place:
            value = F.adaptive_avg_pool2d(value.unflatten(2, features.grid), place).flatten(2)
            share = F.adaptive_avg_pool2d(share.unflatten(2, features.grid), place).flatten(2)
    else:
        count = place if isinstance(place, int) else place[0] * place[1]
        if value.shape[2] != count:
            value, share = F.adaptive_avg_pool1d(value, count), F.adaptive_avg_pool1d(share, count)
    return (value / share.clamp(min=1e-6)).transpose(1, 2), share.squeeze(1) > 0
