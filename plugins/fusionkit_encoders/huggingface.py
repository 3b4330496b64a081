"""Any text encoder of Hugging Face transformers."""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import takewhile
from pickle import UnpicklingError
from typing import Annotated, Any

import torch
import transformers
from jaxtyping import Bool, Float, Int64
from pydantic import AfterValidator, PositiveInt
from safetensors import SafetensorError
from torch import Tensor, nn

from fusionkit.contract import TextEncoder
from fusionkit.errors import RequestError, ShapeError
from fusionkit.flow import Features, InputSpec
from fusionkit.options import expand_path
from fusionkit_encoders.tokenization import Pipeline, PipelineTokenizer

LENGTH = 64
LAYERED = ("bert", "roberta", "xlm-roberta")
"""Kinds of model whose embeddings and layers are run one by one here; MiniLM is of the first."""

Place = Annotated[str, AfterValidator(lambda place: str(expand_path(place)))]
"""The name of a model on the hub, or a folder, in which `~` and `${VAR}` are expanded."""


class HuggingFace(TextEncoder):
    """A pretrained text encoder: BERT, MiniLM, XLM-R and whatever else `AutoModel` knows, with its own tokenizer.

    The features are its last hidden states. Layers of BERT, RoBERTa and XLM-R, and of what is built like them, are a
    stage each; everything else is one stage. Nothing but weights is read: no code that comes with a model is run, and
    of pickled weights tensors alone are read. `train.lr_scale: {encoder.NAME: 0}` freezes it.

    Args:
        spec: text.
        model: a folder, or a name on the hub such as "bert-base-chinese", looked up in the cache under HF_HOME.
        length: the most tokens of a text, those that begin and end it counted in.
        layers: keep so many of its layers, from the first.
        download: fetch from the hub what is not in the cache.

    Raises:
        ShapeError: the modality is no text, or has more tokens than the model can read.
        RequestError: the model cannot be had, is no text encoder, or has fewer layers.
    """

    def __init__(
        self,
        spec: InputSpec,
        *,
        model: Place,
        length: PositiveInt = LENGTH,
        layers: PositiveInt | None = None,
        download: bool = False,
    ):
        super().__init__(spec)
        if not (spec.text and spec.vocabulary):
            raise ShapeError(f"huggingface reads text, not {spec}")
        with told_of(model, download), in_silence():
            loaded = _load(model, layers, download)
        hold_text(loaded, model, spec)
        self.pad = int(loaded.config.pad_token_id or 0)
        self.embeddings: nn.Module | None = None
        if loaded.config.model_type in LAYERED:
            self.embeddings = loaded.embeddings
            self.stages.extend(Layer(layer) for layer in loaded.encoder.layer)
        else:
            self.stages.append(Whole(loaded))

    @classmethod
    def tokenizer(  # type: ignore[override]  # those of the options that it needs
        cls, *, model: str, length: int = LENGTH, download: bool = False, **others: Any
    ) -> PretrainedTokenizer:
        return pretrained_tokenizer(model, length, download)

    def checkpoint(self) -> None:
        """Layer by layer; what is one stage here leaves it to transformers, which knows its layers."""
        whole = self.stages[0]
        if not isinstance(whole, Whole):
            super().checkpoint()
        elif whole.model.supports_gradient_checkpointing:
            whole.model.activation_checkpointing_enable()

    def embed(self, value: Int64[Tensor, "B T"], valid: Bool[Tensor, "B T"] | None) -> Features:
        if valid is not None:
            value = value.masked_fill(~valid, self.pad)
        whole = self.stages[0] if self.embeddings is None else None
        embed = whole.model.get_input_embeddings() if isinstance(whole, Whole) else self.embeddings
        return Features(embed(value), mask=valid)  # type: ignore[misc]

    def step(self, stage: int, features: Features) -> Features:
        mask = features.mask
        if mask is not None:  # attention over nothing would be no number; what it makes is masked later
            mask = mask | ~mask.any(1, keepdim=True)
        return replace(features, tokens=self.stages[stage](features.tokens, mask))


class PretrainedTokenizer(PipelineTokenizer):
    """The tokenizer of a pretrained model, which learns nothing.

    Args:
        pipeline: of the model.
        length: the most tokens of a text; its end token is kept where it is cut.
        unknown: the id of a text that has no token.
    """

    def __init__(self, pipeline: Pipeline, length: int, unknown: int):
        super().__init__(length, 1 + max(pipeline.get_vocab(with_added_tokens=True).values()))
        pipeline.no_padding()
        pipeline.enable_truncation(length)
        self._learned, self.unknown = pipeline, unknown

    def fit(self, texts: Sequence[str]) -> None:
        """Nothing: its tokens are those of the model."""

    @property
    def opening(self) -> int:
        """How many tokens it puts before a text."""
        return sum(1 for _ in takewhile(bool, self.pipeline.encode("a").special_tokens_mask))


