"""Batch norms of their own for modalities that go through one network together, and the exchange between them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.modules.batchnorm import _BatchNorm

Region = Literal["half", "all"]


class Room:
    """What the private norms of a network have to know of the batch that goes through: who has which modality."""

    present: Bool[Tensor, "B M"] | None = None

    @contextmanager
    def of(self, present: Bool[Tensor, "B M"]) -> Iterator[None]:
        """While a batch goes through."""
        self.present = present
        try:
            yield
        finally:
            self.present = None


class PrivateNorm(nn.Module):
    """A batch norm for each modality, of modalities that alternate along the batch: sample 0 of each, sample 1 of each.

    `[B * M, C, ...]` is then a view of `[B, M * C, ...]`, and the private norms are one norm of M * C channels: nothing
    is cut apart and joined again.

    Args:
        norms: one a modality; weights and statistics are taken over. A norm with an activation keeps it, behind the
            exchange.
        room: shared by all norms of the network.
    """

    def __init__(self, norms: Sequence[_BatchNorm], room: Room):
        super().__init__()
        first = norms[0]
        self.modalities, self.channels, self.room = len(norms), first.num_features, room
        drop, act = getattr(first, "drop", None), getattr(first, "act", None)
        self.behind = nn.Sequential(*(part for part in (drop, act) if isinstance(part, nn.Module)))
        kind = nn.BatchNorm2d if len(self.behind) else type(first)
        self.norm = kind(self.modalities * self.channels, eps=first.eps, momentum=first.momentum)
        taken = {name: [norm.state_dict()[name] for norm in norms] for name in first.state_dict()}
        self.norm.load_state_dict(
            {name: values[0] if values[0].dim() == 0 else torch.cat(values) for name, values in taken.items()}
        )
        self.threshold: float | None = None
        self.region: Region = "all"

    def exchange_below(self, threshold: float, region: Region) -> None:
        """Let channels give way whose scale is below the threshold."""
        self.threshold, self.region = threshold, region

    @property
    def scale(self) -> Float[Tensor, "M C"]:
        """The scale of every channel."""
        return self.norm.weight.unflatten(0, (self.modalities, self.channels))

    def part(self) -> Bool[Tensor, "M C"]:
        """The channels of each modality that are penalised: the m-th of M parts of those of modality m."""
        channel = torch.arange(self.channels, device=self.norm.weight.device) * self.modalities // self.channels
        return channel == torch.arange(self.modalities, device=channel.device).unsqueeze(1)

    def giving_way(self) -> Bool[Tensor, "M C"]:
        """The channels that become those of the others."""
        low = self.scale.abs() < (self.threshold or 0.0)
        return low & self.part() if self.region == "half" else low

    def forward(self, x: Float[Tensor, "BM C ..."]) -> Float[Tensor, "BM C ..."]:
        size = len(x) // self.modalities
        y = self.norm(x.reshape(size, self.modalities * self.channels, *x.shape[2:]))
        if self.threshold is not None and self.modalities > 1:
            y = exchange_channels(y, self.giving_way(), self.room.present)
        return self.behind(y.reshape(x.shape))


def exchange_channels(
    x: Float[Tensor, "B MC ..."], giving_way: Bool[Tensor, "M C"], present: Bool[Tensor, "B M"] | None = None
) -> Float[Tensor, "B MC ..."]:
    """Channels that give way become the mean of the other modalities' same channel, all read from before; in place.

    Args:
        x: the channels of all modalities side by side. Nothing else may need it as it was: the output of a norm.
        giving_way: which of them give way.
        present: which sample has which modality. Only those give, and where there is no other nothing gives way.
    """
    if x.is_meta:  # how many channels give way is a matter of values
        return x
    channels = [which.nonzero().squeeze(1) for which in giving_way]
    if not any(map(len, channels)):
        return x
    if present is None:
        present = x.new_ones(len(x), len(giving_way), dtype=torch.bool)
    return _Exchange.apply(x, channels, present)  # type: ignore[no-untyped-call]


class _Exchange(torch.autograd.Function):
    """Reads and writes the channels that give way alone: usually a few, and in the beginning none."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, channels: list[Tensor], present: Tensor) -> Tensor:  # type: ignore[override]
        ctx.mark_dirty(x)
        apart = x.view(len(x), len(channels), -1, *x.shape[2:])
        shares = [_shares(present, m).to(x.dtype) for m in range(len(channels))]
        ctx.channels, ctx.shares = channels, shares
        taken = []
        for m, which in enumerate(channels):
            mean: Any = 0.0
            for other in range(len(channels)):
                if other != m and len(which):
                    share = _wide(shares[m][:, other], apart)
                    mean = mean + torch.where(share > 0, share * apart[:, other, which], 0.0)
            taken.append(mean)
        for m, which in enumerate(channels):
            if len(which):
                alone = _wide(shares[m].sum(1) == 0, apart)
                apart[:, m, which] = torch.where(alone, apart[:, m, which], taken[m])
        return x

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:  # type: ignore[override]
        back = gradient.clone(memory_format=torch.contiguous_format)
        apart = back.view(len(back), len(ctx.channels), -1, *back.shape[2:])
        given = [apart[:, m, which] for m, which in enumerate(ctx.channels)]
        for m, which in enumerate(ctx.channels):
            alone = _wide(ctx.shares[m].sum(1) == 0, apart)
            apart[:, m, which] = torch.where(alone, given[m], 0.0)
        for m, which in enumerate(ctx.channels):
            for other in range(len(ctx.channels)):
                if other != m and len(which):
                    apart[:, other, which] += _wide(ctx.shares[m][:, other], apart) * given[m]
        return back, None, None


def _shares(present: Bool[Tensor, "B M"], modality: int) -> Float[Tensor, "B M"]:
    """How much each modality gives to this one: equal shares of the others that are present."""
    others = present.float()
    others[:, modality] = 0
    return others / others.sum(1, keepdim=True).clamp(min=1)


def _wide(values: Tensor, like: Tensor) -> Tensor:
    """A value a sample, to broadcast over its channels `[B, C, ...]`."""
    return values.reshape(-1, *[1] * (like.dim() - 2))


class PrivateConvolution(nn.Module):
    """A convolution for each modality, where they differ in channels; of inputs that alternate along the batch.

    Args:
        convolutions: one a modality. Each reads as many of the input's first channels as it has.
    """

    def __init__(self, convolutions: Sequence[nn.Module]):
        super().__init__()
        self.convolutions = nn.ModuleList(convolutions)

    def forward(self, x: Float[Tensor, "BM C ..."]) -> Float[Tensor, "BM D ..."]:
        apart = x.unflatten(0, (-1, len(self.convolutions)))
        made = [
            convolution(apart[:, number, : convolution.in_channels])  # type: ignore[operator,index,misc]
            for number, convolution in enumerate(self.convolutions)
        ]
        return torch.stack(made, 1).flatten(0, 1)
