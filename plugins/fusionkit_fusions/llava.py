"""Images among the words of a language model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn
from torch.nn import functional as F

from fusionkit.contract import Encoder, Fusion
from fusionkit.errors import RequestError, ShapeError, suggestion
from fusionkit.flow import Features, FeatureSpec, Fused, Input
from fusionkit_fusions.projector import Projector, make_projector

IGNORED = -100
"""The label of what is no token of a text."""


@runtime_checkable
class LanguageModel(Protocol):
    """What the encoder `causal_lm` offers."""

    opening: int
    longest: float

    @property
    def predicts(self) -> bool: ...
    def read(self, tokens: Tensor) -> Tensor: ...
    def predict(self, hidden: Tensor) -> Tensor: ...


@dataclass(frozen=True)
class Words(Features):
    """The vectors of a text's tokens.

    Args:
        labels: their ids; `IGNORED` where there is none.
    """

    labels: Int64[Tensor, "B N"] | None = None


@dataclass(frozen=True)
class Sequence:
    """What a language model reads: what is real first, what is not behind it.

    Args:
        tokens: zero where not real.
        lengths: how many are real.
        place: where each token went that was given.
    """

    tokens: Float[Tensor, "B L D"]
    lengths: Int64[Tensor, " B"]
    place: Int64[Tensor, "B L"]

    @classmethod
    def of(cls, parts: list[Features]) -> Sequence:
        """These one after the other."""
        tokens = torch.cat([part.tokens for part in parts], 1)
        real = torch.cat([_real(part) for part in parts], 1)
        order = torch.argsort(real.int(), dim=1, descending=True, stable=True)
        tokens = tokens.masked_fill(~real.unsqueeze(2), 0)  # a fill: what stands in an absent slot may be infinite
        return cls(tokens.take_along_dim(order.unsqueeze(2), 1), real.sum(1), order.argsort(1))


class LLaVA(Fusion):
    """Projects the tokens of images into the space of a language model's words, and has it read both.

    Liu et al., Visual Instruction Tuning (LLaVA), NeurIPS 2023; the projector of two layers is that of Improved
    Baselines with Visual Instruction Tuning, CVPR 2024:

        Z = LM([opening, P(image), text])

    where the opening is what the model's tokenizer puts before every text, if anything. The fused vector is the last
    hidden state, of the end of the text; without a text, of the last token of the image, and zero without either. Of
    what is absent or padded the model sees nothing, and positions do not count it. Branches are means of what is read,
    P(image) and the vectors of the words, before the model has mixed them. A retrieval compares the last hidden states
    of either modality, read by itself.

    The language model is the encoder `causal_lm` of the text, whose part of the model is `encoder.NAME`; the fusion's
    own weights are those of the projectors. With `head: true` there it also predicts each token of a text from all that
    stands before it, for the loss `captioning`.

    Args:
        inputs: per modality, the shape of its features.
        text: the modality with the language model; all others are projected, each by a projector of its own.
        projector: "linear", or "mlp2x_gelu", two layers with an exact GELU between; mlp3x_gelu and so on.

    Raises:
        RequestError: there is no such modality.
        ShapeError: it is alone or has no language model, or there are more tokens than that can read.
    """

    embeds = True

    def __init__(self, inputs: Mapping[str, FeatureSpec], *, text: str, projector: Projector = "mlp2x_gelu"):
        super().__init__(inputs)
        if text not in inputs:
            raise RequestError(f"llava has no modality {text!r} to read{suggestion(text, inputs)}")
        if len(inputs) == 1:
            raise ShapeError(f"llava projects other modalities to the words of {text}, and there are none")
        self.text = text
        self.project = nn.ModuleDict(
            {
                name: make_projector(projector, spec.dim, inputs[text].dim)
                for name, spec in inputs.items()
                if name != text
            }
        )
        self._language: tuple[
            LanguageModel, ...
        ] = ()  # in a tuple: its weights are the encoder's, and not the fusion's

    def join(self, encoders: nn.ModuleDict) -> nn.ModuleDict:
        language = encoders[self.text]
        if not isinstance(language, LanguageModel):
            raise ShapeError(f"{self.text} has no causal language model; give it the encoder causal_lm")
        tokens = sum(spec.tokens for spec in self.inputs.values())
        if tokens > language.longest:
            raise ShapeError(f"{tokens} tokens in all, and the model reads {language.longest}; shorten {self.text}")
        self._language = (language,)
        return encoders

    def encode(self, encoders: nn.ModuleDict, inputs: dict[str, Input]) -> dict[str, Features]:
        """The vectors of the text's tokens; all others as ever."""
        others = nn.ModuleDict({name: encoder for name, encoder in encoders.items() if name != self.text})
        features = super().encode(others, inputs)
        text, encoder = inputs[self.text], encoders[self.text]
        assert isinstance(encoder, Encoder)  # noqa: S101 - `join` has looked
        read = replace(encoder.embed(text.value, text.valid), present=text.present)
        labels = text.value.masked_fill(~_real(read), IGNORED)
        features[self.text] = Words(read.tokens, mask=read.mask, present=read.present, labels=labels)
        return {name: features[name] for name in inputs}

    def forward(self, features: dict[str, Features]) -> Fused:
        (language,) = self._language
        projected = {name: self._projected(name, feature) for name, feature in features.items()}
        words = projected.pop(self.text)
        opening, rest = _cut(words, language.opening)
        sequence = Sequence.of([opening, *projected.values(), rest])
        hidden = language.read(sequence.tokens)
        branches = {name: (projected | {self.text: words})[name].pooled for name in features}
        fused = Fused(_last(hidden, sequence.lengths), branches=branches)
        if not (language.predicts and isinstance(words, Words) and words.labels is not None):
            return fused
        # What predicts a token stands before it, in the place of its own less one.
        before = sequence.place[:, -rest.tokens.shape[1] :] - 1
        labels = words.labels[:, language.opening :].masked_fill(before < 0, IGNORED)
        logits = language.predict(hidden.take_along_dim(before.clamp(min=0).unsqueeze(2), 1))
        return replace(fused, penalties={"captioning": caption_loss(logits, labels)})

    def embed_pair(
        self,
        vector: Float[Tensor, "B D"],
        branches: dict[str, Float[Tensor, "B K"]],
        features: dict[str, Features],
    ) -> Float[Tensor, "B _"]:
        (language,) = self._language
        if len(features) != 2:
            raise ShapeError(f"a retrieval compares two modalities, not {len(features)}")
        embeddings = []
        for name, feature in features.items():
            sequence = Sequence.of([self._projected(name, feature)])
            embeddings.append(F.normalize(_last(language.read(sequence.tokens), sequence.lengths), dim=1))
        return torch.cat(embeddings, 1)

    def _projected(self, name: str, features: Features) -> Features:
        if name == self.text:
            return features
        return Features(self.project[name](features.tokens), mask=features.mask, present=features.present)


