"""LLaVA, held against transformers itself with vectors put together by hand."""

from __future__ import annotations

import copy
from dataclasses import replace
from functools import partial

import pytest
import torch
from fusionkit_encoders.causal_lm import CausalLM
from fusionkit_encoders.timm_backbone import Timm
from fusionkit_fakes_text import GPT2, LLAMA, SPEC, WORDS, write_language_model
from fusionkit_fusions.llava import LLaVA
from fusionkit_losses.captioning import Captioning
from torch.nn import functional as F

from fusionkit.errors import RequestError, ShapeError
from fusionkit.flow import Batch, FeatureSpec, InputSpec, Task
from fusionkit.model import Blueprint
from fusionkit.testing.registered import unregistered

KINDS = {"llama": LLAMA, "gpt2": GPT2}
IMAGE = InputSpec((3, 32, 32))
TASK = Task("classification", ("a", "b", "c"), (1, 1, 1))
LENGTHS = (9, 2, 5, 1)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Per kind, the folder of a model and the model."""
    made = {}
    for kind, config in KINDS.items():
        folder = tmp_path_factory.mktemp(kind)
        made[kind] = str(folder), write_language_model(folder, config)
    return made


def blueprint(folder, *, head=True, task=TASK, seed=0, **options):
    encoders = {
        "image": partial(Timm, model="test_vit", image_size=32),
        "text": partial(CausalLM, model=folder, length=9, head=head),
    }
    make = partial(LLaVA, text="text", **options)
    return Blueprint({"image": IMAGE, "text": SPEC}, encoders, LLaVA, make, task, seed=seed)


@pytest.fixture(scope="module")
def built(saved):
    return {kind: (blueprint(folder).build({}).eval(), own) for kind, (folder, own) in saved.items()}


@pytest.fixture(params=KINDS)
def model(request, built):
    """The fusion among its encoders, and the language model as transformers has it."""
    return copy.deepcopy(built[request.param])


def made(opening=False):
    """Four pairs; of the last one the text has one token."""
    torch.manual_seed(1)
    ids = torch.randint(3, len(WORDS), (4, 9))
    if opening:
        ids[:, 0] = 1
    valid = torch.arange(9) < torch.tensor(LENGTHS).unsqueeze(1)
    present = {"image": torch.ones(4, dtype=torch.bool), "text": torch.ones(4, dtype=torch.bool)}
    inputs = {"image": torch.randn(4, 3, 32, 32), "text": ids.masked_fill(~valid, 0)}
    return Batch(inputs, present, torch.tensor([0, 1, 2, 0]), torch.arange(4), {"text": valid})


def lacking(batch, name, *rows):
    present = dict(batch.present) | {name: batch.present[name].clone()}
    present[name][list(rows)] = False
    return replace(batch, present=present)


def by_hand(model, own, batch, row):
    """Of one sample alone: hidden state at the end, and the mean cross-entropy of the text's tokens."""
    ids = batch.inputs["text"][row, : LENGTHS[row]]
    words = own.get_input_embeddings()(ids)
    opening = 1 if own.config.model_type == "llama" else 0
    image, there, text = torch.zeros(0, words.shape[1]), batch.present["image"][row], batch.present["text"][row]
    if there:
        first, _, last = model.fusion.project["image"]
        seen = model.encoders["image"](batch.inputs["image"][row : row + 1]).tokens[0]
        image = F.linear(F.gelu(F.linear(seen, first.weight, first.bias)), last.weight, last.bias)
    if not text:
        words, ids, opening = words[:0], ids[:0], 0
    sequence = torch.cat([words[:opening], image, words[opening:]])
    labels = torch.cat([torch.full((opening + len(image),), -100), ids[opening:]])
    if not len(sequence):
        return torch.zeros(16), 0.0
    said = own(inputs_embeds=sequence.unsqueeze(0), output_hidden_states=True)
    predicted = labels[1:] != -100
    loss = F.cross_entropy(said.logits[0, :-1][predicted], labels[1:][predicted]) if predicted.any() else 0.0
    return said.hidden_states[-1][0, -1], float(loss)


@torch.no_grad()
def test_is_what_transformers_makes_of_the_vectors(model):
    model, own = model
    whole = made(opening=own.config.model_type == "llama")
    without = lacking(lacking(whole, "image", 0, 3), "text", 1, 3)
    for batch in (whole, without):
        output = model(batch)
        hidden, losses = zip(*(by_hand(model, own, batch, row) for row in range(4)), strict=True)
        torch.testing.assert_close(output.fused, torch.stack(hidden))
        torch.testing.assert_close(float(Captioning(TASK)(output, batch)), sum(losses) / 4, rtol=1e-5, atol=1e-6)
        assert sum(losses) > 0


