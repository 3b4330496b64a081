"""Text from scratch: a tokenizer that learns from the training texts, and a small transformer."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

from jaxtyping import Bool, Int64
from pydantic import PositiveInt
from torch import Tensor, nn

from fusionkit.contract import TextEncoder
from fusionkit.errors import ShapeError
from fusionkit.flow import Features, InputSpec
from fusionkit.options import Probability
from fusionkit_encoders.sequence import TransformerLayer, sinusoids
from fusionkit_encoders.tokenization import BytePair, PipelineTokenizer, Words

LENGTH, VOCABULARY = 64, 8000


class TextTransformer(TextEncoder):
    """A pre-norm transformer (Vaswani et al., NeurIPS 2017) over tokens of its own; nothing is downloaded.

    Embedded tokens, sinusoidal positions, layers of which each is a stage, and a final norm.

    Args:
        spec: text.
        tokenizer: "bpe": pieces of words, learned as byte pairs, for any language. "word": words that the training
            texts have more than once, and every Chinese character; anything else is one unknown word.
        vocabulary: the most tokens that the tokenizer learns.
        length: the most tokens of a text; what is behind them is cut off.
        width: D.
        layers: number of layers.
        heads: of the attention in each.
        dropout: on the embedded tokens and in every layer.

    Raises:
        ShapeError: the modality is no text, or width and heads do not fit.
        RequestError: the vocabulary is too small for its kind of tokens.
    """

    positions: Tensor

    def __init__(
        self,
        spec: InputSpec,
        *,
        tokenizer: Literal["bpe", "word"] = "bpe",
        vocabulary: PositiveInt = VOCABULARY,
        length: PositiveInt = LENGTH,
        width: PositiveInt = 256,
        layers: PositiveInt = 4,
        heads: PositiveInt = 4,
        dropout: Probability = 0.1,
    ):
        super().__init__(spec)
        if not (spec.text and spec.vocabulary):
            raise ShapeError(f"text_transformer reads text, not {spec}")
        self.tokens = nn.Embedding(spec.vocabulary, width)
        self.register_buffer("positions", sinusoids(spec.shape[0], width), persistent=False)
        self.dropout = nn.Dropout(dropout)
        self.stages.extend(TransformerLayer(width, heads, dropout) for _ in range(layers))
        self.norm = nn.LayerNorm(width)

    @classmethod
    def tokenizer(
        cls,
        *,
        tokenizer: Literal["bpe", "word"] = "bpe",
        vocabulary: int = VOCABULARY,
        length: int = LENGTH,
        **others: Any,
    ) -> PipelineTokenizer:
        return (BytePair if tokenizer == "bpe" else Words)(length, vocabulary)

    def embed(self, value: Int64[Tensor, "B T"], valid: Bool[Tensor, "B T"] | None) -> Features:
        return Features(self.dropout(self.tokens(value) + self.positions[: value.shape[1]]), mask=valid)

    def step(self, stage: int, features: Features) -> Features:
        return replace(features, tokens=self.stages[stage](features.tokens, features.mask))

    def finish(self, features: Features) -> Features:
        return replace(features, tokens=self.norm(features.tokens))
