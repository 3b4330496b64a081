"""The timm encoder: any backbone, cut into its own stages."""

from __future__ import annotations

import builtins
import importlib.util
import sys

import pytest
import timm
import torch
from fusionkit_encoders import timm_backbone
from fusionkit_encoders.timm_backbone import Timm
from pydantic import ValidationError

from fusionkit.errors import RequestError, ShapeError
from fusionkit.flow import Features, InputSpec
from fusionkit.options import options_model

MAPS = InputSpec((3, 64, 64))
PYRAMID = [(16, 16), (8, 8), (4, 4), (2, 2)]


@pytest.mark.parametrize("model", ["test_resnet", "test_convnext", "test_mambaout"])
def test_convolutional_backbones_keep_the_contract(check_encoder, model):
    spec = InputSpec((5, 48, 64))
    check_encoder(lambda: Timm(spec, model=model), spec)


def test_transformers_keep_the_contract(check_encoder):
    spec = InputSpec((5, 48, 64))
    check_encoder(lambda: Timm(spec, model="test_vit"), spec)


def test_resized_images_keep_the_contract(check_encoder):
    spec = InputSpec((2, 20, 20))
    check_encoder(lambda: Timm(spec, model="test_vit", image_size=32), spec)


def staged_and_own(model: str, spec: InputSpec = MAPS) -> tuple[Timm, Features, torch.Tensor]:
    """The encoder, its features, and what timm's own `forward_features` says with the same weights."""
    torch.manual_seed(0)
    own = timm.create_model(model, in_chans=spec.shape[0], **size_argument(model, spec)).eval()
    torch.manual_seed(0)
    encoder = Timm(spec, model=model).eval()
    image = torch.randn(2, *spec.shape)
    with torch.no_grad():
        return encoder, encoder(image), own.forward_features(image)


def size_argument(model: str, spec: InputSpec) -> dict[str, tuple[int, ...]]:
    return {"img_size": spec.shape[1:]} if timm.get_pretrained_cfg(model).fixed_input_size else {}


@pytest.mark.parametrize("model", ["test_vit", "test_vit2", "vit_tiny_patch16_224"])
def test_the_last_block_can_be_left_out(model):
    torch.manual_seed(0)
    own = timm.create_model(model, **size_argument(model, MAPS)).eval()
    torch.manual_seed(0)
    encoder = Timm(MAPS, model=model, penultimate=True).eval()
    image = torch.randn(2, *MAPS.shape)
    with torch.no_grad():
        (expected,) = own.forward_intermediates(
            image, indices=[len(own.blocks) - 2], output_fmt="NLC", intermediates_only=True
        )
        torch.testing.assert_close(encoder(image).tokens, expected)


def test_what_has_no_blocks_keeps_its_last_one():
    with pytest.raises(RequestError, match="penultimate is for plain vision transformers"):
        Timm(MAPS, model="resnet18", penultimate=True)


@pytest.mark.parametrize(
    "model",
    [
        "resnet10t",
        "seresnext26t_32x4d",
        "legacy_seresnet18",
        "dpn48b",
        "test_convnext",
        "test_efficientnet",
        "mobilenetv3_small_050",
        "regnetx_002",
        "test_nfnet",
        "ghostnet_050",
    ],
)
def test_stages_in_a_row_are_the_backbone(model):
    encoder, features, own = staged_and_own(model)
    torch.testing.assert_close(features.map, own)
    grids = []
    between = encoder.embed(torch.randn(2, *MAPS.shape), None)
    for stage in range(len(encoder.stages)):
        between = encoder.step(stage, between)
        grids.append(between.grid)
    assert grids == PYRAMID


@pytest.mark.parametrize("model", ["resnet10t", "dpn48b", "mobilenetv3_small_050", "swin_tiny_patch4_window7_224"])
def test_stages_are_timms_feature_levels(model):
    """`features_only` is timm's own way to the maps between the stages."""
    torch.manual_seed(0)
    own = timm.create_model(model, features_only=True, **size_argument(model, MAPS)).eval()
    weights = own.state_dict()
    encoder = Timm(MAPS, model=model).eval()
    # The same modules in the same order, under other names; behind timm's last level stands a final norm at most.
    mine = encoder.state_dict()
    theirs = [(key, value) for key, value in weights.items() if value.is_floating_point()]
    ours = [key for key, value in mine.items() if value.is_floating_point()]
    encoder.load_state_dict(mine | {key: value for key, (_, value) in zip(ours, theirs, strict=False)})
    image = torch.randn(2, *MAPS.shape)
    with torch.no_grad():
        levels = [x.permute(0, 3, 1, 2) if "swin" in model else x for x in own(image)][-4:]
        features = encoder.embed(image, None)
        for stage in range(3):
            features = encoder.step(stage, features)
            torch.testing.assert_close(features.map, levels[stage])


