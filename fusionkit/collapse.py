"""Whether embeddings that are compared still tell samples apart, watched while they are learned.

Healthy runs differ by data, width, batch and method: a few classes leave a low rank, an encoder begins with a cone of
nearly one direction, a long warm-up keeps it for a thousand steps. No figure is therefore judged by itself, but beside
what it was when the watch began:

- to a point: a modality's `uniformity` has come to a quarter or less of what it was, and nearer to zero than classes or
  a contrast on its way bring it: two classes of which one has 95 % of the samples have log(.95^2 + .05^2) = -.10 where
  each is a point. Where no term pushes anything apart, half of what it was is enough: there is one way to go.
- to few directions: the `effective_rank` has fallen to `FEWER` of what it was, while the temperature stays where a
  perfect match weighs less than `ODDS` times as much as what is unrelated, e^(1 / temperature). At lower temperatures a
  fall is no news: what data tell of each other may have two dimensions, or as many as there are classes.
- to a hub: the nearest candidate of half the queries has become one and the same that none of them belongs to.

Each has to be seen twice in a row.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

POINT, TIGHTER, UNOPPOSED = -0.05, 0.25, 0.5
FEWER, ODDS = 0.75, 5.0
HUB, NO_HUB = 0.5, 0.25
SAME = -1e-3
"""A uniformity above this is that of embeddings all alike, whatever it was when the watch began."""


@dataclass(frozen=True)
class Look:
    """What the embeddings of a training batch are like.

    Args:
        samples: that have both modalities.
        uniformity, rank: per modality.
        hub: per direction, the share of queries that have one and the same wrong candidate as their nearest.
        temperature: of the contrast; None where it has none, or it is not known.
    """

    samples: int
    uniformity: Mapping[str, float]
    rank: Mapping[str, float]
    hub: Mapping[str, float]
    temperature: float | None = None


@dataclass(frozen=True)
class Facts:
    """What a diagnosis looks at besides the embeddings.

    Args:
        losses: the names of the terms of the loss.
        pushes: whether one of them pushes different samples, or classes, apart.
        lr: the learning rate.
    """

    losses: tuple[str, ...]
    pushes: bool
    lr: float


class Collapse:
    """Is shown one look after the other, and says once of each kind of collapse what has happened."""

    def __init__(self, facts: Facts):
        self.facts = facts
        self.first: Look | None = None
        self.suspected: set[str] = set()
        self.told: set[str] = set()

    def show(self, now: Look) -> list[str]:
        """What is to be told after this look: the symptom, the likely cause and its remedy."""
        if self.first is None:
            self.first = now
        found = symptoms(self.first, now, pushes=self.facts.pushes)
        news = {kind: text for kind, text in found.items() if kind in self.suspected and kind not in self.told}
        self.suspected = set(found)
        if self.told or not news:  # what follows the first is the same collapse
            return []
        self.told |= news.keys()
        text = next(iter(news.values()))
        return [f"the embeddings collapse: {text}. {self._cause(now)}"]

    def _cause(self, now: Look) -> str:
        """The likely cause, and what to do."""
        if not self.facts.pushes:
            named = " and ".join(self.facts.losses)
            return (
                f"Nothing in the loss ({named}) pushes different samples apart; add a term that has negatives, such as "
                "info_nce"
            )
        if now.temperature is not None and _is_flat(now.temperature):
            return (
                f"The temperature is {now.temperature:g}, at which a perfect match weighs only "
                f"{_odds(now.temperature):.2g} times as much as an unrelated sample; begin at 0.07 and let it learn"
            )
        if now.samples < 16:
            return f"A batch has {now.samples} samples, which are few negatives; raise data.batch_size"
        return f"The steps may be too long; lower train.lr ({self.facts.lr:g}) or set train.warmup_steps"


def symptoms(first: Look, now: Look, *, pushes: bool) -> dict[str, str]:
    """What has happened since the first look, by kind; empty where all is well."""
    found = {}
    for name, value in now.uniformity.items():
        was = first.uniformity.get(name, 0.0)
        tighter = value > max(POINT, TIGHTER * was) if pushes else value > UNOPPOSED * was
        if tighter or value > SAME:
            found["point"] = f"those of {name} close in on one point (uniformity {value:.2g}, {was:.2g} at first)"
    for way, share in now.hub.items():
        if share > HUB and first.hub.get(way, 1.0) < NO_HUB:
            found["hub"] = f"{share:.0%} of the queries {way} find the same wrong one nearest"
    stays = now.temperature is not None and now.temperature == first.temperature
    if stays and now.temperature is not None and _is_flat(now.temperature):
        for name, value in now.rank.items():
            was = first.rank.get(name, 0.0)
            if value < FEWER * was:
                found["rank"] = (
                    f"those of {name} keep to few directions (effective rank {value:.1f}, {was:.1f} at first)"
                )
    return found


def _odds(temperature: float) -> float:
    """How much more a perfect match, of cosine 1, weighs in a softmax than what is unrelated, of cosine 0."""
    return math.exp(min(1 / temperature, 700))


def _is_flat(temperature: float) -> bool:
    return _odds(temperature) < ODDS
