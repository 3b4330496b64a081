"""Dual-ViT against tensors of the original, and as an encoder."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from fusionkit_encoders import depthwise_ffn
from fusionkit_encoders.depthwise_ffn import DepthwiseFFN
from fusionkit_encoders.dual_vit import SIZES, Box, DualViT, DualViTEncoder, Size, draw_box, mix_box
from fusionkit_encoders.dual_vit_blocks import ClassBlock, DownSample, DualBlock, Embed, MergeBlock, Stem
from torch import nn

from fusionkit.errors import ShapeError
from fusionkit.flow import Features, InputSpec

ORACLES = Path(__file__).parents[1] / "oracles"
BLOCKS = torch.load(ORACLES / "dualvit_blocks.pt", weights_only=True)
TINY = torch.load(ORACLES / "dualvit_tiny.pt", weights_only=True)
SIZE = Size(8, (8, 16, 24, 32), (1, 2, 3, 4), (1, 2, 2, 1), 0.0, ratios=(4, 4, 4, 3))

DUAL = {
    "gamma1": "pixel_residual.gamma",
    "gamma2": "ffn_residual.gamma",
    "norm1.": "norm.",
    "norm2.": "ffn_norm.",
    "attn.gamma1": "self_residual.gamma",
    "attn.gamma2": "cross_residual.gamma",
    "attn.gamma3": "mlp_residual.gamma",
    "attn.proj.": "pixel_projection.",
    "attn.q_proxy_ln.": "semantic_query.0.",
    "attn.q_proxy.": "semantic_query.1.",
    "attn.p_ln.": "semantic_mlp.0.",
    "attn.mlp_proxy.0.": "semantic_mlp.1.",
    "attn.mlp_proxy.2.": "semantic_mlp.3.",
    "attn.proxy_ln.": "semantic_kv.0.",
    "attn.kv.": "semantic_kv.1.",
    "attn.qkv_proxy.": "self_qkv.",
    "mlp.fc1.": "ffn.widen.",
    "mlp.dwconv.dwconv.": "ffn.depthwise.",
    "mlp.fc2.": "ffn.narrow.",
    "attn.q.": "pixel_qkv.",  # rows of one layer here: the queries, then ...
    "attn.kv_proxy.": "pixel_qkv.",  # ... keys and values
}
MERGE = {
    "gamma1": "residual.gamma",
    "gamma2": "ffn_residual.gamma",
    "norm1.": "norm.",
    "norm2.": "ffn_norm.",
    "attn.proj.": "projection.",
    "mlp.fc_proxy.": "semantic_mlp.",
    "mlp.fc1.": "ffn.widen.",
    "mlp.dwconv.dwconv.": "ffn.depthwise.",
    "mlp.fc2.": "ffn.narrow.",
    "attn.q.": "qkv.",
    "attn.kv.": "qkv.",
}
CLASS = {
    "norm1.": "norm.",
    "norm2.": "mlp.0.",
    "attn.q.": "query.",
    "attn.kv.": "kv.",
    "attn.proj.": "projection.",
    "mlp.fc1.": "mlp.1.",
    "mlp.fc2.": "mlp.3.",
}
PATCHES = {"conv.": "convolutions.", "proj.": "entry.convolution.", "norm.": "entry.norm."}
DOWN = {"proj.": "convolution."}
EMBED = {"proj_proxy.": ""}
SEMANTIC = {"q": "queries", "q_embed.": "query.", "kv.": "kv.", "proxy_ln.": "norm.", "se.": "gate."}


def renamed(name: str, table: dict[str, str]) -> str:
    """Our name of a tensor: the longest beginning in the table is replaced."""
    for theirs in sorted(table, key=len, reverse=True):
        if name == theirs or (theirs.endswith(".") and name.startswith(theirs)):
            return table[theirs] + name[len(theirs) :]
    return name


def network_name(name: str) -> str:
    """Our name of a tensor of the whole network."""
    if found := re.match(r"(patch_embed|proxy_embed|block|norm_proxy|norm)([1-4])\.(.*)", name):
        part, stage, rest = found[1], int(found[2]) - 1, found[3]
        if part == "block":
            number, rest = rest.split(".", 1)
            return f"stages.{stage}.blocks.{number}.{renamed(rest, MERGE if stage > 1 else DUAL)}"
        if part == "patch_embed":
            return f"stages.{stage}.embed.{renamed(rest, DOWN if stage else PATCHES)}"
        if part == "proxy_embed":
            return f"stages.{stage}.semantics.{renamed(rest, EMBED)}"
        if part == "norm" and stage == 3:
            return f"class_head.norm.{rest}"
        return f"stages.{stage}.{'norm' if part == 'norm' else 'semantic_norm'}.{rest}"
    if name.startswith("post_network.0."):
        return "class_head.block." + renamed(name.removeprefix("post_network.0."), CLASS)
    return name if name.startswith(("head.", "aux_head.")) else "stages.0.semantics." + renamed(name, SEMANTIC)


def ours(tensors: dict[str, torch.Tensor], name) -> dict[str, torch.Tensor]:
    """Their tensors under our names; those of layers that are one here are joined in the order queries, others."""
    parts: dict[str, list[tuple[bool, torch.Tensor]]] = {}
    for theirs, tensor in tensors.items():
        parts.setdefault(name(theirs), []).append(("attn.q." not in theirs, tensor))
    made = {}
    for key, found in parts.items():
        ordered = [tensor for _, tensor in sorted(found, key=lambda pair: pair[0])]
        made[key] = torch.cat(ordered) if len(ordered) > 1 else ordered[0]
    return made


def load(module: nn.Module, tensors: dict[str, torch.Tensor], name) -> nn.Module:
    module.load_state_dict(ours(tensors, name))
    return module


def close(found, expected, tolerance):
    torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance)


def wave(shape: tuple[int, ...], number: int) -> torch.Tensor:
    """The inputs of the originals: 32-bit hashes of the positions, in [-1, 1)."""
    mask = np.uint64(0xFFFFFFFF)
    x = np.arange(math.prod(shape), dtype=np.uint64)
    x = (x * np.uint64(2654435761) + np.uint64(((number + 1001) * 40503 * 65537) & 0xFFFFFFFF)) & mask
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35)):
        x ^= x >> np.uint64(shift)
        x = (x * np.uint64(factor)) & mask
    x ^= x >> np.uint64(16)
    return torch.from_numpy(x.astype(np.float64) / 2.0**31 - 1).reshape(shape).float()


@pytest.mark.parametrize("tile", [100, 300, 1000, 2**19])
def test_dual_block(monkeypatch, tile):
    monkeypatch.setattr(depthwise_ffn, "TILE", tile)
    case = BLOCKS["DualBlock"]
    grid = case["H"], case["W"]
    block = load(DualBlock(12, 3, 2), case["state_dict"], lambda name: renamed(name, DUAL))
    x, semantics = case["x"].clone().requires_grad_(), case["semantics"].clone().requires_grad_()
    y, made = block(x, semantics, grid)
    close(y, case["y"], 1e-5)
    close(made, case["y_semantics"], 1e-5)
    ((y * case["wx"]).sum() + (made * case["ws"]).sum()).backward()
    close(x.grad, case["grad_x"], 1e-5)
    close(semantics.grad, case["grad_semantics"], 1e-5)
    expected = ours(case["grads"], lambda name: renamed(name, DUAL))
    for name, parameter in block.named_parameters():
        close(parameter.grad, expected[name], 1e-5)
    y, made = block.double()(case["x"].double(), case["semantics"].double(), grid)
    close(y, case["y64"], 1e-10)
    close(made, case["y_semantics64"], 1e-10)


@pytest.mark.parametrize("tile", [100, 500, 2**19])
def test_merge_block(monkeypatch, tile):
    monkeypatch.setattr(depthwise_ffn, "TILE", tile)
    case = BLOCKS["MergeBlock"]
    grid = case["H"], case["W"]
    block = load(MergeBlock(12, 3, 3), case["state_dict"], lambda name: renamed(name, MERGE))
    x = case["x"].clone().requires_grad_()
    y = block(x, grid)
    close(y, case["y"], 1e-5)
    (y * case["w"]).sum().backward()
    close(x.grad, case["grad_x"], 1e-5)
    expected = ours(case["grads"], lambda name: renamed(name, MERGE))
    for name, parameter in block.named_parameters():
        close(parameter.grad, expected[name], 1e-5)
    close(block.double()(case["x"].double(), grid), case["y64"], 1e-10)


def test_merge_block_whose_semantic_tokens_nobody_reads():
    case = BLOCKS["MergeBlock"]
    block = load(MergeBlock(12, 3, 3), case["state_dict"], lambda name: renamed(name, MERGE))
    block.semantic_mlp = None
    close(block(case["x"], (5, 7)), case["y"][:, :35], 1e-5)


def test_wide_maps_tile_by_tile(monkeypatch):
    """The FFN of masked samples, in tiles that do not divide evenly, against the same layers one after the other."""
    monkeypatch.setattr(depthwise_ffn, "TILE", 100)
    torch.manual_seed(0)
    ffn = DepthwiseFFN(5, 7).double()
    x = torch.randn(3, 6, 5, dtype=torch.float64, requires_grad=True)
    mask = torch.rand(3, 6) < 0.7

    def plain(x):
        hidden = ffn.widen(x) * mask.unsqueeze(2)
        hidden = ffn.depthwise(hidden.transpose(1, 2).unflatten(2, (3, 2))).flatten(2).transpose(1, 2)
        return ffn.narrow(nn.functional.gelu(hidden))

    leaves, weight = [x, *ffn.parameters()], torch.randn(3, 6, 5, dtype=torch.float64)
    torch.testing.assert_close(ffn(x, (3, 2), mask), plain(x))
    found = torch.autograd.grad((ffn(x, (3, 2), mask) * weight).sum(), leaves)
    expected = torch.autograd.grad((plain(x) * weight).sum(), leaves)
    torch.testing.assert_close(found, expected)


def test_class_block():
    case = BLOCKS["ClassBlock"]
    block = load(ClassBlock(12, 3), case["state_dict"], lambda name: renamed(name, CLASS))
    close(block(case["x"]), case["y"][:, :1], 1e-5)


def test_embeddings():
    case = BLOCKS["SemanticEmbed"]
    embed = load(Embed(8, 12), case["state_dict"], lambda name: renamed(name, EMBED))
    close(embed(case["semantics"]), case["y"], 1e-5)
    case = BLOCKS["DownSamples"]
    down = load(DownSample(8, 12), case["state_dict"], lambda name: renamed(name, DOWN))
    y, grid = down(case["x"])
    assert grid == case["HW"]
    close(y, case["y"], 1e-5)
    case = BLOCKS["Stem"]
    stem = load(Stem(3, 4, 8), case["state_dict"], lambda name: renamed(name, PATCHES))
    y, grid = stem(case["x"])
    assert grid == case["HW"]
    close(y, case["y_train"], 1e-5)
    stem = load(stem, case["state_dict"], lambda name: renamed(name, PATCHES)).eval()
    close(stem(case["x"])[0], case["y_eval"], 1e-5)


def tiny(kind: str, **options) -> DualViT:
    network = DualViT(SIZE, num_classes=9, token_label=kind == "token_label", **options)
    return load(network, TINY[kind]["state_dict"], network_name)


@pytest.mark.parametrize("kind", ["plain", "token_label"])
@pytest.mark.parametrize("size", [(64, 64), (100, 100), (224, 224), (96, 64)])
@torch.no_grad()
def test_network_in_evaluation(kind, size):
    network, image = tiny(kind).eval(), wave((2, 3, *size), sum(size))
    close(network(image), TINY[kind]["eval"][size], 2e-5)
    close(network.double()(image.double()), TINY[kind]["eval64"][size], 1e-9)


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("kind", ["plain", "token_label"])
def test_network_in_training(kind, checkpointing):
    case, network = TINY[kind]["train"], tiny(kind).train()
    for stage in network.stages:
        stage.checkpointing = checkpointing
    out = network(wave((2, 3, 64, 64), 5))
    if kind == "plain":
        close(out, case["y"], 2e-5)
        out.square().sum().backward()
    else:
        close(out.logits, case["x_cls"], 2e-5)
        close(out.token_logits, case["x_aux"], 2e-5)
        (out.logits.square().sum() + out.token_logits.square().sum()).backward()
    squares: dict[str, float] = {}
    for theirs, norm in case["grad_norm"].items():
        squares[network_name(theirs)] = squares.get(network_name(theirs), 0) + norm**2
    found = {name: parameter.grad.norm().item() for name, parameter in network.named_parameters()}
    for name, square in squares.items():
        assert found[name] == pytest.approx(square**0.5, rel=1e-3, abs=1e-4), name
    assert squares.keys() == found.keys()


@torch.no_grad()
def test_mixed_tokens():
    """The whole way of the original: its draws, its box, the mix after the stem, and tokens back in their own image."""
    case, network = TINY["token_label"]["mix_token"], tiny("token_label").eval()
    network.training = True  # and its batch norms in evaluation, as in the original's run
    random = np.random.RandomState(7)
    box = mix_box((7, 7), random.beta(1, 1), (random.randint(7), random.randint(7)))
    assert box == case["bbox"]
    out = network(wave((2, 3, 224, 224), 6), box)
    close(out.logits, case["x_cls"], 2e-5)
    close(out.token_logits, case["x_aux"], 2e-5)


def test_boxes_leave_the_share_that_was_asked_for():
    assert mix_box((20, 30), 0.75, (10, 12)) == Box(5, 5, 15, 19)  # half of each side, in two halves rounded down
    assert mix_box((20, 30), 0.75, (2, 29)) == Box(0, 22, 7, 30)
    assert mix_box((20, 30), 1.0, (2, 29)) == Box(2, 29, 2, 29)


def test_boxes_are_drawn_everywhere():
    boxes = [draw_box((3, 5), np.random.default_rng(seed)) for seed in range(200)]
    assert all(0 <= box.top <= box.bottom <= 3 and 0 <= box.left <= box.right <= 5 for box in boxes)
    assert {box.bottom for box in boxes} == {0, 1, 2, 3}
    assert {box.right for box in boxes} == {0, 1, 2, 3, 4, 5}


@pytest.mark.parametrize(
    ("size", "plain", "labelled"),
    [("s", 24.605, 25.054), ("b", 42.114, 42.627), ("l", 72.454, 72.967)],
)
def test_published_numbers_of_parameters(size, plain, labelled):
    for token_label, expected in ((False, plain), (True, labelled)):
        with torch.device("meta"):
            network = DualViT(SIZES[size], token_label=token_label)
            assert network(torch.zeros(2, 3, 224, 224))[0].shape[-1] == 1000
        assert round(sum(p.numel() for p in network.parameters()) / 1e6, 3) == expected


def test_initial_weights():
    torch.manual_seed(0)
    network = DualViT(SIZE)
    assert network.head.weight.std().item() == pytest.approx(0.02, rel=0.02)
    assert not network.head.bias.any()
    convolution = network.stages[3].embed.convolution
    assert convolution.weight.std().item() == pytest.approx((2 / (9 * 32)) ** 0.5, rel=0.05)
    depthwise = torch.cat([block.ffn.depthwise.weight.flatten() for block in network.stages[2].blocks])
    assert depthwise.std().item() == pytest.approx((2 / 9) ** 0.5, rel=0.05)
    assert all(torch.equal(p, torch.full_like(p, 1e-6)) for n, p in network.named_parameters() if "gamma" in n)


def test_stochastic_depth_grows_from_block_to_block():
    network = DualViT(SIZES["s"])
    rates = [block.ffn_residual.drop_path.drop_prob for stage in network.stages for block in stage.blocks]
    assert rates == pytest.approx([0.15 * i / 15 for i in range(16)])


def test_stochastic_depth_drops_whole_samples():
    torch.manual_seed(0)
    block = MergeBlock(12, 3, 3, drop_path=0.5).train()
    with torch.no_grad():
        block.residual.gamma.zero_()
        block.ffn_residual.gamma.fill_(1.0)
        z = torch.randn(200, 6, 12)
        moved = block(z, (2, 2)) - z
        expected = block.eval()(z, (2, 2)) - z
    kept = moved.flatten(1).any(1)
    assert 70 < kept.sum() < 130
    torch.testing.assert_close(moved[kept], 2 * expected[kept])


@pytest.fixture
def small(monkeypatch):
    """The encoder's size "s" is that of the oracle."""
    monkeypatch.setitem(SIZES, "s", SIZE)


