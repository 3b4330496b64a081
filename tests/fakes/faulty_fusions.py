"""Fusions that keep every rule, and those that break one each."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from fusionkit.contract import Fusion
from fusionkit.errors import ShapeError
from fusionkit.flow import Features, Fused

D = 8


class Right(Fusion):
    """Projects, embeds the slot, attends among the tokens of all modalities, and pools. Faulty ones change a step."""

    def __init__(self, inputs, *, dropout: float = 0.1):
        super().__init__(inputs)
        self.project = nn.ModuleDict({name: nn.Linear(spec.dim, D) for name, spec in inputs.items()})
        self.slot = nn.Parameter(torch.randn(len(inputs), D))
        self.attend = nn.MultiheadAttention(D, 2, batch_first=True)
        self.out = nn.Sequential(nn.Dropout(dropout), nn.Linear(D, D))

    def forward(self, features):
        tokens, mask = self.sequence(features)
        answer, _ = self.attend(tokens, tokens, tokens, key_padding_mask=~mask & mask.any(1, keepdim=True))
        return self.out(Features(tokens + answer, mask=mask).pooled)

    def sequence(self, features) -> tuple[Tensor, Tensor]:
        tokens, masks = [], []
        for slot, (name, project) in enumerate(self.project.items()):
            mask = _mask(features[name])
            clean = features[name].tokens.masked_fill(~mask.unsqueeze(-1), 0)
            tokens.append(project(clean) + self.slot[slot])
            masks.append(mask)
        return torch.cat(tokens, 1), torch.cat(masks, 1)


def _mask(feature: Features) -> Tensor:
    mask = feature.token_mask
    return (
        torch.ones(feature.tokens.shape[:2], dtype=torch.bool, device=feature.tokens.device) if mask is None else mask
    )


class Pool(Fusion):
    """Sums projections of what is pooled; absent modalities add nothing."""

    def __init__(self, inputs):
        super().__init__(inputs)
        self.project = nn.ModuleDict({name: nn.Linear(spec.dim, D) for name, spec in inputs.items()})
        self.out = nn.Sequential(nn.Tanh(), nn.Linear(D, D))

    def forward(self, features):
        return self.out(self.vectors(features).sum(1))

    def vectors(self, features) -> Tensor:
        return torch.stack([self.vector(name, features) for name in self.project], 1)

    def vector(self, name, features) -> Tensor:
        present = _mask(features[name]).any(1, keepdim=True)
        return self.project[name](features[name].pooled).masked_fill(~present, 0)


class AcrossTheBatch(Pool):
    """Attention over [B, D], which torch takes for one sequence of B tokens."""

    def __init__(self, inputs):
        super().__init__(inputs)
        self.attend = nn.MultiheadAttention(D, 2)

    def forward(self, features):
        summed = super().forward(features)
        return summed + self.attend(summed, summed, summed)[0]


class OneKey(Right):
    """The pooled token of one modality is the only key."""

    def forward(self, features):
        tokens, mask = self.sequence(features)
        pooled = Features(tokens, mask=mask).pooled.unsqueeze(1)
        query = tokens.masked_fill(~mask.unsqueeze(-1), 0)
        return self.out((query.mean(1, keepdim=True) + self.attend(query, pooled, pooled)[0].mean(1, True)).squeeze(1))


class OneKeyApart(Pool):
    """The same with projections of their own."""

    def __init__(self, inputs):
        super().__init__(inputs)
        self.query, self.key, self.value = (nn.Linear(D, D) for _ in range(3))

    def forward(self, features):
        summed = self.vectors(features).sum(1, keepdim=True)
        weights = (self.query(summed) @ self.key(summed).transpose(1, 2)).softmax(-1)
        return self.out((summed + weights @ self.value(summed)).squeeze(1))


class FactorsInAList(Pool):
    """Low-rank factors that the optimiser never sees."""

    def __init__(self, inputs):
        super().__init__(inputs)
        self.factors = [nn.Parameter(torch.randn(D, D)) for _ in inputs]

    def vectors(self, features):
        return torch.stack([self.vector(n, features) @ f for n, f in zip(self.project, self.factors, strict=True)], 1)


class ModulesInADict(Pool):
    """Layers in a plain dict."""

    def __init__(self, inputs):
        super().__init__(inputs)
        self.more = {"second": [nn.Linear(D, D)]}

    def vectors(self, features):
        return self.more["second"][0](super().vectors(features))


class NewProjection(Pool):
    """A layer made in forward."""

    def forward(self, features):
        return nn.Linear(D, D)(super().forward(features))


class NewMatrix(Pool):
    """A random matrix made in forward."""

    def forward(self, features):
        return super().forward(features) @ torch.randn(D, D)


class LateLayer(Pool):
    """A layer made in the first forward."""

    def forward(self, features):
        if not hasattr(self, "last"):
            self.last = nn.Linear(D, D)
        return self.last(super().forward(features))


class DropoutPerSample(Pool):
    """Modality dropout with a learned token, as it should be."""

    per_batch = False
    token_at_test = True

    def __init__(self, inputs):
        super().__init__(inputs)
        self.token = nn.Parameter(torch.randn(len(inputs), D))

    def vectors(self, features):
        vectors = super().vectors(features)
        here = torch.stack([_mask(feature).any(1) for feature in features.values()], 1)
        if self.training:
            here = here & (torch.rand(1 if self.per_batch else len(here), here.shape[1], device=here.device) > 0.3)
        elif not self.token_at_test:
            return vectors
        return torch.where(here.unsqueeze(-1), vectors, self.token)


class DropoutPerBatch(DropoutPerSample):
    per_batch = True


class TokenUnusedAtTest(DropoutPerSample):
    token_at_test = False


class AbsentLast(Fusion):
    """Tokens for absent modalities stand behind those that are there, so that the others change their slots."""

    def __init__(self, inputs):
        super().__init__(inputs)
        self.enter = nn.ModuleDict({name: self.projection(spec.dim) for name, spec in inputs.items()})
        self.token = nn.Parameter(torch.randn(D))
        self.mix = nn.Sequential(nn.Flatten(), nn.Linear(D * len(inputs), D), nn.Tanh())

    def projection(self, dim):
        torch.manual_seed(0)
        return nn.Linear(dim, D)

    def forward(self, features):
        vectors = torch.stack([enter(features[name].pooled) for name, enter in self.enter.items()], 1)
        here = torch.stack([_mask(feature).any(1) for feature in features.values()], 1)
        vectors = torch.where(here.unsqueeze(-1), vectors, self.token)
        return self.mix(vectors.gather(1, self.order(here).unsqueeze(-1).expand_as(vectors)))

    def order(self, here):
        return torch.argsort(~here, dim=1, stable=True)


class AbsentInPlace(AbsentLast):
    """The same, with every token in its own slot."""

    def order(self, here):
        return torch.arange(here.shape[1], device=here.device).expand_as(here)


class TokenFromMemory(DropoutPerSample):
    """A token that is never initialised."""

    def __init__(self, inputs):
        super().__init__(inputs)
        self.token = nn.Parameter(torch.empty(len(inputs), D))


class Swallows(Pool):
    """Takes any key of a recipe."""

    def __init__(self, inputs, **kwargs):
        super().__init__(inputs)


class WritesInPlace(Pool):
    """Scales the features that it is given."""

    def forward(self, features):
        for feature in features.values():
            feature.tokens.mul_(2)
        return super().forward(features)


class WritesInExchange(Pool):
    """The same between the stages."""

    def exchange(self, stage, features):
        with torch.no_grad():
            for feature in features.values():
                feature.tokens.clamp_(max=1)
        return features


class AbsenceIgnored(Pool):
    """Reads what stands in the slots of absent modalities."""

    def vector(self, name, features):
        return self.project[name](replace(features[name], present=None).pooled)


class AbsenceMultiplied(Pool):
    """Multiplies by the mask, which leaves NaN as it is."""

    def vector(self, name, features):
        mask = _mask(features[name]).unsqueeze(-1)
        return self.project[name]((features[name].tokens * mask).sum(1) / mask.sum(1).clamp(min=1))


class AbsenceSpreads(Pool):
    """One absent modality silences it in the whole batch."""

    def vector(self, name, features):
        return super().vector(name, features) * _mask(features[name]).any(1).all()


class ReadsPadding(Pool):
    """Takes the mean over padded tokens too."""

    def vector(self, name, features):
        return super().vector(name, {name: replace(features[name], mask=None)})


class Deaf(Pool):
    """Leaves out the last modality's features and keeps its parameters busy."""

    def vector(self, name, features):
        vector = super().vector(name, features)
        if name != list(self.project)[-1]:
            return vector
        present = _mask(features[name]).any(1, keepdim=True)
        ones = torch.ones_like(features[name].pooled)
        return self.project[name](ones).masked_fill(~present, 0)


