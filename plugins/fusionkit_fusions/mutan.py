"""MUTAN: bilinear fusion with a Tucker decomposition."""

from __future__ import annotations

from collections.abc import Mapping

from jaxtyping import Float
from pydantic import PositiveInt
from torch import Tensor, nn

from fusionkit.contract import Fusion
from fusionkit.errors import ShapeError
from fusionkit.flow import Features, FeatureSpec
from fusionkit.options import Probability
from fusionkit_fusions.projection import without


class MUTAN(Fusion):
    """A bilinear map of two modalities: Tucker decomposition with a core of rank R in each slice.

    Ben-younes, Cadene, Cord and Thome, MUTAN: Multimodal Tucker Fusion for Visual Question Answering, ICCV 2017.
    With x and y the pooled features,

        x~ = tanh(W_x x),    y~ = tanh(W_y y),    h = sum_r (M_r x~) * (N_r y~);

    the head behind the fusion is the decomposition's W_o. An absent modality's factor M_r x~ is one: the other alone
    decides.

    Args:
        inputs: per modality, the shape of its features.
        dim: width of the result.
        width: of x~ and y~.
        rank: R, how many products are added up.
        dropout: on x~ and y~.

    Raises:
        ShapeError: there are not two modalities.
    """

    def __init__(
        self,
        inputs: Mapping[str, FeatureSpec],
        *,
        dim: PositiveInt = 256,
        width: PositiveInt = 128,
        rank: PositiveInt = 5,
        dropout: Probability = 0.1,
    ):
        super().__init__(inputs)
        if len(inputs) != 2:
            raise ShapeError(f"mutan is a product of two modalities, not {len(inputs)} ({', '.join(inputs)})")
        self.rank = rank
        self.project = nn.ModuleDict(
            {
                name: nn.Sequential(
                    nn.Linear(spec.dim, width), nn.Tanh(), nn.Dropout(dropout), nn.Linear(width, rank * dim)
                )
                for name, spec in inputs.items()
            }
        )

    def forward(self, features: dict[str, Features]) -> Float[Tensor, "B D"]:
        one, other = (
            without(layer(features[name].pooled), features[name], 1.0) for name, layer in self.project.items()
        )
        return (one * other).unflatten(1, (self.rank, -1)).sum(1)