def test_swin_hands_over_maps_in_the_usual_order():
    spec = InputSpec((4, 56, 84))
    encoder, features, own = staged_and_own("swin_tiny_patch4_window7_224", spec)
    assert features.grid == (2, 3)
    torch.testing.assert_close(features.map, own.permute(0, 3, 1, 2))
    assert len(encoder.stages) == 4


@pytest.mark.parametrize(
    ("model", "prefix"), [("test_vit", 1), ("deit_tiny_distilled_patch16_224", 2), ("vit_tiny_r_s16_p8_224", 1)]
)
def test_class_tokens_stay_out_of_the_map(model, prefix):
    spec = InputSpec((3, 64, 96))
    encoder, features, own = staged_and_own(model, spec)
    assert len(encoder.stages) == 4
    assert features.grid is not None
    assert features.grid[0] * features.grid[1] == features.tokens.shape[1] == own.shape[1] - prefix
    torch.testing.assert_close(features.tokens, own[:, prefix:])


def test_register_tokens_stay_out_of_the_map():
    spec = InputSpec((3, 56, 56))
    _, features, own = staged_and_own("vit_small_patch14_reg4_dinov2", spec)
    assert features.grid == (4, 4)
    torch.testing.assert_close(features.tokens, own[:, 5:])


@pytest.mark.parametrize(
    ("model", "spec", "grid"),
    [
        ("xcit_nano_12_p16_224", InputSpec((3, 64, 96)), (4, 6)),
        ("convit_tiny", InputSpec((3, 64, 64)), (4, 4)),
        ("hrnet_w18_small", InputSpec((3, 64, 64)), (2, 2)),
    ],
)
def test_everything_else_is_one_stage(model, spec, grid):
    encoder, features, own = staged_and_own(model, spec)
    assert len(encoder.stages) == 1
    assert features.grid == grid
    expected = own.flatten(2).transpose(1, 2) if own.dim() == 4 else own[:, -features.tokens.shape[1] :]
    torch.testing.assert_close(features.tokens, expected)


@pytest.mark.slow
@pytest.mark.parametrize(
    "model",
    [
        "test_byobnet", "poolformerv2_s12", "test_coatnet", "cs3darknet_focus_s", "densenet121", "dla46x_c",
        "ese_vovnet19b_slim_dw", "edgenext_xx_small", "fastvit_t8", "lcnet_035", "hgnetv2_b0", "lowformer_b0",
        "test_mambaout", "mobilevit_xxs", "pvt_v2_b0", "resnest14d", "resnetv2_18", "rexnet_100", "selecsls42",
        "skresnet18", "tiny_vit_5m_224", "mobilenetv4_conv_small_050", "legacy_xception",
    ],
)  # fmt: skip
def test_stages_in_a_row_are_the_backbone_in_every_family(model):
    spec = InputSpec((3, 96, 96))
    _, features, own = staged_and_own(model, spec)
    torch.testing.assert_close(
        features.map, own.permute(0, 3, 1, 2) if own.shape[-1] == features.tokens.shape[2] else own
    )


def test_an_exchange_that_loses_the_class_token_is_told():
    encoder = Timm(InputSpec((3, 32, 32)), model="test_vit").eval()
    first = encoder.step(0, encoder.embed(torch.randn(1, 3, 32, 32), None))
    for kept in (first.with_tokens(first.tokens), first.with_map(first.map)):
        torch.testing.assert_close(encoder.step(1, kept).tokens, encoder.step(1, first).tokens)
    with pytest.raises(ShapeError, match="lost its class token"):
        encoder.step(1, Features(first.tokens, first.grid))


def test_presence_travels_through_the_stages():
    present = torch.tensor([True, False])
    for model in ("test_resnet", "test_vit", "xcit_nano_12_p16_224"):
        encoder = Timm(InputSpec((3, 32, 32)), model=model).eval()
        features = Features.from_map(torch.randn(2, 3, 32, 32), present)
        for stage in range(len(encoder.stages)):
            features = encoder.step(stage, features)
        assert torch.equal(features.present, present)


def test_images_are_resized_as_asked():
    encoder = Timm(InputSpec((3, 40, 60)), model="test_resnet", image_size=32)
    image = torch.rand(1, 3, 40, 60)
    resized = encoder.embed(image, None)
    assert resized.grid == (32, 32)
    expected = torch.nn.functional.interpolate(image, size=(32, 32), mode="bilinear", antialias=True)
    torch.testing.assert_close(resized.map, expected)


