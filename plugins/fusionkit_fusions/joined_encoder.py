"""Makes one network of several encoders of the same structure: shared convolutions, private norms."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from itertools import zip_longest

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd

from fusionkit.checkpointing import run_stage
from fusionkit.contract import Encoder
from fusionkit.errors import ShapeError
from fusionkit.flow import Features, Input
from fusionkit_fusions.private_norm import PrivateConvolution, PrivateNorm, Room


class JoinedEncoder(nn.Module):
    """One encoder for several modalities, which go through it together, alternating along the batch.

    Convolutions and all else are those of the first modality. Batch norms are private, and so are convolutions that
    differ in the channels that they read: the stems.

    Args:
        encoders: of one class and structure, one a modality.

    Raises:
        ShapeError: they differ in more than stems, or have no batch norm.
    """

    def __init__(self, encoders: Mapping[str, Encoder]):
        super().__init__()
        self.names = tuple(encoders)
        self.room = Room()
        self.encoder, *others = encoders.values()
        for name, other in zip(self.names[1:], others, strict=True):
            _hold_alike(self.names[0], self.encoder, name, other)
        _hold_stems(encoders)
        spatial = norms_between(self.encoder)
        self.exchanging: list[str] = []
        for path, module in list(self.encoder.named_modules()):
            if isinstance(module, _BatchNorm):
                norms = [module, *(other.get_submodule(path) for other in others)]
                _replace(self.encoder, path, PrivateNorm(norms, self.room))  # type: ignore[arg-type]
                self.exchanging += [path] if path in spatial else []
            elif isinstance(module, _ConvNd):
                own = [module, *(other.get_submodule(path) for other in others)]
                if len({convolution.in_channels for convolution in own}) > 1:
                    _replace(self.encoder, path, PrivateConvolution(own))

    def norms(self) -> dict[str, PrivateNorm]:
        """The norms behind which channels are exchanged, by their place in the encoder."""
        found = {path: self.encoder.get_submodule(path) for path in self.exchanging}
        return {path: norm for path, norm in found.items() if isinstance(norm, PrivateNorm)}

    def forward(self, inputs: Mapping[str, Input]) -> dict[str, Features]:
        given = [inputs[name] for name in self.names]
        channels = max(each.value.shape[1] for each in given)
        stacked = torch.stack([_padded(each.value, channels) for each in given], 1).flatten(0, 1)
        known = partial(self.room.of, torch.stack([each.present for each in given], 1))
        with known():
            features = self.encoder.embed(stacked, None)
        for stage in range(len(self.encoder.stages)):
            features = run_stage(self.encoder, stage, features, around=known)
        with known():
            features = self.encoder.finish(features)
        apart = features.tokens.unflatten(0, (-1, len(given)))
        return {
            name: Features(apart[:, number], features.grid, present=each.present)
            for number, (name, each) in enumerate(zip(self.names, given, strict=True))
        }


def norms_between(encoder: Encoder) -> set[str]:
    """The norms behind a spatial convolution inside a block: BN2 of a bottleneck, BN1 of a basic block.

    That is a norm that runs after a convolution with a kernel larger than one, and before another one of the same
    block that reads its channels. In a network without blocks, all norms behind spatial convolutions but the last.

    Raises:
        ShapeError: there is none.
    """
    order = _order(encoder)
    inside: list[str] = []
    behind: list[str] = []
    for position, (path, module) in enumerate(order):
        if not isinstance(module, _BatchNorm):
            continue
        before = next((o for o in reversed(order[:position]) if isinstance(o[1], _ConvNd)), None)
        after = next((o for o in order[position + 1 :] if isinstance(o[1], _ConvNd)), None)
        if before is None or max(before[1].kernel_size) == 1:  # type: ignore[arg-type]
            continue
        behind.append(path)
        if after is not None and after[1].in_channels == module.num_features:
            inside += [path] if _in_one_block(encoder, before[0], after[0]) else []
    if not (found := inside or behind[:-1]):
        raise ShapeError("the encoder has no batch norm behind a convolution of more than 1 x 1, inside a block")
    return set(found)


def _order(encoder: Encoder) -> list[tuple[str, nn.Module]]:
    """Convolutions and batch norms in the order in which they run, each once."""
    order: dict[str, nn.Module] = {}
    hooks = []
    for path, module in encoder.named_modules():
        if isinstance(module, _ConvNd | _BatchNorm):
            hooks.append(
                module.register_forward_pre_hook(lambda held, _, path=path: order.setdefault(path, held) and None)
            )
    training, device = encoder.training, next(encoder.parameters()).device
    try:
        with torch.no_grad():
            encoder.eval()(torch.zeros(1, *encoder.spec.shape, device=device))
    finally:
        encoder.train(training)
        for hook in hooks:
            hook.remove()
    return list(order.items())


def _in_one_block(encoder: nn.Module, before: str, after: str) -> bool:
    """Whether two convolutions lie in one block: a module that is no mere sequence of others."""
    steps = []
    for one, other in zip(before.split("."), after.split("."), strict=False):
        if one != other:
            break
        steps.append(one)
    common = encoder.get_submodule(".".join(steps))
    if type(common) is nn.Sequential and before.count(".") == after.count(".") == len(steps):
        common = encoder.get_submodule(".".join(steps[:-1]))  # the body of a block written as a sequence of layers
    return common is not encoder and not isinstance(common, nn.Sequential | nn.ModuleList | nn.ModuleDict)


def _hold_alike(name: str, encoder: Encoder, other_name: str, other: Encoder) -> None:
    if type(encoder) is not type(other):
        kinds = f"{type(encoder).__name__} for {name} and {type(other).__name__} for {other_name}"
        raise ShapeError(f"convolutions can be shared between encoders of one kind, not {kinds}")
    for (path, one), (other_path, two) in zip_longest(
        encoder.named_parameters(), other.named_parameters(), fillvalue=("nothing", None)
    ):
        module = encoder.get_submodule(path.rpartition(".")[0]) if one is not None else None
        stem = isinstance(module, _ConvNd) and one is not None and two is not None and one.shape[0] == two.shape[0]
        if path != other_path or (one is not None and two is not None and one.shape != two.shape and not stem):
            raise ShapeError(
                f"the encoders of {name} and {other_name} differ in {path} "
                f"({_shape(one)} and {_shape(two)}); give them the same options"
            )


def _hold_stems(encoders: Mapping[str, Encoder]) -> None:
    """Inputs go through stacked, so they have one height and width, and only what reads them may differ in channels."""
    (first, encoder), *others = encoders.items()
    stem = next((path for path, module in _order(encoder) if isinstance(module, _ConvNd)), None)
    for name, other in others:
        if encoder.spec.shape[1:] != other.spec.shape[1:]:
            raise ShapeError(
                f"{first} is {encoder.spec} and {name} is {other.spec}; modalities of one network have one "
                "height and width",
                modality=name,
            )
        for path, module in encoder.named_modules():
            if isinstance(module, _ConvNd) and path != stem:
                own = other.get_submodule(path)
                if isinstance(own, _ConvNd) and own.in_channels != module.in_channels:
                    raise ShapeError(
                        f"the encoders of {first} and {name} differ in the channels that {path} reads "
                        f"({module.in_channels} and {own.in_channels}); only the first convolution may",
                        modality=name,
                    )


def _shape(parameter: Tensor | None) -> str:
    return "nothing" if parameter is None else " x ".join(map(str, parameter.shape))


def _padded(value: Float[Tensor, "B C H W"], channels: int) -> Float[Tensor, "B D H W"]:
    missing = channels - value.shape[1]
    return F.pad(value, (0, 0, 0, 0, 0, missing)) if missing else value


def _replace(root: nn.Module, path: str, module: nn.Module) -> None:
    parent, _, name = path.rpartition(".")
    setattr(root.get_submodule(parent), name, module)
