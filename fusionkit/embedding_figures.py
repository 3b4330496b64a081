"""What embeddings of two modalities are like: whether they tell samples apart, and how far apart the modalities are.

Letters in shapes: n samples, E width of an embedding. All vectors are of length one.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor


def alignment(first: Float[Tensor, "n E"], second: Float[Tensor, "n E"]) -> float:
    """The mean squared distance of what belongs together, 0 to 4.

    Wang and Isola, Understanding Contrastive Representation Learning through Alignment and Uniformity on the
    Hypersphere, ICML 2020, with alpha = 2.
    """
    return float((first - second).square().sum(1).mean())


def uniformity(vectors: Float[Tensor, "n E"]) -> float:
    """log of the mean of exp(-2 d^2) over the pairs of different samples: 0 where all are one, down to -4 and less.

    Wang and Isola, ICML 2020, with t = 2.
    """
    squared = torch.pdist(vectors).square()
    return float(torch.logsumexp(-2 * squared, 0) - torch.log(torch.tensor(float(len(squared)))))


def effective_rank(vectors: Float[Tensor, "n E"]) -> float:
    """exp of the entropy of the singular values, as shares of their sum: 1 to min(n, E).

    Roy and Vetterli, The Effective Rank: A Measure of Effective Dimensionality, EUSIPCO 2007. The mean is left in: a
    cone of vectors around one direction has a low rank.
    """
    held = vectors.double()
    gram = held @ held.T if len(held) < held.shape[1] else held.T @ held
    values = torch.linalg.eigvalsh(gram).clamp(min=0).sqrt()  # the singular values, sooner than by an SVD
    shares = values / values.sum()
    return float(torch.special.entr(shares).sum().exp())


def hub_share(
    queries: Float[Tensor, "n E"], candidates: Float[Tensor, "n E"], *, right: Bool[Tensor, "n n"] | None = None
) -> float:
    """The greatest share of queries that have one and the same candidate as their nearest, 1 / n to 1.

    The k-occurrence, k = 1, of the greatest hub (Radovanovic, Nanopoulos, Ivanovic, Hubs in Space, JMLR 2010).

    Args:
        queries, candidates: of the two modalities.
        right: which candidates are right for each query; queries that find one of those do not count, so that the
            share may be 0.
    """
    nearest = (queries @ candidates.T).argmax(1)
    counted = nearest if right is None else nearest[~right.gather(1, nearest.unsqueeze(1)).squeeze(1)]
    return float(counted.bincount(minlength=1).max()) / len(queries)


def gap(first: Float[Tensor, "n E"], second: Float[Tensor, "n E"]) -> float:
    """The distance of the centres of two modalities, 0 to 2.

    Liang, Zhang, Kwon, Yeung, Zou, Mind the Gap: Understanding the Modality Gap in Multi-modal Contrastive
    Representation Learning, NeurIPS 2022.
    """
    return float((first.mean(0) - second.mean(0)).norm())
