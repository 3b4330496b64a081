"""Any causal language model of Hugging Face transformers."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import torch
import transformers
from jaxtyping import Bool, Float, Int64
from pydantic import PositiveInt
from torch import Tensor, nn

from fusionkit.contract import TextEncoder
from fusionkit.errors import RequestError, ShapeError
from fusionkit.flow import Features, InputSpec
from fusionkit_encoders.huggingface import (
    LENGTH,
    Place,
    PretrainedTokenizer,
    hold_text,
    in_silence,
    pretrained_tokenizer,
    told_of,
)


class CausalLM(TextEncoder):
    """A pretrained language model that reads from left to right: LLaMA, Qwen, GPT-2 and whatever else
    `AutoModelForCausalLM` knows, with its own tokenizer.

    The features are its last hidden states; it is one stage. The fusion `llava` has it read tokens of images too.
    Nothing but weights is read: no code that comes with a model is run, and of pickled weights tensors alone are read.

    Args:
        spec: text.
        model: a folder, or a name on the hub such as "gpt2", looked up in the cache under HF_HOME.
        length: the most tokens of a text, those that the model has before or behind it counted in.
        head: keep the layer that predicts the next token; the loss `captioning` needs it.
        download: fetch from the hub what is not in the cache.

    Raises:
        ShapeError: the modality is no text, or has more tokens than the model can read.
        RequestError: the model cannot be had, reads in both directions, or its head is no linear layer alone.
    """

    opening: int
    """How many tokens stand before every text."""
    longest: float
    """The most tokens that the model can read."""

    def __init__(
        self,
        spec: InputSpec,
        *,
        model: Place,
        length: PositiveInt = LENGTH,
        head: bool = False,
        download: bool = False,
    ):
        super().__init__(spec)
        if not (spec.text and spec.vocabulary):
            raise ShapeError(f"causal_lm reads text, not {spec}")
        with told_of(model, download), in_silence():
            loaded = _load(model, download)
        hold_text(loaded, model, spec)
        self.opening = pretrained_tokenizer(model, length, download).opening
        self.longest = getattr(loaded.config, "max_position_embeddings", None) or math.inf
        self.head: nn.Module | None = loaded.get_output_embeddings() if head else None
        self.stages.append(Body(loaded.base_model))

    @classmethod
    def tokenizer(  # type: ignore[override]  # those of the options that it needs
        cls, *, model: str, length: int = LENGTH, download: bool = False, **others: Any
    ) -> PretrainedTokenizer:
        return pretrained_tokenizer(model, length, download)

    @property
    def predicts(self) -> bool:
        """Whether the next token can be predicted."""
        return self.head is not None

    def checkpoint(self) -> None:
        """Leave it to transformers, which knows the model's layers."""
        model: Any = self.stages[0].model
        if model.supports_gradient_checkpointing:
            model.activation_checkpointing_enable()

    def embed(self, value: Int64[Tensor, "B T"], valid: Bool[Tensor, "B T"] | None) -> Features:
        """The vectors of the tokens."""
        table: nn.Module = self.stages[0].model.get_input_embeddings()  # type: ignore[operator, union-attr]
        return Features(table(value), mask=valid)

    def step(self, stage: int, features: Features) -> Features:
        return replace(features, tokens=self.read(features.tokens))

    def read(self, tokens: Float[Tensor, "B L D"]) -> Float[Tensor, "B L D"]:
        """The last hidden states of vectors in the place of those of tokens.

        None sees what follows it, so that padding needs no mask; it has to stand behind all that is real.
        """
        hidden: Tensor = self.stages[0](tokens)
        return hidden

    def predict(self, hidden: Float[Tensor, "... D"]) -> Float[Tensor, "... V"]:
        """The logits of what follows."""
        assert self.head is not None  # noqa: S101 - the caller has looked
        logits: Tensor = self.head(hidden)
        return logits


class Body(nn.Module):
    """A language model without its head, behind its table of words."""

    def __init__(self, model: Any):
        super().__init__()
        self.model = model

    def forward(self, tokens: Float[Tensor, "B L D"]) -> Float[Tensor, "B L D"]:
        mask = None
        if tokens.is_meta:  # the library asks what stands in positions, unless it is given a mask for every head
            length = tokens.shape[1]
            mask = tokens.new_ones(len(tokens), 1, length, length, dtype=torch.bool)
        return self.model(inputs_embeds=tokens, attention_mask=mask).last_hidden_state


def _load(name: str, download: bool) -> Any:
    """The model, with its weights unless it is built on the meta device."""
    where: Any = {"local_files_only": not download, "trust_remote_code": False}
    config = transformers.AutoConfig.from_pretrained(name, **where)
    if type(config) not in transformers.AutoModelForCausalLM._model_mapping:
        raise RequestError(f"{name} ({config.model_type}) is no causal language model; take one such as gpt2")
    config.use_cache = False
    if torch.get_default_device().type == "meta":  # shapes are proven there, and there is nothing to load into
        return transformers.AutoModelForCausalLM.from_config(config, trust_remote_code=False)
    loader: Any = transformers.AutoModelForCausalLM
    model, found = loader.from_pretrained(
        name, config=config, dtype=torch.float32, weights_only=True, output_loading_info=True, **where
    )
    if missing := sorted(found["missing_keys"]):
        raise RequestError(f"the weights of {name} lack {len(missing)} of its tensors, such as {missing[0]}")
    _prove(model.eval(), name)
    return model.train()


@torch.no_grad()
def _prove(model: Any, name: str) -> None:
    """Hold a model against what is taken for granted of it: it reads from left to right, and a linear head predicts.

    BERT is among the causal models of the library too, and reads in both directions unless its configuration says
    otherwise; Gemma 2 bends its logits.
    """
    width = model.get_input_embeddings().embedding_dim
    tokens = torch.randn(2, 3, width, generator=torch.Generator().manual_seed(0))
    tokens[1, :2] = tokens[0, :2]
    hidden = model.base_model(inputs_embeds=tokens).last_hidden_state
    if not torch.allclose(hidden[0, :2], hidden[1, :2], rtol=1e-3, atol=1e-4):
        raise RequestError(f"{name} sees what follows a token, and is no causal language model")
    if not torch.allclose(
        model.get_output_embeddings()(hidden), model(inputs_embeds=tokens).logits, rtol=1e-3, atol=1e-3
    ):
        raise RequestError(f"{name} changes the logits of its head, which causal_lm cannot; take another model")
