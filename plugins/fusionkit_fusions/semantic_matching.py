"""Semantic matching."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from fusionkit.errors import ShapeError
from fusionkit.flow import Features, FeatureSpec
from fusionkit_fusions.late import Late


class SemanticMatching(Late):
    """Compares what two modalities say of the class: their embeddings are the probabilities of their branch heads.

    Rasiwasia et al., A New Approach to Cross-Modal Multimedia Retrieval, ACM Multimedia 2010, "SM". With p_m the
    posterior of modality m's classifier, an image i and a text t are compared by one of

        inner:    sum over c of p_1(c | i) p_2(c | t)                 the probability that both are of one class
        cosine:   the same, divided by the lengths of both posteriors

    For a retrieval with classes, trained by `deep_supervision`. An absent modality's part is zero. A classification
    takes the product of the posteriors, renormalised.

    Args:
        inputs: per modality, the shape of its features; two.
        similarity: "inner" lets what is sure of its class come before what is not; "cosine" ignores how sure it is.

    Raises:
        ShapeError: there are not two modalities.
    """

    embeds = True

    def __init__(self, inputs: Mapping[str, FeatureSpec], *, similarity: Literal["inner", "cosine"] = "inner"):
        super().__init__(inputs, rule="product")
        if len(inputs) != 2:
            raise ShapeError(f"semantic_matching compares two modalities, not {len(inputs)} ({', '.join(inputs)})")
        self.similarity = similarity

    def embed_pair(
        self,
        vector: Float[Tensor, "B D"],
        branches: dict[str, Float[Tensor, "B K"]],
        features: dict[str, Features],
    ) -> Float[Tensor, "B _"]:
        parts = []
        for name, branch in branches.items():
            posterior = branch.float().softmax(1)
            if self.similarity == "cosine":
                posterior = F.normalize(posterior, dim=1)
            present = features[name].present
            parts.append(posterior if present is None else posterior.masked_fill(~present.unsqueeze(1), 0))
        return torch.cat(parts, dim=1)