@pytest.mark.parametrize("features", ["map", "class"])
def test_keeps_the_contract(check_encoder, small, features):
    spec = InputSpec((5, 56, 64))
    check_encoder(lambda: DualViTEncoder(spec, features=features), spec)


def test_resized_images_keep_their_channels():
    features = DualViTEncoder(InputSpec((2, 20, 20)), image_size=64).eval()(torch.rand(1, 2, 20, 20))
    assert (features.grid, features.tokens.shape[2]) == ((2, 2), 448)


@torch.no_grad()
def test_the_encoder_is_the_network(small):
    """With the network's weights, the features are what its classifier, and what its auxiliary head, reads."""
    torch.manual_seed(0)
    network = DualViT(SIZES["s"], num_classes=3, token_label=True).eval()
    for parameter in network.parameters():
        parameter.add_(0.1 * torch.randn_like(parameter))
    weights = network.state_dict()
    image, read = torch.randn(2, 3, 64, 64), []
    network.head.register_forward_pre_hook(lambda _, args: read.append(args[0]))
    network.aux_head.register_forward_pre_hook(lambda _, args: read.append(args[0]))
    network(image)
    as_class = DualViTEncoder(InputSpec((3, 64, 64)), features="class").eval()
    weights = {name.replace("class_head.", "head."): w for name, w in weights.items()}
    as_class.load_state_dict({name: weights[name] for name in as_class.state_dict()})
    torch.testing.assert_close(as_class(image).pooled, read[0])
    as_map = DualViTEncoder(InputSpec((3, 64, 64))).eval()
    weights |= {f"head.{name}": weights[f"head.norm.{name}"] for name in ("weight", "bias")}
    as_map.load_state_dict({name: weights[name] for name in as_map.state_dict()})
    torch.testing.assert_close(as_map(image).tokens, read[1])


@torch.no_grad()
def test_an_exchange_keeps_the_semantic_tokens(small):
    encoder = DualViTEncoder(InputSpec((3, 64, 64))).eval()
    features = encoder.step(0, encoder.embed(torch.randn(2, 3, 64, 64), None))
    expected = encoder.step(1, features)
    for after in (features.with_map(features.map.clone()), features.with_tokens(features.tokens.clone())):
        torch.testing.assert_close(encoder.step(1, after).tokens, expected.tokens)
    moved = encoder.step(1, replace(features, semantics=torch.randn_like(features.semantics)))
    assert not torch.equal(moved.semantics, expected.semantics)
    with pytest.raises(ShapeError, match="lost its semantic tokens"):
        encoder.step(1, Features.from_map(features.map))
    with pytest.raises(ShapeError, match="lost its map"):
        encoder.step(1, features.with_tokens(features.tokens[:, 1:]))


@pytest.mark.parametrize("shape", [(3,), (3, 32, 32), (3, 24, 100)])
def test_images_that_it_cannot_read(shape):
    with pytest.raises(ShapeError, match=r"reads images|two of them"):
        DualViTEncoder(InputSpec(shape))
