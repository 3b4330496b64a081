"""Text on its way to an encoder: whose tokenizer reads it, what that learns from, where it is kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from fusionkit.chosen import Chosen
from fusionkit.contract import TextEncoder, Tokenizer
from fusionkit.errors import DataError, FusionkitError, RequestError, ShapeError
from fusionkit.flow import InputSpec
from fusionkit.recipe import Recipe

FOLDER = "tokenizers"


def make_tokenizer(encoder: Chosen) -> Tokenizer | None:
    """The tokenizer that belongs to a chosen encoder; None where that reads no text.

    Raises:
        RequestError: it cannot be had.
    """
    if not issubclass(encoder.target, TextEncoder):
        return None
    return encoder.target.tokenizer(**dict(encoder.options))


def tokens_of(recipe: Recipe, name: str) -> InputSpec | None:
    """What the encoder of a modality reads, if it reads text.

    Raises:
        RecipeError: its tokenizer cannot be had; the line is named.
    """
    encoder = recipe.modalities[name].encoder
    try:
        tokenizer = make_tokenizer(encoder)
    except RequestError as error:
        raise recipe.error(encoder.path, str(error)) from error
    return None if tokenizer is None else tokenizer.spec


def read_as(recipe: Recipe, name: str, offered: InputSpec) -> InputSpec:
    """A modality as its encoder reads it: text as tokens, all else as it is offered.

    Raises:
        ShapeError: text for an encoder that reads none, or the other way round.
    """
    tokens = tokens_of(recipe, name)
    encoder = recipe.modalities[name].encoder.name
    if offered.text and tokens is None:
        raise ShapeError(f"{name} is text, which {encoder} cannot read; text_transformer can", modality=name)
    if tokens is not None and not offered.text:
        raise ShapeError(f"{encoder} reads text, and {name} is {offered}", modality=name)
    return offered if tokens is None else tokens


def fit_tokenizers(recipe: Recipe, texts: Mapping[str, Sequence[str]]) -> dict[str, Tokenizer]:
    """Per modality of text a tokenizer that has learned from these texts.

    Args:
        recipe: names the encoders.
        texts: per modality, those of the training samples.

    Raises:
        RecipeError: nothing can be learned from them; the line is named.
    """
    fitted = {}
    for name, held in texts.items():
        encoder = recipe.modalities[name].encoder
        try:
            tokenizer = make_tokenizer(encoder)
            if tokenizer is not None:
                tokenizer.fit(held)
                fitted[name] = tokenizer
        except (RequestError, DataError) as error:
            raise recipe.error(encoder.path, str(error)) from error
    return fitted


def file_of(name: str, fold: str | None) -> str:
    """Where a run keeps what the tokenizer of a modality has learned, from its folder."""
    return f"{FOLDER}/{name}.json" if fold is None else f"{FOLDER}/fold{fold}/{name}.json"


def restore_tokenizers(recipe: Recipe, folder: Path, fold: str | None) -> dict[str, Tokenizer]:
    """The tokenizers of a finished run.

    Raises:
        FusionkitError: a file of theirs is missing or damaged.
    """
    restored = {}
    for name, modality in recipe.modalities.items():
        tokenizer = make_tokenizer(modality.encoder)
        if tokenizer is None:
            continue
        path = folder / file_of(name, fold)
        try:
            tokenizer.restore(path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, DataError) as error:
            raise FusionkitError(f"{path}: the tokenizer of {name} cannot be read: {error}") from error
        restored[name] = tokenizer
    return restored
