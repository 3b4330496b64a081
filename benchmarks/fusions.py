"""What the fusions cost, as ratios to their floors, each measured in one run.

    python benchmarks/fusions.py                 # all pairs, about five minutes on one core
    python benchmarks/fusions.py --only cen      # one of them

Every pair is a model of ours and the plain model that it is held against, on the same batch, forward and backward in
training mode, 32-bit floats. Time: both live in one process and take turns, step by step; the ratio is that of their
medians. Memory: each runs alone in a process of its own; the figure is the greatest resident size minus that
before the model was built, so it counts weights, gradients and all that is kept between forward and backward.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import timm
import torch
from fusionkit_encoders.dual_vit import DualViTEncoder
from fusionkit_encoders.timm_backbone import Timm
from fusionkit_fusions.attention import Attention, Tokens
from fusionkit_fusions.channel_exchange import ChannelExchange
from torch import Tensor, nn
from torch.nn import functional as F

from fusionkit.flow import Input, InputSpec
from fusionkit.model import feature_spec

Step = Callable[[], None]


@dataclass(frozen=True)
class Pair:
    """A model of ours, its floor, and the ratios that we want to stay below (None: no goal)."""

    title: str
    ours: Callable[[], Step]
    floor: Callable[[], Step]
    time: float | None
    memory: float | None


def stepping(model: nn.Module, run: Callable[[], Tensor]) -> Step:
    """A training step without the optimiser."""
    model.train()

    def step() -> None:
        model.zero_grad(set_to_none=True)
        run().square().mean().backward()

    return step


def cen() -> Step:
    """Two modalities through one ResNet-50: shared convolutions, private norms, exchange after every BN2."""
    spec = InputSpec((3, 224, 224))
    with torch.device("meta"):
        shape = feature_spec(Timm(spec, model="resnet50"), spec)
    encoders = nn.ModuleDict({name: Timm(spec, model="resnet50") for name in ("optical", "sar")})
    fusion = ChannelExchange({name: shape for name in encoders})
    present = torch.ones(4, dtype=torch.bool)
    inputs = {name: Input(torch.randn(4, 3, 224, 224), present) for name in encoders}
    joined = fusion.join(encoders)
    with torch.no_grad():  # as after some training: every eighth channel gives way
        for norm in fusion.norms.values():
            norm.norm.weight[::8] = 0.0
    both = nn.ModuleDict({"encoders": joined, "fusion": fusion})

    def run() -> Tensor:
        features = fusion.encode(joined, inputs)
        return torch.stack([feature.tokens for feature in features.values()])

    return stepping(both, run)


def resnet() -> Step:
    """The same images as one batch."""
    model = timm.create_model("resnet50", num_classes=0, global_pool="")
    images = torch.randn(8, 3, 224, 224)
    return stepping(model, lambda: model(images))


def dual_vit(checkpointing: bool = False) -> Step:
    model = DualViTEncoder(InputSpec((3, 224, 224)), size="s")
    if checkpointing:
        model.checkpoint()
    images = torch.randn(8, 3, 224, 224)
    return stepping(model, lambda: model(images).tokens)


def deit() -> Step:
    model = timm.create_model("deit_small_patch16_224", num_classes=0, global_pool="")
    images = torch.randn(8, 3, 224, 224)
    return stepping(model, lambda: model(images))


def cross_attention() -> Step:
    """Two modalities that read each other: 196 tokens of one, 196 of the other, half of a batch without the second."""
    attend = nn.ModuleList(Attention(256, 8, 0.0) for _ in range(2))
    one, two = torch.randn(16, 196, 256), torch.randn(16, 196, 256)
    real = torch.ones(16, 196, dtype=torch.bool)
    real[::2] = False

    def run() -> Tensor:
        return torch.cat([attend[0](one, Tokens(two, real)), attend[1](two, Tokens(one))], 1)

    return stepping(attend, run)


def bare_attention() -> Step:
    """The same linear layers around torch's kernel, without masks."""
    query, key_value, out = (nn.ModuleList(nn.Linear(256, n * 256) for _ in range(2)) for n in (1, 2, 1))
    one, two = torch.randn(16, 196, 256), torch.randn(16, 196, 256)

    def heads(x: Tensor) -> Tensor:
        return x.unflatten(2, (8, 32)).transpose(1, 2)

    def attend(number: int, x: Tensor, context: Tensor) -> Tensor:
        key, value = key_value[number](context).chunk(2, 2)
        read = F.scaled_dot_product_attention(heads(query[number](x)), heads(key), heads(value))
        return out[number](read.transpose(1, 2).flatten(2))

    def run() -> Tensor:
        return torch.cat([attend(0, one, two), attend(1, two, one)], 1)

    return stepping(nn.ModuleList([query, key_value, out]), run)