def pretrained_tokenizer(model: str, length: int, download: bool) -> PretrainedTokenizer:
    """The tokenizer of a model, for texts of at most `length` tokens.

    Raises:
        RequestError: it cannot be had, a run cannot keep a copy of it, or it leaves no room for a text.
    """
    with told_of(model, download), in_silence():
        loaded = transformers.AutoTokenizer.from_pretrained(
            model, local_files_only=not download, trust_remote_code=False
        )
    pipeline = getattr(loaded, "backend_tokenizer", None)
    if not isinstance(pipeline, Pipeline):
        raise RequestError(f"the tokenizer of {model} is no fast one, and a run can keep a copy of those alone")
    ends = pipeline.num_special_tokens_to_add(False)
    if length <= ends:
        raise RequestError(f"the tokenizer of {model} puts {ends} tokens around a text; set length above that")
    unknown = next((one for one in (loaded.unk_token_id, loaded.eos_token_id) if one is not None), 0)
    return PretrainedTokenizer(pipeline, length, unknown)


class Layer(nn.Module):
    """A layer of a BERT."""

    def __init__(self, layer: nn.Module):
        super().__init__()
        self.layer = layer

    def forward(self, tokens: Float[Tensor, "B T D"], mask: Bool[Tensor, "B T"] | None) -> Float[Tensor, "B T D"]:
        return self.layer(tokens, None if mask is None else mask[:, None, None])


class Whole(nn.Module):
    """A model in one piece, behind its table of words."""

    def __init__(self, model: Any):
        super().__init__()
        self.model = model

    def forward(self, tokens: Float[Tensor, "B T E"], mask: Bool[Tensor, "B T"] | None) -> Float[Tensor, "B T D"]:
        if mask is not None and mask.is_meta:  # the library asks what stands in it
            mask = None
        return self.model(inputs_embeds=tokens, attention_mask=mask).last_hidden_state


def _load(name: str, layers: int | None, download: bool) -> Any:
    """The model, with its weights unless it is built on the meta device."""
    where: Any = {"local_files_only": not download, "trust_remote_code": False}
    config = transformers.AutoConfig.from_pretrained(name, **where)
    if config.is_encoder_decoder or not hasattr(config, "vocab_size"):
        raise RequestError(f"{name} ({config.model_type}) is no text encoder; take one such as bert-base-uncased")
    config.use_cache = False
    if layers is not None:
        if layers > config.num_hidden_layers:
            raise RequestError(f"{name} has {config.num_hidden_layers} layers, fewer than {layers}")
        config.num_hidden_layers = layers
    kind: Any = {"attn_implementation": "sdpa"} if config.model_type in LAYERED else {}
    if torch.get_default_device().type == "meta":  # shapes are proven there, and there is nothing to load into
        model = transformers.AutoModel.from_config(config, trust_remote_code=False, **kind)
    else:
        model, found = transformers.AutoModel.from_pretrained(
            name, config=config, dtype=torch.float32, weights_only=True, output_loading_info=True, **where, **kind
        )
        if missing := sorted(key for key in found["missing_keys"] if not key.startswith("pooler.")):
            raise RequestError(f"the weights of {name} lack {len(missing)} of its tensors, such as {missing[0]}")
    if getattr(model, "pooler", None) is not None:
        model.pooler = None  # behind the hidden states; it would never learn
    return model


def hold_text(model: Any, name: str, spec: InputSpec) -> None:
    """Refuse texts that are too long for the model, and ids that it does not have."""
    table = model.get_input_embeddings()
    if spec.vocabulary > table.num_embeddings:
        raise ShapeError(f"{name} has vectors for {table.num_embeddings} tokens, and its tokenizer {spec.vocabulary}")
    positions = getattr(getattr(model, "embeddings", None), "position_embeddings", None)
    most = getattr(model.config, "max_position_embeddings", None) or math.inf
    if isinstance(positions, nn.Embedding) and positions.padding_idx is not None:  # RoBERTa counts from behind padding
        most = positions.num_embeddings - positions.padding_idx - 1
    if spec.shape[0] > most:
        raise ShapeError(f"{name} reads texts of at most {most} tokens; set length: {most}")


@contextmanager
def told_of(name: str, download: bool) -> Iterator[None]:
    """Say in a line why a model cannot be had."""
    try:
        yield
    except (SafetensorError, UnpicklingError, EOFError, struct.error) as error:
        raise RequestError(
            f"the weights of {name} are damaged, or hold more than tensors ({type(error).__name__}); fetch them again, "
            "as safetensors if there are any"
        ) from error
    except (OSError, ValueError, ImportError, RuntimeError) as error:
        gist = next(iter(str(error).strip().splitlines()), type(error).__name__)
        if isinstance(error, OSError) and not download:
            message = f"{name} is neither a model's folder nor in the cache under HF_HOME"
            remedy = "fetch it on a machine with a connection, or set download: true"
        else:
            message, remedy = f"{name} cannot be loaded ({gist})", "is it a model of text, complete and within reach?"
        raise RequestError(f"{message}; {remedy}") from error


@contextmanager
def in_silence() -> Iterator[None]:
    """Without the library's bars and its report of weights that nobody asked for."""
    logging = transformers.utils.logging
    verbosity, bar = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bar:
            logging.enable_progress_bar()
