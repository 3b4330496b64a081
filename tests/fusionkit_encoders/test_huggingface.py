"""Pretrained text encoders, on tiny random ones that the tests write as the hub would hold them."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys

import numpy as np
import pytest
import torch
import transformers
from fusionkit_encoders.huggingface import HuggingFace
from tokenizers import Tokenizer, models, pre_tokenizers

from fusionkit.errors import RequestError, ShapeError
from fusionkit.flow import InputSpec
from fusionkit.model import feature_spec
from fusionkit.options import options_model
from fusionkit.registry import load_registry

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *("plane", "##s", "on", "the", "runway"), *"飞机停在场跑道上有"]
SIZES = {"hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 24}
KINDS = {
    "bert": lambda: transformers.BertConfig(vocab_size=len(WORDS), max_position_embeddings=12, **SIZES),
    "roberta": lambda: transformers.RobertaConfig(vocab_size=len(WORDS), max_position_embeddings=14, **SIZES),
    "xlm-roberta": lambda: transformers.XLMRobertaConfig(vocab_size=len(WORDS), max_position_embeddings=14, **SIZES),
    "electra": lambda: transformers.ElectraConfig(vocab_size=len(WORDS), embedding_size=8, **SIZES),
    "distilbert": lambda: transformers.DistilBertConfig(
        vocab_size=len(WORDS), dim=16, n_layers=3, n_heads=2, hidden_dim=24, max_position_embeddings=12
    ),
}
SPEC = InputSpec((9,), ragged=True, text=True, vocabulary=len(WORDS))


def write(folder, config):
    """A random model of this configuration and BERT's tokenizer, as `save_pretrained` leaves them."""
    torch.manual_seed(0)
    model = transformers.AutoModel.from_config(config)
    model.save_pretrained(folder)
    (folder / "vocab.txt").write_text("\n".join(WORDS), encoding="utf-8")
    transformers.BertTokenizer(str(folder / "vocab.txt")).save_pretrained(folder)
    return model.eval()


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Per kind, the folder of a model and the model."""
    made = {}
    for kind, config in KINDS.items():
        folder = tmp_path_factory.mktemp(kind)
        made[kind] = str(folder), write(folder, config())
    return made


@pytest.mark.parametrize("kind", KINDS)
def test_keeps_the_contract(check_encoder, saved, kind):
    check_encoder(lambda: HuggingFace(SPEC, model=saved[kind][0]), SPEC)


@pytest.mark.parametrize("kind", KINDS)
def test_tokens_are_the_last_hidden_states(saved, kind):
    folder, model = saved[kind]
    encoder = HuggingFace(SPEC, model=folder).eval()
    assert len(encoder.stages) == (3 if "bert" in kind and kind != "distilbert" else 1)
    ids = torch.randint(5, len(WORDS), (3, 9))
    valid = torch.arange(9) < torch.tensor([[9], [1], [5]])
    padding = model.config.pad_token_id
    expected = model(ids.masked_fill(~valid, padding), attention_mask=valid.long()).last_hidden_state
    features = encoder(ids, valid)
    torch.testing.assert_close(features.tokens[valid], expected[valid])
    assert torch.equal(features.mask, valid)
    torch.testing.assert_close(encoder(ids).tokens, model(ids).last_hidden_state)


@pytest.mark.parametrize("kind", KINDS)
def test_layers_are_kept_from_the_first(saved, kind):
    folder, model = saved[kind]
    encoder = HuggingFace(SPEC, model=folder, layers=2).eval()
    ids = torch.randint(5, len(WORDS), (2, 9))
    expected = model(ids, output_hidden_states=True).hidden_states[2]
    torch.testing.assert_close(encoder(ids).tokens, expected)
    with pytest.raises(RequestError, match="3 layers, fewer than 4"):
        HuggingFace(SPEC, model=folder, layers=4)


@pytest.mark.parametrize("kind", KINDS)
def test_gradient_checkpointing_changes_no_gradient(saved, kind):
    ids = torch.randint(5, len(WORDS), (3, 9))
    valid = torch.arange(9) < torch.tensor([[9], [2], [5]])
    gradients = []
    for checkpointed in (False, True):
        encoder = HuggingFace(SPEC, model=saved[kind][0]).train()
        if checkpointed:
            encoder.checkpoint()
        torch.manual_seed(3)
        encoder(ids, valid).pooled.square().sum().backward()
        gradients.append({name: parameter.grad for name, parameter in encoder.named_parameters()})
    assert all(torch.equal(gradients[1][name], gradient) for name, gradient in gradients[0].items())


def test_a_text_without_any_step_stays_finite(saved):
    encoder = HuggingFace(SPEC, model=saved["bert"][0])
    features = encoder(torch.zeros(2, 9, dtype=torch.int64), torch.tensor([[False] * 9, [True] * 9]))
    assert features.tokens.isfinite().all()


def test_the_tokenizer_is_the_models_own(saved):
    folder, _ = saved["bert"]
    options = dict(options_model(HuggingFace)(model=folder, length=8))
    tokenizer = HuggingFace.tokenizer(**options)
    tokenizer.fit(["whatever"])
    theirs = transformers.AutoTokenizer.from_pretrained(folder)
    for text in ["Planes on the RUNWAY", "飞机停在跑道上", "zebra 飞机", ""]:
        assert tokenizer(text).tolist() == theirs(text, truncation=True, max_length=8)["input_ids"]
    cut = tokenizer("飞机停在机场跑道上有飞机")
    assert len(cut) == 8
    assert tokenizer.words(cut) == ["[CLS]", *"飞机停在机场", "[SEP]"]
    assert tokenizer.words(tokenizer("planes")) == ["[CLS]", "plane", "s", "[SEP]"]
    assert (tokenizer.spec.shape, tokenizer.spec.vocabulary) == ((8,), len(WORDS))
    other = HuggingFace.tokenizer(**options)
    other.restore(tokenizer.state())
    assert other("飞机 on").tolist() == tokenizer("飞机 on").tolist()
    encoder = HuggingFace(tokenizer.spec, **options).eval()
    assert encoder(torch.from_numpy(cut.astype(np.int64)).unsqueeze(0)).tokens.shape == (1, 8, 16)


def test_a_text_without_tokens_is_unknown(tmp_path, saved):
    """A tokenizer that puts nothing around a text."""
    bare = Tokenizer(models.WordLevel({"[UNK]": 0, "a": 1}, unk_token="[UNK]"))
    bare.pre_tokenizer = pre_tokenizers.Whitespace()
    transformers.PreTrainedTokenizerFast(tokenizer_object=bare, unk_token="[UNK]").save_pretrained(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert"} | SIZES))
    tokenizer = HuggingFace.tokenizer(model=str(tmp_path), length=4)
    assert tokenizer("").tolist() == [0]
    assert tokenizer("a b a").tolist() == [1, 0, 1]


def test_shapes_are_proven_without_weights(saved, tmp_path):
    KINDS["bert"]().save_pretrained(tmp_path)
    with torch.device("meta"):
        encoder = HuggingFace(SPEC, model=str(tmp_path))
        assert feature_spec(encoder, SPEC).dim == 16
    assert all(parameter.is_meta for parameter in encoder.parameters())


def test_what_is_not_there_is_told_in_a_line(saved, tmp_path):
    for make in (lambda model: HuggingFace(SPEC, model=model), lambda model: HuggingFace.tokenizer(model=model)):
        with pytest.raises(RequestError, match=r"nobody/nothing is neither .* HF_HOME; .* set download: true") as told:
            make("nobody/nothing")
        assert "\n" not in str(told.value)
    KINDS["bert"]().save_pretrained(tmp_path)
    with pytest.raises(RequestError, match="neither a model's folder"):
        HuggingFace(SPEC, model=str(tmp_path))  # without weights


def test_damaged_weights_are_told(saved, tmp_path):
    write(tmp_path, KINDS["bert"]())
    weights = tmp_path / "model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(RequestError, match="damaged, or hold more than tensors"):
        HuggingFace(SPEC, model=str(tmp_path))


class Runs:
    """Does something when it is unpickled."""

    def __init__(self, trace):
        self.trace = str(trace)

    def __reduce__(self):
        return open, (self.trace, "w")


@pytest.mark.parametrize("damage", ["runs", "pickle", "junk", "empty"])
def test_pickled_weights_are_read_for_their_tensors_alone(tmp_path, damage):
    model, trace = write(tmp_path, KINDS["bert"]()), tmp_path / "ran"
    (tmp_path / "model.safetensors").unlink()
    weights = tmp_path / "pytorch_model.bin"
    torch.save(model.state_dict(), weights)
    ids = torch.randint(5, len(WORDS), (2, 9))
    expected = model(ids).last_hidden_state
    torch.testing.assert_close(HuggingFace(SPEC, model=str(tmp_path)).eval()(ids).tokens, expected)
    if damage == "runs":
        torch.save(model.state_dict() | {"more": Runs(trace)}, weights)
    else:
        weights.write_bytes({"pickle": pickle.dumps(Runs(trace)), "junk": b"junk", "empty": b""}[damage])
    with pytest.raises(RequestError, match="damaged, or hold more than tensors"):
        HuggingFace(SPEC, model=str(tmp_path))
    assert not trace.exists()


def test_weights_that_lack_a_layer_are_told(tmp_path):
    write(tmp_path, KINDS["bert"]())
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 4}))
    with pytest.raises(RequestError, match=r"lack 16 of its tensors, such as encoder\.layer\.3"):
        HuggingFace(SPEC, model=str(tmp_path))


def test_code_that_comes_with_a_model_is_not_run(tmp_path):
    write(tmp_path, KINDS["bert"]())
    trace = tmp_path / "ran"
    (tmp_path / "mine.py").write_text(f"open({str(trace)!r}, 'w')\nclass C: pass\nclass M: pass\n")
    config = json.loads((tmp_path / "config.json").read_text())
    own = {"model_type": "mine", "auto_map": {"AutoConfig": "mine.C", "AutoModel": "mine.M"}}
    (tmp_path / "config.json").write_text(json.dumps(config | own))
    with pytest.raises(RequestError, match="cannot be loaded"):
        HuggingFace(SPEC, model=str(tmp_path))
    assert not trace.exists()


def test_what_does_not_fit_is_told(saved, tmp_path):
    folder = saved["xlm-roberta"][0]
    long = InputSpec((13,), ragged=True, text=True, vocabulary=len(WORDS))
    with pytest.raises(ShapeError, match="at most 12 tokens; set length: 12"):
        HuggingFace(long, model=folder)
    with pytest.raises(ShapeError, match="at most 12 tokens"):
        HuggingFace(long, model=saved["bert"][0])
    with pytest.raises(ShapeError, match="reads text, not 9 x 4"):
        HuggingFace(InputSpec((9, 4)), model=folder)
    with pytest.raises(ShapeError, match="19 tokens, and its tokenizer 900"):
        HuggingFace(InputSpec((9,), ragged=True, text=True, vocabulary=900), model=folder)
    with pytest.raises(RequestError, match="2 tokens around a text"):
        HuggingFace.tokenizer(model=folder, length=2)
    sizes = {"d_model": 16, "encoder_layers": 1, "decoder_layers": 1, "encoder_ffn_dim": 16, "decoder_ffn_dim": 16}
    heads = {"encoder_attention_heads": 2, "decoder_attention_heads": 2}
    transformers.BartConfig(vocab_size=len(WORDS), **sizes, **heads).save_pretrained(tmp_path)
    with pytest.raises(RequestError, match="no text encoder"):
        HuggingFace(SPEC, model=str(tmp_path))


def test_the_extra_is_named_where_it_is_not_installed(monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    monkeypatch.delitem(sys.modules, "fusionkit_encoders.huggingface")
    with pytest.raises(RequestError, match=r"pip install 'fusionkit-geo\[text\]'"):
        load_registry().resolve("encoder", "huggingface")


@pytest.mark.slow
def test_loading_says_nothing(saved):
    program = (
        "from fusionkit_encoders.huggingface import HuggingFace; from fusionkit.flow import InputSpec;"
        f"HuggingFace(InputSpec((9,), True, True, True, {len(WORDS)}), model={saved['bert'][0]!r}, layers=1)"
    )
    environment = os.environ | {"HF_HUB_OFFLINE": "1"}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == done.stderr == ""