PAIRS = {
    "cross_attention": Pair(
        "cross-attention, masked / bare scaled_dot_product_attention, same projections",
        cross_attention,
        bare_attention,
        1.15,
        None,
    ),
    "cen": Pair("CEN ResNet-50, two modalities / ResNet-50, joined batch", cen, resnet, 1.08, 1.10),
    "dual_vit": Pair("Dual-ViT-S / DeiT-S", dual_vit, deit, 1.40, 2.7),
    "dual_vit_checkpointed": Pair(
        "Dual-ViT-S, gradient checkpointing / DeiT-S", lambda: dual_vit(checkpointing=True), deit, None, 1.0
    ),
}


def times(pair: Pair, steps: int) -> tuple[float, float]:
    """Median seconds of a step of ours and of the floor, which take turns."""
    ours, floor = pair.ours(), pair.floor()
    taken: dict[Step, list[float]] = {ours: [], floor: []}
    for number in range(steps + 1):
        for step in (ours, floor):
            started = time.perf_counter()
            step()
            if number:  # the first one warms up
                taken[step].append(time.perf_counter() - started)
    return statistics.median(taken[ours]), statistics.median(taken[floor])


def peak(make: Callable[[], Step]) -> int:
    """Bytes by which the process grows at most over three steps. Linux tells it."""
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far, which began with the parent's
    before = _resident("VmRSS")
    step = make()
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)  # what building has left behind is no cost of training
    for _ in range(3):
        step()
    return _resident("VmHWM") - before


def _resident(which: str) -> int:
    status = Path("/proc/self/status").read_text()
    return int(status.partition(f"{which}:")[2].split()[0]) * 1024


def alone(name: str, side: str, threads: int) -> int:
    """The same in a process of its own, which hands every large tensor back to the system when it is freed."""
    environment = os.environ | {"MALLOC_MMAP_THRESHOLD_": str(2**20), "MALLOC_TRIM_THRESHOLD_": str(2**20)}
    words = [sys.executable, __file__, "--only", name, "--peak-of", side, "--threads", str(threads)]
    return int(json.loads(subprocess.run(words, env=environment, capture_output=True, text=True, check=True).stdout))


def told(ratio: float, goal: float | None) -> str:
    return f"{ratio:.2f}" + (f" (goal {goal:.2f}{'' if ratio <= goal else ', missed'})" if goal else "")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=PAIRS)
    parser.add_argument("--steps", type=int, default=8, help="timed steps of each (default 8)")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--peak-of", choices=["ours", "floor"], help=argparse.SUPPRESS)
    given: Any = parser.parse_args()
    torch.set_num_threads(given.threads)
    torch.manual_seed(0)
    if given.peak_of:
        print(peak(getattr(PAIRS[given.only], given.peak_of)))
        return
    print(f"torch {torch.__version__}, {given.threads} thread(s), median of {given.steps} steps in turn")
    for name in [given.only] if given.only else PAIRS:
        pair = PAIRS[name]
        ours, floor = times(pair, given.steps)
        held, least = alone(name, "ours", given.threads), alone(name, "floor", given.threads)
        print(f"\n{pair.title}")
        print(f"  time    {ours:6.2f} s / {floor:6.2f} s = {told(ours / floor, pair.time)}")
        print(
            f"  memory  {held / 2**20:6.0f} MiB / {least / 2**20:6.0f} MiB = {told(held / least, pair.memory)}",
            flush=True,
        )


if __name__ == "__main__":
    main()
