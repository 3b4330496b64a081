"""Channel exchanging: the norms and the bottleneck against the original's tensors, and around them."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path

import pytest
import torch
from fusionkit_encoders.patch_cnn import PatchCNN
from fusionkit_encoders.timm_backbone import Timm
from fusionkit_fusions.channel_exchange import ChannelExchange
from fusionkit_fusions.joined_encoder import JoinedEncoder, norms_between
from fusionkit_fusions.private_norm import PrivateNorm, Room, exchange_channels
from timm.models.resnet import Bottleneck
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from fusionkit.contract import Encoder
from fusionkit.errors import ShapeError
from fusionkit.flow import Features, FeatureSpec, Input, InputSpec
from fusionkit.testing import FusionSuite

ORACLES = Path(__file__).parents[1] / "oracles"


def stack(pair: list[Tensor]) -> Tensor:
    """Modalities that alternate along the batch."""
    return torch.stack(pair, 1).flatten(0, 1)


def test_exchanges_as_the_original_does():
    """Its inputs are those of the norm, in training."""
    held = torch.load(ORACLES / "cen_exchange.pt", weights_only=True)
    pre = torch.stack(held["pre"], 1).flatten(1, 2)
    low = torch.stack(held["gamma"]).abs() < held["threshold"]
    assert low.any(1).all()
    assert low.all(0).any()
    assert not low.all()
    after = exchange_channels(pre.clone(), low)
    assert torch.equal(after, torch.stack(held["y"], 1).flatten(1, 2))
    assert not torch.equal(after, pre)


class OneBlock(Encoder):
    """An encoder of a single bottleneck of timm."""

    def __init__(self, case: dict):
        arguments = case["args"]
        super().__init__(InputSpec(tuple(case["x"][0].shape[1:])))
        downsample = None
        if arguments["downsample"]:
            downsample = nn.Sequential(
                nn.Conv2d(arguments["inplanes"], 32, 1, arguments["stride"], bias=False), nn.BatchNorm2d(32)
            )
        self.stages = nn.ModuleList(
            [Bottleneck(arguments["inplanes"], arguments["planes"], arguments["stride"], downsample)]
        )

    def embed(self, value: Tensor, valid: Tensor | None) -> Features:
        return Features.from_map(value)


def original(name: str, modality: int) -> str:
    """The original's name of a weight of timm's bottleneck."""
    path, _, leaf = name.removeprefix("stages.0.").rpartition(".")
    return f"{path}.bn_{modality}.{leaf}" if "bn" in path or path == "downsample.1" else f"{path}.module.{leaf}"


def joined(case: dict) -> JoinedEncoder:
    encoders = {}
    for modality in range(len(case["x"])):
        encoder = OneBlock(case)
        encoder.load_state_dict({key: case["state_dict"][original(key, modality)] for key in encoder.state_dict()})
        encoders[str(modality)] = encoder
    network = JoinedEncoder(encoders)
    for norm in network.norms().values():
        norm.exchange_below(0.02, "all")
    return network


def run(network: JoinedEncoder, x: list[Tensor]) -> list[Tensor]:
    present = torch.ones(len(x[0]), dtype=torch.bool)
    made = network({str(number): Input(value, present) for number, value in enumerate(x)})
    return [features.map for features in made.values()]


@pytest.mark.parametrize("name", ["identity", "stride2"])
class TestBottleneck:
    """Against the original's block of two modalities."""

    @pytest.fixture
    def case(self, name: str) -> dict:
        return torch.load(ORACLES / "cen_bottleneck.pt", weights_only=True)[name]

    def test_only_the_second_norm_exchanges(self, case):
        assert list(joined(case).norms()) == ["stages.0.bn2"]

    def test_evaluates_as_the_original(self, case):
        torch.testing.assert_close(run(joined(case).eval(), case["x"]), case["y_eval"], rtol=1e-5, atol=1e-5)

    def test_trains_as_the_original(self, case):
        network = joined(case).train()
        x = [value.clone().requires_grad_() for value in case["x"]]
        y = run(network, x)
        torch.testing.assert_close([map.detach() for map in y], case["y_train"], rtol=1e-5, atol=1e-5)
        sum((map * weight).sum() for map, weight in zip(y, case["w"], strict=True)).backward()
        torch.testing.assert_close([value.grad for value in x], case["grad_x"], rtol=1e-5, atol=1e-5)
        held = 0
        for path, module in network.encoder.named_modules():
            if isinstance(module, PrivateNorm):
                for modality in range(2):
                    for leaf in ("weight", "bias"):
                        found = getattr(module.norm, leaf).grad.chunk(2)[modality]
                        wanted = case["grads"][original(f"{path}.{leaf}", modality)]
                        torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5)
                        held += 1
                    for leaf in ("running_mean", "running_var"):
                        found = getattr(module.norm, leaf).chunk(2)[modality]
                        wanted = case["state_dict_after_train"][original(f"{path}.{leaf}", modality)]
                        torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5)
            elif isinstance(module, nn.Conv2d):
                wanted = case["grads"][original(f"{path}.weight", 0)]
                torch.testing.assert_close(module.weight.grad, wanted, rtol=1e-5, atol=1e-5)
                held += 1
        assert held == len(case["grads"])