def caption_loss(logits: Float[Tensor, "B T V"], labels: Int64[Tensor, "B T"]) -> Float[Tensor, ""]:
    """Cross-entropy, a mean over the labels of each sample and then over the samples; one without any counts zero."""
    each = F.cross_entropy(logits.float().transpose(1, 2), labels, ignore_index=IGNORED, reduction="none")
    return (each.sum(1) / (labels != IGNORED).sum(1).clamp(min=1)).mean()


def _real(features: Features) -> Bool[Tensor, "B N"]:
    mask = features.token_mask
    return features.tokens.new_ones(features.tokens.shape[:2], dtype=torch.bool) if mask is None else mask


def _cut(features: Features, count: int) -> tuple[Features, Features]:
    """The first tokens and the others."""
    real = _real(features)
    return Features(features.tokens[:, :count], mask=real[:, :count]), Features(
        features.tokens[:, count:], mask=real[:, count:]
    )


def _last(hidden: Float[Tensor, "B L D"], lengths: Int64[Tensor, " B"]) -> Float[Tensor, "B D"]:
    """What stands at the end of each sample; zero where there is nothing."""
    end = (lengths - 1).clamp(min=0)[:, None, None]
    return hidden.take_along_dim(end, 1).squeeze(1).masked_fill(lengths.unsqueeze(1) == 0, 0)
