"""Semantic matching."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from fusionkit_fusions.semantic_matching import SemanticMatching
from scipy.special import softmax

from fusionkit.errors import ShapeError


@pytest.mark.parametrize("similarity", ["inner", "cosine"])
def test_embeddings_are_posteriors(shapes, features, similarity):
    inputs, given = shapes(2), features(shapes(2))
    fusion = SemanticMatching(inputs, similarity=similarity)
    branches = {name: torch.randn(5, 4) for name in inputs}
    _, second = inputs
    lacking = given | {second: replace(given[second], present=torch.tensor([True, False, True, True, True]))}
    found = fusion.embed_pair(fusion(lacking), branches, lacking).numpy()
    one, other = (softmax(branches[name].numpy(), axis=1) for name in inputs)
    if similarity == "cosine":
        one, other = (p / np.linalg.norm(p, axis=1, keepdims=True) for p in (one, other))
    other[1] = 0
    np.testing.assert_allclose(found, np.hstack([one, other]), rtol=1e-5)
    if similarity == "inner":
        same = sum(one[2, c] * other[3, c] for c in range(4))
        assert found[2, :4] @ found[3, 4:] == pytest.approx(same, rel=1e-5)


@pytest.mark.parametrize("count", [1, 3])
def test_two_modalities(shapes, count):
    with pytest.raises(ShapeError, match=f"two modalities, not {count}"):
        SemanticMatching(shapes(count))