@torch.no_grad()
def test_what_is_absent_or_padded_changes_nothing(model):
    model, _ = model
    batch = lacking(lacking(made(), "image", 0, 3), "text", 1, 3)
    first = model(batch)
    for content in (5.0, torch.nan):
        inputs = {name: value.clone() for name, value in batch.inputs.items()}
        inputs["image"][[0, 3]] = content
        inputs["text"][[1, 3]] = 7
        inputs["text"][2, 5:] = 8
        again = model(replace(batch, inputs=inputs))
        torch.testing.assert_close(again.logits, first.logits)
        torch.testing.assert_close(again.penalties["captioning"], first.penalties["captioning"])
    longer = F.pad(batch.inputs["text"], (0, 4)), F.pad(batch.valid["text"], (0, 4))
    padded = replace(batch, inputs=batch.inputs | {"text": longer[0]}, valid={"text": longer[1]})
    torch.testing.assert_close(model(padded).fused, first.fused)


@torch.no_grad()
def test_the_captioning_loss_adds_up_over_parts_of_a_batch(model):
    model, _ = model
    batch = made()
    parts = [model(batch.map(lambda tensor, rows=rows: tensor[rows])).penalties for rows in ([0], [1, 2, 3])]
    together = model(batch).penalties["captioning"]
    torch.testing.assert_close((parts[0]["captioning"] + 3 * parts[1]["captioning"]) / 4, together)


def test_nan_in_an_absent_image_leaves_the_gradient_alone(model):
    model, _ = model
    batch = lacking(made(), "image", 2)
    features = model.fusion.encode(model.encoders, model.prepare(batch))
    spoiled = features["image"].tokens.clone()
    spoiled[2] = torch.nan
    output = model.conclude(features | {"image": replace(features["image"], tokens=spoiled)})
    output.penalties["captioning"].backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.encoders["text"].parameters())


def test_the_loss_reaches_the_projector_the_tower_and_the_language_model(model):
    model, _ = model
    model.train()(made()).penalties["captioning"].backward()
    assert all(parameter.grad.any() for parameter in model.fusion.parameters())
    assert any(
        parameter.grad is not None and parameter.grad.any() for parameter in model.encoders["image"].parameters()
    )
    assert all(
        parameter.grad.any() for name, parameter in model.encoders["text"].named_parameters() if ".wpe" not in name
    )


def test_the_language_model_is_the_encoders(saved):
    model = blueprint(saved["llama"][0]).build({})
    assert {name.split(".")[0] for name, _ in model.fusion.named_parameters()} == {"project"}
    assert not unregistered(model.fusion, model)
    other = blueprint(saved["llama"][0], seed=1).build({})
    other.load_state_dict(model.state_dict())
    torch.testing.assert_close(other.eval()(made()).logits, model.eval()(made()).logits)


def test_without_a_head_there_is_no_captioning(saved):
    assert not blueprint(saved["gpt2"][0], head=False).build({})(made()).penalties


@torch.no_grad()
def test_a_retrieval_compares_what_is_read_apart(saved):
    folder, own = saved["gpt2"]
    model = blueprint(folder, task=Task("retrieval", ())).build({}).eval()
    batch = lacking(made(), "text", 3)
    image, text = model(batch).logits.split(16, dim=1)
    first, _, last = model.fusion.project["image"]
    seen = model.encoders["image"](batch.inputs["image"]).tokens
    projected = F.linear(F.gelu(F.linear(seen, first.weight, first.bias)), last.weight, last.bias)
    expected = own.transformer(inputs_embeds=projected).last_hidden_state[:, -1]
    torch.testing.assert_close(image, F.normalize(expected))
    alone = own.transformer(batch.inputs["text"][2:3, :5]).last_hidden_state[:, -1]
    torch.testing.assert_close(text[2:3], F.normalize(alone))
    assert not text[3].any()


def test_the_projector_is_chosen(saved):
    (linear,) = blueprint(saved["gpt2"][0], projector="linear").build({}).fusion.project["image"]
    assert tuple(linear.weight.shape) == (16, 64)


def test_sixteen_bits_are_enough(model):
    with torch.autocast("cpu", torch.bfloat16):
        output = model[0](made())
    assert output.logits.isfinite().all()
    assert output.penalties["captioning"].isfinite()


def test_what_does_not_fit_is_told(saved):
    specs = {"image": FeatureSpec(8, 4), "text": FeatureSpec(16, 9)}
    with pytest.raises(RequestError, match="no modality 'txt' to read"):
        LLaVA(specs, text="txt")
    with pytest.raises(ShapeError, match="there are none"):
        LLaVA({"text": specs["text"]}, text="text")
    encoders = blueprint(saved["gpt2"][0]).build({}).encoders
    with pytest.raises(ShapeError, match="image has no causal language model"):
        LLaVA(specs, text="image").join(encoders)
    with pytest.raises(ShapeError, match="39 tokens in all, and the model reads 32; shorten text"):
        LLaVA(specs | {"image": FeatureSpec(8, 30)}, text="text").join(encoders)
