"""Gradient checkpointing: less is kept, and every number stays what it is."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from fusionkit_encoders.dual_vit import DualViTEncoder
from fusionkit_encoders.patch_cnn import PatchCNN
from fusionkit_encoders.sequence import Sequence
from fusionkit_encoders.text_transformer import TextTransformer
from fusionkit_encoders.timm_backbone import Timm
from fusionkit_encoders.visit_cube import VisitCube
from fusionkit_fakes import Conv
from fusionkit_fusions.channel_exchange import ChannelExchange
from torch import Tensor, nn

from fusionkit.contract import Encoder
from fusionkit.flow import Features, Input, InputSpec
from fusionkit.model import feature_spec
from fusionkit.stages import in_step

IMAGE, TEXT, STEPS = InputSpec((3, 64, 64)), InputSpec((9,), True, True, True, 50), InputSpec((9, 4), ragged=True)
ENCODERS: dict[str, Callable[[], Encoder]] = {
    "text_transformer": lambda: TextTransformer(TEXT, width=16, dropout=0.3),
    "sequence": lambda: Sequence(STEPS, variant="gru", width=16, dropout=0.3),
    "timm, batch norms": lambda: Timm(IMAGE, model="resnet10t", drop_path=0.3),
    "timm, transformer": lambda: Timm(InputSpec((3, 32, 32)), model="vit_tiny_patch16_224", drop_path=0.5),
    "timm, in one piece": lambda: Timm(InputSpec((3, 64, 64)), model="davit_tiny", drop_path=0.5),
    "timm, in one piece with batch norms": lambda: Timm(InputSpec((3, 64, 64)), model="levit_128s"),
    "dual_vit": lambda: DualViTEncoder(IMAGE, drop_path=0.5),
    "patch_cnn": lambda: PatchCNN(InputSpec((5, 9, 9))),
    "visit_cube": lambda: VisitCube(InputSpec((7, 26, 24), counts=True)),
}


def read_by(encoder: Encoder) -> tuple[Tensor, Tensor | None]:
    """Something for the encoder to read."""
    shape = (4, *encoder.spec.shape)
    torch.manual_seed(1)
    value = torch.randint(encoder.spec.vocabulary, shape) if encoder.spec.text else torch.rand(shape)
    valid = torch.arange(shape[1]) < torch.tensor([[9], [2], [5], [1]]) if encoder.spec.ragged else None
    return value, valid


def left_by(encoder: Encoder, precision: torch.dtype | None = None) -> dict[str, Tensor]:
    """Gradients and buffers after two passes forward and back, and what the generator draws then."""
    value, valid = read_by(encoder)
    torch.manual_seed(2)
    for _ in range(2):
        with torch.autocast("cpu", precision, enabled=precision is not None):
            tokens = encoder.train()(value, valid).tokens
        (tokens * torch.linspace(-1, 1, tokens.numel()).reshape(tokens.shape)).sum().backward()
    gradients = {name: p.grad for name, p in encoder.named_parameters() if p.grad is not None}
    return gradients | dict(encoder.named_buffers()) | {"drawn": torch.rand(1)}


@pytest.mark.parametrize("kind", ENCODERS)
def test_gradients_and_statistics_are_the_same_to_the_bit(kind):
    torch.manual_seed(0)
    plain = ENCODERS[kind]()
    checkpointed = copy.deepcopy(plain)
    checkpointed.checkpoint()
    expected, found = left_by(plain), left_by(checkpointed)
    assert expected.keys() == found.keys()
    assert len(expected) > 1
    for name, tensor in expected.items():
        assert torch.equal(found[name], tensor), name


def test_they_are_in_mixed_precision():
    torch.manual_seed(0)
    plain = ENCODERS["text_transformer"]()
    checkpointed = copy.deepcopy(plain)
    checkpointed.checkpoint()
    expected, found = left_by(plain, torch.bfloat16), left_by(checkpointed, torch.bfloat16)
    assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())


class Counted(nn.Module):
    """Counts how often it runs."""

    def __init__(self) -> None:
        super().__init__()
        self.runs = 0

    def forward(self, x: Tensor) -> Tensor:
        self.runs += 1
        return x.exp()


def test_stages_run_again_where_there_is_a_way_back():
    encoder = Conv(IMAGE, depth=1)
    encoder.stages[0].append(counted := Counted())
    encoder.checkpoint()
    value = torch.rand(2, *IMAGE.shape)
    encoder(value).tokens.sum().backward()
    assert counted.runs == 2
    with torch.no_grad():
        encoder(value)
    assert counted.runs == 3
    encoder.requires_grad_(False)
    encoder(value)
    assert counted.runs == 4


def kept(run: Callable[[], Features]) -> int:
    """How many numbers autograd keeps at the end of a pass forward."""
    held: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        held[tensor.data_ptr()] = tensor.numel()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        run()
    return sum(held.values())


@pytest.mark.parametrize("kind", [kind for kind in ENCODERS if kind != "timm, in one piece with batch norms"])
def test_less_is_kept(kind):
    encoder = ENCODERS[kind]().train()
    value, valid = read_by(encoder)
    before = kept(lambda: encoder(value, valid))
    encoder.checkpoint()
    assert kept(lambda: encoder(value, valid)) < before


@pytest.mark.parametrize("absent", [False, True])
def test_a_joined_encoder_knows_who_is_absent_going_back(absent):
    """Its norms ask who has which modality, also when they run again: the exchange depends on it."""
    inputs = {name: InputSpec((2, 12, 12)) for name in ("optical", "sar")}
    torch.manual_seed(0)
    encoders = nn.ModuleDict({name: Conv(spec, norm=True, depth=3) for name, spec in inputs.items()})
    with torch.device("meta"):
        shapes = {name: feature_spec(Conv(spec, norm=True, depth=3), spec) for name, spec in inputs.items()}
    fusion = ChannelExchange(shapes)
    plain = nn.ModuleDict({"encoders": fusion.join(encoders), "fusion": fusion})
    with torch.no_grad():
        for norm in fusion.norms.values():
            norm.norm.weight[::2] = 0.001  # these channels give way
    checkpointed = copy.deepcopy(plain)
    for module in checkpointed.modules():
        if isinstance(module, Encoder):
            module.checkpoint()
    present = torch.tensor([True, not absent, True, True, not absent])
    given = {name: Input(torch.rand(5, *spec.shape), torch.ones_like(present)) for name, spec in inputs.items()}
    given["sar"] = Input(given["sar"].value, present)
    for model in (plain, checkpointed):
        features = model["fusion"].encode(model["encoders"], given)
        sum(feature.tokens.square().sum() for feature in features.values()).backward()
    assert fusion.figures()["exchanged"] > 0
    for (name, one), other in zip(plain.named_parameters(), checkpointed.parameters(), strict=True):
        assert (one.grad is None and other.grad is None) or torch.equal(one.grad, other.grad), name
    for (name, one), other in zip(plain.named_buffers(), checkpointed.buffers(), strict=True):
        assert torch.equal(one, other), name


def test_an_exchange_stands_between_checkpointed_stages():
    encoders = nn.ModuleDict({name: Conv(IMAGE, depth=3, norm=True) for name in "ab"})
    inputs = {name: Input(torch.rand(4, *IMAGE.shape), torch.ones(4, dtype=torch.bool)) for name in "ab"}

    def swap(stage: int, features: dict[str, Features]) -> dict[str, Features]:
        return {"a": features["b"], "b": features["a"].with_tokens(features["a"].tokens * 2)}

    gradients = []
    for _ in range(2):
        encoders.zero_grad()
        features = in_step(encoders, inputs, swap, keep_stages=True)
        sum(stage.tokens.square().sum() for feature in features.values() for stage in feature.stages).backward()
        gradients.append([parameter.grad.clone() for parameter in encoders.parameters()])
        for encoder in encoders.values():
            encoder.checkpoint()
    assert all(torch.equal(one, other) for one, other in zip(*gradients, strict=True))


def test_shapes_are_proven_all_the_same():
    for kind in ("text_transformer", "timm, batch norms", "dual_vit"):
        with torch.device("meta"):
            encoder = ENCODERS[kind]()
            before = feature_spec(encoder, encoder.spec)
            encoder.checkpoint()
            assert feature_spec(encoder, encoder.spec) == before
            value = torch.zeros(2, *encoder.spec.shape, dtype=torch.int64 if encoder.spec.text else None)
            encoder(value).tokens.sum().backward()
