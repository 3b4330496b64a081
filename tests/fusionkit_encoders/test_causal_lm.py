"""Language models, on tiny random ones that the tests write as the hub would hold them."""

from __future__ import annotations

import json

import pytest
import torch
import transformers
from fusionkit_encoders.causal_lm import CausalLM
from fusionkit_fakes_text import GPT2, LLAMA, SPEC, WORDS, write_language_model

from fusionkit.errors import RequestError, ShapeError
from fusionkit.flow import InputSpec


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Per kind, the folder of a model and the model."""
    made = {}
    for kind, config in (("llama", LLAMA), ("gpt2", GPT2)):
        folder = tmp_path_factory.mktemp(kind)
        made[kind] = str(folder), write_language_model(folder, config)
    return made


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_keeps_the_contract(check_encoder, saved, kind):
    check_encoder(lambda: CausalLM(SPEC, model=saved[kind][0], length=9), SPEC)


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_tokens_and_logits_are_those_of_the_model(saved, kind):
    folder, model = saved[kind]
    encoder = CausalLM(SPEC, model=folder, length=9, head=True).eval()
    ids = torch.randint(3, len(WORDS), (3, 9))
    valid = torch.arange(9) < torch.tensor([[9], [1], [5]])
    expected = model(ids, attention_mask=valid.long(), output_hidden_states=True)
    features = encoder(ids, valid)
    torch.testing.assert_close(features.tokens[valid], expected.hidden_states[-1][valid])
    torch.testing.assert_close(encoder.predict(features.tokens)[valid], expected.logits[valid])
    assert encoder.predicts
    assert not CausalLM(SPEC, model=folder).predicts


def test_the_opening_is_that_of_the_tokenizer(saved):
    assert CausalLM(SPEC, model=saved["llama"][0]).opening == 1
    assert CausalLM(SPEC, model=saved["gpt2"][0]).opening == 0
    tokenizer = CausalLM.tokenizer(model=saved["llama"][0], length=4, head=True)
    assert tokenizer.words(tokenizer("plane on the runway")) == ["<s>", "plane", "on", "the"]


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_gradient_checkpointing_changes_no_gradient(saved, kind):
    ids, gradients = torch.randint(3, len(WORDS), (3, 9)), []
    for checkpointed in (False, True):
        encoder = CausalLM(SPEC, model=saved[kind][0]).train()
        if checkpointed:
            encoder.checkpoint()
        torch.manual_seed(3)
        encoder(ids).pooled.square().sum().backward()
        gradients.append({name: parameter.grad for name, parameter in encoder.named_parameters()})
    assert all(torch.equal(gradients[1][name], gradient) for name, gradient in gradients[0].items())


def test_what_reads_in_both_directions_is_refused(tmp_path):
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    write_language_model(tmp_path, transformers.BertConfig(vocab_size=len(WORDS), **sizes))
    with pytest.raises(RequestError, match="sees what follows a token"):
        CausalLM(SPEC, model=str(tmp_path))


def test_bent_logits_are_refused(tmp_path):
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    config = transformers.Gemma2Config(
        vocab_size=len(WORDS), head_dim=8, num_key_value_heads=2, final_logit_softcapping=0.01, **sizes
    )
    write_language_model(tmp_path, config)
    with pytest.raises(RequestError, match="changes the logits of its head"):
        CausalLM(SPEC, model=str(tmp_path))


def test_what_does_not_fit_is_told(saved, tmp_path):
    folder = saved["gpt2"][0]
    with pytest.raises(ShapeError, match="at most 32 tokens; set length: 32"):
        CausalLM(InputSpec((33,), ragged=True, text=True, vocabulary=len(WORDS)), model=folder)
    with pytest.raises(ShapeError, match="reads text, not 9 x 4"):
        CausalLM(InputSpec((9, 4)), model=folder)
    with pytest.raises(RequestError, match="neither a model's folder nor in the cache"):
        CausalLM(SPEC, model="nobody/nothing")
    transformers.CLIPVisionConfig().save_pretrained(tmp_path)
    with pytest.raises(RequestError, match="is no causal language model"):
        CausalLM(SPEC, model=str(tmp_path))


def test_weights_that_lack_a_layer_or_are_damaged_are_told(tmp_path):
    write_language_model(tmp_path, GPT2)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"n_layer": 3}))
    with pytest.raises(RequestError, match=r"lack 12 of its tensors, such as transformer\.h\.2"):
        CausalLM(SPEC, model=str(tmp_path))
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:5000])
    with pytest.raises(RequestError, match="damaged, or hold more than tensors"):
        CausalLM(SPEC, model=str(tmp_path))


def test_code_that_comes_with_a_model_is_not_run(tmp_path):
    write_language_model(tmp_path, GPT2)
    trace = tmp_path / "ran"
    (tmp_path / "mine.py").write_text(f"open({str(trace)!r}, 'w')\nclass C: pass\nclass M: pass\n")
    config = json.loads((tmp_path / "config.json").read_text())
    own = {"model_type": "mine", "auto_map": {"AutoConfig": "mine.C", "AutoModelForCausalLM": "mine.M"}}
    (tmp_path / "config.json").write_text(json.dumps(config | own))
    with pytest.raises(RequestError, match="cannot be loaded"):
        CausalLM(SPEC, model=str(tmp_path))
    assert not trace.exists()