class Unused(Pool):
    """A layer that forward never calls."""

    def __init__(self, inputs):
        super().__init__(inputs)
        self.spare = nn.Linear(D, D)


class NotOfOne(Pool):
    """A batch norm over single vectors, which a batch of one has not enough of."""

    def __init__(self, inputs):
        super().__init__(inputs)
        self.out = nn.Sequential(nn.BatchNorm1d(D), nn.Linear(D, D))


class ForgottenBuffer(Pool):
    """A random projection that does not travel with the weights."""

    def __init__(self, inputs):
        super().__init__(inputs)
        self.register_buffer("random", torch.randn(D, D), persistent=False)

    def forward(self, features):
        return super().forward(features) @ self.random


class OverflowsInHalf(Pool):
    """Fills with a number that has no place in bfloat16's exponent once it is squared."""

    def forward(self, features):
        fused = super().forward(features)
        return fused if fused.dtype is torch.float32 else fused / (fused - fused)


class NeedsPresence(Pool):
    """Takes what says nothing of presence for absent."""

    def vector(self, name, features):
        vector = super().vector(name, features)
        return torch.zeros_like(vector) if features[name].present is None else vector


class ReadsValues(Pool):
    """Branches on values, which the meta device has not."""

    def forward(self, features):
        return super().forward(features) * (2 if self.vectors(features).mean().item() > 0 else 1)


class RefusesAll(Pool):
    """Takes nothing."""

    def __init__(self, inputs):
        raise ShapeError("this needs five modalities")


class Branched(Pool):
    """Decides by its branches, whose predictions it weighs by a confidence that takes no gradient to them."""

    decision = "branches"
    supervises_branches = True

    def __init__(self, inputs):
        super().__init__(inputs)
        self.weight = nn.Parameter(torch.ones(len(inputs)))

    def forward(self, features):
        vectors = dict(zip(self.project, self.vectors(features).unbind(1), strict=True))
        return Fused(torch.stack(list(vectors.values())).sum(0), branches=vectors)

    def decide(self, logits, branches, features):
        here = torch.stack([_mask(feature).any(1) for feature in features.values()])
        weights = (self.weight[:, None] * here).unsqueeze(-1)
        return (torch.stack(list(branches.values())).detach() * weights).sum(0)


class BranchedNorm(Branched):
    """Its output layer is used by nobody."""