def test_one_modality_alone_exchanges_nothing():
    held = torch.load(ORACLES / "cen_single_modality.pt", weights_only=True)
    case = held | {"args": {"inplanes": 32, "planes": 8, "stride": 1, "downsample": False}}
    (y,) = run(joined(case).eval(), held["x"])
    torch.testing.assert_close(y, held["y"][0], rtol=1e-6, atol=1e-6)


def plain(x: Tensor, low: Tensor, present: Tensor) -> Tensor:
    """The rule, channel by channel: x is [B, M, C, H, W]."""
    rows = []
    for sample in range(x.shape[0]):
        for m in range(x.shape[1]):
            donors = [o for o in range(x.shape[1]) if o != m and present[sample, o]]
            for c in range(x.shape[2]):
                gives = bool(low[m, c]) and bool(donors)
                rows.append(sum(x[sample, o, c] for o in donors) / len(donors) if gives else x[sample, m, c])
    return torch.stack(rows).view_as(x)


@pytest.mark.parametrize("modalities", [2, 3, 4])
def test_the_others_that_are_present_give_their_mean(modalities):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(6, modalities, 5, 2, 2, generator=generator, dtype=torch.float64, requires_grad=True)
    low = torch.rand(modalities, 5, generator=generator) < 0.5
    present = torch.rand(6, modalities, generator=generator) < 0.6
    present[0] = False
    weight = torch.randn(x.shape, generator=generator, dtype=torch.float64)
    found = exchange_channels(x.flatten(1, 2).clone(), low, present).view_as(x)
    wanted = plain(x, low, present)
    torch.testing.assert_close(found, wanted)
    (given,) = torch.autograd.grad((found * weight).sum(), x)
    (owed,) = torch.autograd.grad((wanted * weight).sum(), x)
    torch.testing.assert_close(given, owed)


def test_half_exchanges_only_the_part_that_is_penalised():
    norm = PrivateNorm([nn.BatchNorm2d(6) for _ in range(3)], Room())
    nn.init.zeros_(norm.norm.weight)
    norm.exchange_below(0.02, "all")
    assert norm.giving_way().all()
    norm.exchange_below(0.02, "half")
    assert norm.giving_way().int().tolist() == [[1, 1, 0, 0, 0, 0], [0, 0, 1, 1, 0, 0], [0, 0, 0, 0, 1, 1]]


def specs() -> dict[str, FeatureSpec]:
    return {"a": FeatureSpec(6, 4), "b": FeatureSpec(3, 1)}


def test_the_ensemble_weighs_those_present_and_stops_their_gradient():
    fusion = ChannelExchange(specs(), dim=4)
    with torch.no_grad():
        fusion.alpha.copy_(torch.tensor([1.0, 3.0]))
    present = {"a": torch.tensor([True, True, False]), "b": torch.tensor([True, False, False])}
    features = {n: Features(torch.randn(3, s.tokens, s.dim), present=present[n]) for n, s in specs().items()}
    branches = {name: torch.randn(3, 5, requires_grad=True) for name in specs()}
    found = fusion.decide(None, branches, features)
    first, second = torch.tensor([1.0, 3.0]).exp() / torch.tensor([1.0, 3.0]).exp().sum()
    torch.testing.assert_close(found[0], (first * branches["a"] + second * branches["b"])[0].detach())
    torch.testing.assert_close(found[1], branches["a"][1].detach())
    assert found[2].isfinite().all()
    found.square().sum().backward()
    assert fusion.alpha.grad.abs().min() > 0
    assert all(branch.grad is None for branch in branches.values())


def test_the_penalty_is_each_modalitys_part_of_the_scales():
    fusion = ChannelExchange(specs(), dim=4)
    with torch.no_grad():
        fusion.level.norm.norm.weight.copy_(torch.tensor([-1.0, 2.0, 90.0, 90.0, 90.0, 90.0, 4.0, -8.0]))
    fused = fusion({name: Features(torch.randn(3, spec.tokens, spec.dim)) for name, spec in specs().items()})
    assert fused.penalties["channel_l1"].item() == 15.0


def test_a_training_without_any_exchange_is_remarked():
    assert "cen_l1" in ChannelExchange.remarks([{"fusion/exchanged": 0.0}] * 3)[0]
    assert not ChannelExchange.remarks([{"fusion/exchanged": 0.0}, {"fusion/exchanged": 0.1}])
    assert not ChannelExchange.remarks([])


