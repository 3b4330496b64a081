"""Gradient checkpointing: stages of encoders whose inner values are not kept but computed again going back.

The gradients are the same numbers: dropout draws what it drew, and what a stage writes while it is trained, the
statistics of batch norms, it writes once.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from fusionkit.flow import Features

if TYPE_CHECKING:
    from fusionkit.contract import Encoder


def run_stage(
    encoder: Encoder,
    stage: int,
    features: Features,
    around: Callable[[], AbstractContextManager[None]] = nullcontext,
) -> Features:
    """Run one stage of an encoder; checkpointed where the encoder says so and there will be a way back.

    Args:
        encoder, stage, features: `encoder.step(stage, features)` is run.
        around: makes what has to hold while the stage runs, each time that it does.
    """

    def run(tokens: Tensor) -> Features:
        with around():
            return encoder.step(stage, replace(features, tokens=tokens))

    if not (encoder.checkpointing and torch.is_grad_enabled()):
        return run(features.tokens)
    # A tensor has to stand among the arguments: it tells whose generator the state is of that is kept for dropout.
    return checkpoint(
        run, features.tokens, use_reentrant=False, context_fn=lambda: (nullcontext(), _BuffersAside(encoder))
    )


class _BuffersAside:
    """While it is entered, a module writes to copies of its buffers: it was there before, and has written them then.

    Which buffers a module writes to cannot be seen; batch norms do so behind the back of autograd's counts.
    """

    def __init__(self, module: nn.Module):
        self.module = module

    def __enter__(self) -> None:
        self.held = [(part._buffers, dict(part._buffers)) for part in self.module.modules() if part._buffers]
        for buffers, own in self.held:
            buffers.update({name: buffer.clone() for name, buffer in own.items() if buffer is not None})

    def __exit__(self, *_: object) -> None:
        for buffers, own in self.held:
            buffers.update(own)
