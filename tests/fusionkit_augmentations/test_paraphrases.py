"""Paraphrases: from a table, and by two tiny models that translate there and back."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from fusionkit_augmentations.paraphrases import Paraphrases

from fusionkit.errors import DataError, RequestError
from fusionkit.flow import InputSpec
from fusionkit.options import options_model

INPUTS = {"text": InputSpec((), text=True), "image": InputSpec((3, 8, 8))}


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "paraphrases.tsv"
    path.write_text(
        "Two planes stand at a terminal.\tA pair of planes.\tPlanes at a gate.\n一条河\t河流\n", encoding="utf-8"
    )
    return path


def test_every_paraphrase_comes(table: Path, draws):
    augmentation = Paraphrases(INPUTS, table=table, probability=0.5)
    sample = {"text": np.array("two planes  stand at a Terminal."), "image": np.zeros((3, 8, 8))}
    found = []
    for i in range(400):
        after = augmentation(sample, draws(i))
        assert after["image"] is sample["image"]
        assert after["text"].shape == ()
        assert augmentation(sample, draws(i))["text"].item() == after["text"].item()
        found.append(after["text"].item())
    shares = {text: found.count(text) / 400 for text in set(found)}
    expected = {sample["text"].item(): 0.5, "A pair of planes.": 0.25, "Planes at a gate.": 0.25}
    assert shares == pytest.approx(expected, abs=0.125)  # 5 deviations


def test_the_unknown_is_left_as_it_is(table: Path, draws):
    augmentation = Paraphrases(INPUTS, table=table, probability=1.0)
    sample = {"text": np.array("Two planes")}
    assert augmentation(sample, draws(0))["text"] is sample["text"]
    assert augmentation({"text": np.array("一条河")}, draws(0))["text"].item() == "河流"
    assert augmentation({"text": None}, draws(0)) == {"text": None}
    assert augmentation({}, draws(0)) == {}


def test_refused(table: Path, tmp_path: Path):
    with pytest.raises(RequestError, match="paraphrases changes texts, and image is 3 x 8 x 8"):
        Paraphrases(INPUTS, table=table, modalities=["image"])
    with pytest.raises(RequestError, match="either `table`, a file, or `translation`"):
        Paraphrases(INPUTS)
    with pytest.raises(DataError, match="no such file"):
        Paraphrases(INPUTS, table=tmp_path / "gone.tsv")


WORDS = ["<pad>", "</s>", "<unk>", "two", "planes", "stand", "at", "a", "gate", "zwei", "flugzeuge", "stehen", "tor"]


def write_model(folder: Path, seed: int) -> Path:
    """A translation model of a few weights, at random, and a tokenizer of whole words."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import MarianConfig, MarianMTModel, PreTrainedTokenizerFast

    pipeline = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="<unk>"))
    pipeline.pre_tokenizer = pre_tokenizers.Whitespace()
    pipeline.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    PreTrainedTokenizerFast(
        tokenizer_object=pipeline, pad_token="<pad>", eos_token="</s>", unk_token="<unk>"
    ).save_pretrained(folder)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        config = MarianConfig(
            vocab_size=len(WORDS), d_model=16, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2,
            decoder_attention_heads=2, encoder_ffn_dim=16, decoder_ffn_dim=16, max_position_embeddings=32,
            pad_token_id=0, eos_token_id=1, forced_eos_token_id=1, decoder_start_token_id=0, init_std=1.0,
        )  # fmt: skip
        MarianMTModel(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    pytest.importorskip("transformers")
    folder = tmp_path_factory.mktemp("models")
    return {"there": str(write_model(folder / "there", 0)), "back": str(write_model(folder / "back", 1))}


def build(translation: dict, **options) -> Paraphrases:
    """From options that went through JSON, as those of a recipe do."""
    given = json.dumps({"translation": translation} | options)
    return Paraphrases(INPUTS, **dict(options_model(Paraphrases).model_validate_json(given)))


def test_translated_there_and_back(models: dict, draws):
    """As the models translate when they are asked by hand, by beam search; another process makes the same of it."""
    from transformers import MarianMTModel, PreTrainedTokenizerFast

    text = "two planes stand at a gate"
    lines = [text]
    for side, count in (("there", 1), ("back", 3)):
        tokenizer = PreTrainedTokenizerFast.from_pretrained(models[side])
        model = MarianMTModel.from_pretrained(models[side]).eval()
        ids = tokenizer(lines[0], return_tensors="pt")
        found = model.generate(
            input_ids=ids["input_ids"],
            attention_mask=ids["attention_mask"],
            num_beams=3,
            num_return_sequences=count,
            max_new_tokens=min(2 * ids["input_ids"].shape[1] + 10, 31),
        )
        lines = tokenizer.batch_decode(found, skip_special_tokens=True)
    expected = {line for line in lines if line and line != text}
    assert expected
    one, other = (build(models | {"beams": 3}, probability=1) for _ in range(2))
    sample = {"text": np.array(text)}
    found = [one(sample, draws(i))["text"].item() for i in range(30)]
    assert set(found) == expected
    assert found == [other(sample, draws(i))["text"].item() for i in range(30)]


def test_a_text_is_translated_once(models: dict, draws, monkeypatch: pytest.MonkeyPatch):
    augmentation = build(models, probability=1)
    sample = {"text": np.array("two planes")}
    before = augmentation(sample, draws(0))["text"].item()
    monkeypatch.setattr(augmentation.translator, "there", None)
    assert augmentation(sample, draws(0))["text"].item() == before


def test_a_text_longer_than_the_model_reads(models: dict, draws):
    build(models, probability=1)({"text": np.array("planes " * 100)}, draws(0))


def test_what_comes_back_empty_or_unchanged_changes_nothing(models: dict, draws, monkeypatch: pytest.MonkeyPatch):
    augmentation = build(models, probability=1)
    for back in ([""], ["Two  planes"], []):
        monkeypatch.setattr(augmentation, "translator", lambda text, back=back: back)
        augmentation.table.clear()
        sample = {"text": np.array("two planes")}
        assert augmentation(sample, draws(0))["text"] is sample["text"]


def test_models_that_cannot_be_had(models: dict, tmp_path: Path):
    with pytest.raises(RequestError, match="no model is in this folder"):
        build(models | {"back": str(tmp_path)})
    broken = write_model(tmp_path / "broken", 0)
    weights = broken / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:100])
    with pytest.raises(RequestError, match="no translation model can be loaded"):
        build(models | {"back": str(broken)})
    weights.unlink()
    with pytest.raises(RequestError, match="no translation model can be loaded"):
        build(models | {"there": str(broken)})
    (broken / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(RequestError, match="no translation model can be loaded"):
        build(models | {"there": str(broken)})
