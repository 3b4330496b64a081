"""Feature-wise linear modulation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from jaxtyping import Float
from pydantic import PositiveInt
from torch import Tensor, nn

from fusionkit.contract import Fusion
from fusionkit.errors import RequestError
from fusionkit.flow import Features, FeatureSpec
from fusionkit_fusions.projection import without


class FiLM(Fusion):
    """One modality's features, scaled and shifted channel by channel as the others say.

    Perez, Strub, de Vries, Dumoulin and Courville, FiLM: Visual Reasoning with a General Conditioning Layer, AAAI
    2018. Its residual block on the target's tokens x, with y_m the pooled features of the others:

        u = ReLU(Conv_1x1 x),    v = norm(Conv_3x3 u),    gamma = 1 + sum_m G_m y_m,    beta = sum_m B_m y_m,
        h = mean over the tokens of (u + ReLU(gamma * v + beta)).

    Where the target has no map, a linear layer stands for the 3x3 convolution. The norm is over the channels of a
    token instead of over the batch, which padding and absent samples would enter. An absent modality's G_m y_m
    and B_m y_m are zero, and with none left gamma is 1 and beta 0, as with one modality; an absent target is zero.

    Args:
        inputs: per modality, the shape of its features.
        dim: width of the block and of the result.
        target: the modality that is modulated; by default the first.

    Raises:
        RequestError: there is no such modality.
    """

    def __init__(self, inputs: Mapping[str, FeatureSpec], *, dim: PositiveInt = 256, target: str | None = None):
        super().__init__(inputs)
        self.target = next(iter(inputs)) if target is None else target
        if self.target not in inputs:
            raise RequestError(f"film: target {target!r} is none of the modalities ({', '.join(inputs)})")
        spec = inputs[self.target]
        self.entry = nn.Linear(spec.dim, dim)
        self.middle = nn.Linear(dim, dim) if spec.grid is None else nn.Conv2d(dim, dim, 3, padding=1)
        self.norm = nn.LayerNorm(dim, elementwise_affine=False)
        self.modulate = nn.ModuleDict(
            {name: nn.Linear(other.dim, 2 * dim) for name, other in inputs.items() if name != self.target}
        )

    def forward(self, features: dict[str, Features]) -> Float[Tensor, "B D"]:
        target = features[self.target]
        keep = target.token_mask
        tokens = target.tokens if keep is None else target.tokens.masked_fill(~keep.unsqueeze(2), 0)
        hidden = self.entry(tokens).relu()
        if target.mask is not None:
            hidden = hidden.masked_fill(~target.mask.unsqueeze(2), 0)  # padding stays zero to the convolution
        inner = self.norm(self._middle(replace(target, tokens=hidden)))
        shift = inner.new_zeros(inner.shape[0], 2 * inner.shape[2])
        for name, layer in self.modulate.items():
            shift = shift + without(layer(features[name].pooled), features[name])
        gamma, beta = shift.unsqueeze(1).chunk(2, dim=2)
        made = hidden + ((1 + gamma) * inner + beta).relu()
        # An absent target's tokens are zero and count: the others still speak through beta.
        return Features(made, mask=target.mask).pooled

    def _middle(self, hidden: Features) -> Float[Tensor, "B N D"]:
        if hidden.grid is None:
            return self.middle(hidden.tokens)
        return Features.from_map(self.middle(hidden.map)).tokens