def test_drop_path_reaches_the_backbone():
    rates = [m.drop_prob for m in Timm(MAPS, model="test_convnext", drop_path=0.4).modules() if hasattr(m, "drop_prob")]
    assert max(rates) == pytest.approx(0.4)
    with pytest.raises(RequestError, match="vgg11 has no stochastic depth"):
        Timm(MAPS, model="vgg11", drop_path=0.1)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("resnet81", "did you mean 'resnet18'"),
        ("qqqqqq", "lists them all"),
        ("hf-hub:somebody/model", "has no model"),
        ("resnet18.a9_in1k", "no weights 'resnet18.a9_in1k'|no weights 'a9_in1k' for 'resnet18'; it has .*a1_in1k"),
    ],
)
def test_unknown_names_are_told_with_the_nearest_spelling(name, message):
    with pytest.raises(RequestError, match=message):
        Timm(MAPS, model=name)
    with pytest.raises(ValidationError, match=message):  # so that a recipe's line can be named
        options_model(Timm)(model=name)


@pytest.mark.parametrize(
    ("spec", "options", "message"),
    [
        (InputSpec((64,)), {}, "images C x H x W, not 64"),
        (InputSpec((3, 100, 100)), {"model": "vit_tiny_patch16_224"}, "100 x 100 does not divide; .* example to 96"),
        (InputSpec((3, 100, 100)), {"model": "gcvit_xxtiny"}, "cannot read images of 100 x 100 .*image_size: 224"),
        (InputSpec((3, 8, 8)), {"model": "inception_v3"}, "cannot read images of 8 x 8 .*image_size: 299"),
    ],
)
def test_images_that_do_not_fit_are_told(spec, options, message):
    with pytest.raises(ShapeError, match=message):
        Timm(spec, **options)


def test_several_feature_sets_are_refused():
    spec = InputSpec((3, 240, 240))
    with torch.device("meta"), pytest.raises(ShapeError, match="no single map or sequence"):
        Timm(spec, model="crossvit_tiny_240")(torch.zeros(1, *spec.shape))


def test_weights_that_cannot_be_fetched_are_an_error(monkeypatch):
    def unreachable(*_, **__):
        raise ConnectionError("Name or service not known. And more.\nAnd yet more.")

    monkeypatch.setattr("timm.models._builder.load_state_dict_from_hf", unreachable)
    with pytest.raises(RequestError, match=r"ConnectionError: Name or service not known\); set pretrained: false"):
        Timm(MAPS, model="test_resnet", pretrained=True)
    with torch.device("meta"):  # shapes can be proven without a connection
        Timm(MAPS, model="test_resnet", pretrained=True)


def test_weights_of_another_model_are_an_error(monkeypatch):
    other = timm.create_model("resnet10t").state_dict()
    monkeypatch.setattr("timm.models._builder.load_state_dict_from_hf", lambda *_, **__: other)
    with pytest.raises(RequestError, match="weights of test_resnet cannot be loaded"):
        Timm(MAPS, model="test_resnet", pretrained=True)


@pytest.mark.parametrize("channels", [3, 5])
def test_pretrained_weights_arrive(monkeypatch, channels):
    torch.manual_seed(3)
    own = timm.create_model("test_resnet").eval()
    monkeypatch.setattr("timm.models._builder.load_state_dict_from_hf", lambda *_, **__: dict(own.state_dict()))
    encoder = Timm(InputSpec((channels, 64, 64)), model="test_resnet", pretrained=True).eval()
    image = torch.randn(2, 3, 64, 64)
    if channels == 3:
        torch.testing.assert_close(encoder(image).map, own.forward_features(image))
    else:  # timm repeats the kernels over the channels and scales them by 3 / channels
        kernels = next(encoder.stages[0].parameters())
        torch.testing.assert_close(kernels[:, :3], own.conv1[0].weight * 3 / 5)


def test_torch_and_torchvision_of_different_builds_are_told(monkeypatch):
    real_import = builtins.__import__

    def broken(name, *rest):
        if name == "timm":
            raise RuntimeError("operator torchvision::nms does not exist")
        return real_import(name, *rest)

    monkeypatch.setattr(builtins, "__import__", broken)
    spec = importlib.util.spec_from_file_location("timm_backbone_again", timm_backbone.__file__)
    again = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "timm_backbone_again", again)
    with pytest.raises(RequestError, match=r"different builds .*install them as a pair"):
        spec.loader.exec_module(again)
