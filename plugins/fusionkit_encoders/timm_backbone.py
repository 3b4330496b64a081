"""Any image backbone of timm."""

from __future__ import annotations

import difflib
from typing import Annotated, Any

import torch
from jaxtyping import Bool, Float
from pydantic import AfterValidator, PositiveInt
from torch import Tensor
from torch.nn import functional as F

from fusionkit.contract import Encoder
from fusionkit.errors import RequestError, ShapeError
from fusionkit.flow import Features, InputSpec
from fusionkit.options import Probability
from fusionkit.pairing import torchvision_needed

with torchvision_needed():
    import timm

from timm.layers import PatchEmbed
from timm.models import PretrainedCfg

from fusionkit_encoders.timm_stages import WholeBackbone, backbone_stages


def known_model(name: str) -> str:
    """Hold a model's name against timm's own list.

    Raises:
        ValueError: timm has no such model, or none with these pretrained weights.
    """
    bare, _, tag = name.partition(".")
    if not timm.is_model(bare):  # this also refuses "hf-hub:...": a recipe fetches nothing that timm does not vouch for
        near = difflib.get_close_matches(bare, timm.list_models(), n=1, cutoff=0.6)
        hint = f"did you mean {near[0]!r}?" if near else "timm.list_models() lists them all"
        raise ValueError(f"timm {timm.__version__} has no model {bare!r}; {hint}")
    if tag and name not in (weights := timm.list_pretrained(f"{bare}.*")):
        raise ValueError(f"timm has no weights {tag!r} for {bare!r}; it has {', '.join(weights) or 'none'}")
    return name


class Timm(Encoder):
    """A backbone of timm without its classifier; the features are those of timm's `forward_features`.

    Convolutional and other hierarchical backbones have a stage at each of their resolutions from a quarter down, plain
    vision transformers four groups of blocks; their class and register tokens travel along outside the map.
    Everything else is one stage.

    Args:
        spec: `(C, H, W)`; C may be any number. Pretrained first layers are adapted to it as timm does.
        model: the name in timm, with or without the tag of its weights: "resnet50", "resnet50.a1_in1k",
            "seresnext26t_32x4d", "dpn68", "convnext_tiny", "vit_tiny_patch16_224", ...
        pretrained: load weights from the Hugging Face hub, or from the cache under HF_HOME.
        image_size: resize images to this height and width first (bilinear, antialiased).
        drop_path: rate of stochastic depth in training; default: the backbone's own.
        penultimate: of a plain vision transformer, the tokens before its last block and final norm, as the fusion
            `llava` reads them.

    Raises:
        ShapeError: the backbone cannot take images of this shape.
        RequestError: the model's name is unknown, its weights cannot be fetched, it has no stochastic depth, or is no
            plain vision transformer where its last block is to be left out.
    """

    def __init__(
        self,
        spec: InputSpec,
        *,
        model: Annotated[str, AfterValidator(known_model)] = "resnet18",
        pretrained: bool = False,
        image_size: PositiveInt | None = None,
        drop_path: Probability | None = None,
        penultimate: bool = False,
    ):
        super().__init__(spec)
        if len(spec.shape) != 3:
            raise ShapeError(f"timm backbones read images C x H x W, not {spec}")
        try:
            known_model(model)
        except ValueError as error:
            raise RequestError(str(error)) from error
        self.image_size = image_size
        size = (image_size, image_size) if image_size else spec.shape[1:]
        arguments = backbone_arguments(model, spec.shape[0], size, drop_path)
        # Shapes are proven on the meta device, where there is nothing to load weights into.
        pretrained = pretrained and torch.get_default_device().type != "meta"
        try:
            backbone = timm.create_model(model, pretrained=pretrained, **arguments)
        except Exception as error:  # the hub's client raises dozens of kinds, and without it nothing fails here
            if not pretrained:
                raise
            raise RequestError(
                f"the pretrained weights of {model} cannot be loaded ({type(error).__name__}: {_gist(error)}); "
                "set pretrained: false, or fetch them on a machine with a connection and point HF_HOME to that cache"
            ) from error
        self.stages = backbone_stages(backbone, model, size, arguments, penultimate=penultimate)

    def embed(self, value: Float[Tensor, "B C H W"], valid: Bool[Tensor, "B T"] | None) -> Features:
        if self.image_size:
            size = (self.image_size, self.image_size)
            value = F.interpolate(value, size=size, mode="bilinear", antialias=True)
        return Features.from_map(value)

    def checkpoint(self) -> None:
        """Stage by stage; a backbone in one piece block by block, as timm does it, if it has no batch norms."""
        whole = self.stages[0]
        if not (isinstance(whole, WholeBackbone) and whole.checkpoint()):
            super().checkpoint()

    def step(self, stage: int, features: Features) -> Features:
        return self.stages[stage](features)


def backbone_arguments(model: str, channels: int, size: tuple[int, ...], drop_path: float | None) -> dict[str, Any]:
    """The arguments with which timm builds this backbone for such images, tried out on the meta device.

    Raises:
        ShapeError: the backbone cannot take images of this size.
        RequestError: it has no stochastic depth.
    """
    config = timm.get_pretrained_cfg(model) or PretrainedCfg()
    own = tuple(config.input_size[1:])
    arguments: dict[str, Any] = {"in_chans": channels}
    if config.fixed_input_size and size != own:
        arguments["img_size"] = size
    if drop_path is not None:
        arguments["drop_path_rate"] = drop_path
    try:
        with torch.device("meta"):
            built = timm.create_model(model, **arguments).eval()
            built.forward_features(torch.zeros(1, channels, *size))  # type: ignore[operator]
    except (AssertionError, RuntimeError, TypeError, ValueError) as error:
        if "drop_path_rate" in str(error):
            raise RequestError(f"{model} has no stochastic depth; leave out drop_path") from error
        raise ShapeError(
            f"{model} cannot read images of {size[0]} x {size[1]} ({_gist(error)}); set image_size: {own[0]}"
        ) from error
    patches = getattr(built, "patch_embed", None)
    if isinstance(patches, PatchEmbed) and any(
        side % step for side, step in zip(size, patches.patch_size, strict=True)
    ):
        step = patches.patch_size[0]
        raise ShapeError(
            f"{model} cuts images into patches of {step} x {step}, into which {size[0]} x {size[1]} does not divide; "
            f"set image_size, for example to {max(round(size[0] / step), 1) * step}"
        )
    return arguments


def _gist(error: BaseException) -> str:
    """The first sentence of an error's message."""
    first = next(iter(str(error).strip().splitlines()), type(error).__name__)
    return first.split(". ")[0].rstrip(".")