def coupled(variant: str, *shapes: tuple[int, ...], form: str = "auto") -> ChannelExchange:
    inputs = {name: InputSpec(shape) for name, shape in zip("abcd", shapes, strict=False)}
    encoders = nn.ModuleDict({name: PatchCNN(spec, variant=variant, width=4) for name, spec in inputs.items()})
    fusion = ChannelExchange({name: feature_spec_of(encoders[name]) for name in inputs}, form=form, dim=4)
    fusion.join(encoders)
    return fusion


def feature_spec_of(encoder: Encoder) -> FeatureSpec:
    return FeatureSpec.of(encoder.eval()(torch.zeros(1, *encoder.spec.shape)))


def test_modalities_of_other_bands_keep_their_stems_and_share_the_rest():
    assert coupled("2d", (3, 9, 9), (5, 9, 9), form="network").level is None


@pytest.mark.parametrize(
    ("variant", "shapes", "complaint"),
    [
        ("2d", ((3, 9, 9), (3, 10, 10)), "one height and width"),
        ("spectral_spatial", ((30, 9, 9), (12, 9, 9)), "only the first convolution"),
    ],
)
def test_what_cannot_be_stacked_is_no_network(variant, shapes, complaint):
    with pytest.raises(ShapeError, match=complaint):
        coupled(variant, *shapes, form="network")
    assert coupled(variant, *shapes).level is not None


@pytest.mark.parametrize(
    ("model", "count", "suffix"),
    [
        ("resnet50", 16, ".bn2"),
        ("resnet18", 8, ".bn1"),
        ("regnetx_002", 13, ".conv2.bn"),
        ("dpn68", 22, ".c1x1_c.bn"),  # pre-activation: the norm before the last 1x1
        ("vgg11_bn", 7, ""),  # no blocks: all but the last
    ],
)
def test_norms_behind_spatial_convolutions_inside_blocks(model, count, suffix):
    with torch.device("meta"):
        found = norms_between(Timm(InputSpec((3, 64, 64)), model=model))
    assert len(found) == count
    assert all(path.endswith(suffix) for path in found)


def test_without_an_exchange_each_modality_has_the_plain_network():
    encoders = {name: Timm(InputSpec((3, 32, 32)), model="resnet18") for name in "ab"}
    alone = {name: deepcopy(encoders["a"]).eval() for name in encoders}
    for path, module in encoders["b"].named_modules():
        if isinstance(module, _BatchNorm):
            nn.init.uniform_(module.running_var, 0.5, 2)
            alone["b"].get_submodule(path).load_state_dict(module.state_dict())
    x = torch.randn(2, 2, 3, 32, 32)
    network = JoinedEncoder(encoders).eval()
    for norm in network.norms().values():
        norm.exchange_below(0.0, "all")
    with torch.no_grad():
        for made, name, value in zip(run_named(network, x), "ab", x, strict=True):
            torch.testing.assert_close(made, alone[name](value).map, rtol=1e-6, atol=1e-6)


def run_named(network: JoinedEncoder, x: Tensor) -> list[Tensor]:
    present = torch.ones(x.shape[1], dtype=torch.bool)
    made = network({name: Input(value, present) for name, value in zip("ab", x, strict=True)})
    return [features.map for features in made.values()]


class TestFeatures(FusionSuite):
    """On pooled features."""

    component = ChannelExchange
    options = {"form": "features", "dim": 16}


class TestNetwork(FusionSuite):
    """In the network; of modalities without a common grid it refuses those, and is given maps of one."""

    component = ChannelExchange
    options = {"form": "network"}
    counts = (2, 3, 4)


def test_gradients_of_the_exchange_are_those_of_the_original():
    """Its norm is in evaluation, with statistics of mean 0 and variance 1."""
    held = torch.load(ORACLES / "cen_exchange.pt", weights_only=True)
    norms = []
    for gamma, x, pre in zip(held["gamma"], held["x"], held["pre"], strict=True):
        norm = nn.BatchNorm2d(8).eval()
        with torch.no_grad():
            norm.weight.copy_(gamma)
            norm.bias.copy_((pre - x * (gamma / (1 + 1e-5) ** 0.5).reshape(-1, 1, 1))[0, :, 0, 0])
        norms.append(norm)
    private = PrivateNorm(norms, Room()).eval()
    private.exchange_below(held["threshold"], "all")
    x = stack(held["x"]).requires_grad_()
    y = private(x)
    torch.testing.assert_close(y, stack(held["y"]))
    (y * stack(held["w"])).sum().backward()
    torch.testing.assert_close(x.grad, stack(held["grad_x"]), rtol=0, atol=1e-6)
    torch.testing.assert_close(private.norm.weight.grad, torch.cat(held["grad_gamma"]), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(private.norm.bias.grad, torch.cat(held["grad_beta"]), rtol=1e-5, atol=1e-6)
