"""What gradient checkpointing saves and costs: a text encoder of the size of BERT-base, batch 32, 128 tokens.

    python benchmarks/memory.py                  # on a CPU, about fifteen minutes on one core
    python benchmarks/memory.py --device cuda

Both models are `text_transformer` with 12 layers of width 768 and 30,522 tokens, dropout 0.1, trained by AdamW; one is
checkpointed. Their gradients are compared first, with dropout and without. Time: both live in one process and take
turns, step by step; the ratio is that of their medians, and on a CPU also that of the processor's seconds, which other
work on the machine does not draw out. Memory: on a CPU each trains alone in a process of its own,
and the figure is the greatest resident size minus that before the model was built; on a GPU it is what torch says that
it has allocated at most. Weights, gradients and the optimiser's state are in it.
"""

from __future__ import annotations

import argparse
import copy
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import torch
from fusionkit_encoders.text_transformer import TextTransformer
from fusions import peak, told
from torch import Tensor

from fusionkit.flow import InputSpec

BATCH, SEQUENCE, VOCABULARY = 32, 128, 30_522
TIME, MEMORY = 1.4, 2 / 3


def encoder(dropout: float = 0.1) -> TextTransformer:
    torch.manual_seed(0)
    spec = InputSpec((SEQUENCE,), ragged=True, text=True, vocabulary=VOCABULARY)
    return TextTransformer(spec, width=768, layers=12, heads=12, dropout=dropout).train()


def checkpointed(model: TextTransformer) -> TextTransformer:
    model.checkpoint()
    return model


def texts(device: str) -> tuple[Tensor, Tensor]:
    """Ids, and which are real: texts of 64 to 128 tokens."""
    torch.manual_seed(1)
    lengths = torch.randint(SEQUENCE // 2, SEQUENCE + 1, (BATCH, 1))
    lengths[0] = SEQUENCE
    return torch.randint(VOCABULARY, (BATCH, SEQUENCE)).to(device), (torch.arange(SEQUENCE) < lengths).to(device)


def gradients(model: TextTransformer, device: str) -> list[Tensor]:
    ids, valid = texts(device)
    torch.manual_seed(2)
    model(ids, valid).pooled.square().mean().backward()
    return [parameter.grad for parameter in model.parameters() if parameter.grad is not None]


def are_equal(dropout: float, device: str) -> bool:
    """Whether the gradients are the same to the bit."""
    plain = encoder(dropout).to(device)
    other = checkpointed(copy.deepcopy(plain))
    return all(map(torch.equal, gradients(plain, device), gradients(other, device)))


def training(model: TextTransformer, device: str) -> Callable[[], None]:
    """A step of the optimiser."""
    model = model.to(device)
    ids, valid = texts(device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-5)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        model(ids, valid).pooled.square().mean().backward()
        optimizer.step()
        if device == "cuda":
            torch.cuda.synchronize()

    return step


def made(which: str, device: str) -> Callable[[], None]:
    return training(checkpointed(encoder()) if which == "checkpointed" else encoder(), device)


def times(steps: int, device: str) -> dict[str, tuple[float, float]]:
    """By each clock, the median seconds of a step of both, the checkpointed one first."""
    clocks = {"time": time.perf_counter} | ({"cpu": time.process_time} if device == "cpu" else {})
    both = [made(which, device) for which in ("checkpointed", "plain")]
    taken: dict[str, list[list[float]]] = {name: [[], []] for name in clocks}
    for number in range(steps + 1):
        for which, step in enumerate(both):
            started = {name: clock() for name, clock in clocks.items()}
            step()
            if number:  # the first one warms up
                for name, clock in clocks.items():
                    taken[name][which].append(clock() - started[name])
    return {name: (statistics.median(ours), statistics.median(floor)) for name, (ours, floor) in taken.items()}


def peak_on_gpu(which: str) -> int:
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    step = made(which, "cuda")
    for _ in range(3):
        step()
    return torch.cuda.max_memory_allocated()


def peak_alone(which: str, threads: int) -> int:
    """In a process of its own, which hands every large tensor back to the system when it is freed."""
    environment = os.environ | {"MALLOC_MMAP_THRESHOLD_": str(2**20), "MALLOC_TRIM_THRESHOLD_": str(2**20)}
    words = [sys.executable, __file__, "--peak-of", which, "--threads", str(threads)]
    return int(subprocess.run(words, env=environment, stdout=subprocess.PIPE, text=True, check=True).stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=3, help="timed steps of each (default 3)")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--peak-of", choices=["plain", "checkpointed"], help=argparse.SUPPRESS)
    given: Any = parser.parse_args()
    torch.set_num_threads(given.threads)
    if given.peak_of:
        print(peak(lambda: made(given.peak_of, "cpu")))
        return
    place = f"{given.threads} thread(s)" if given.device == "cpu" else torch.cuda.get_device_name()
    print(f"torch {torch.__version__}, {place}, median of {given.steps} steps in turn", flush=True)
    for dropout in (0.0, 0.1):
        same = "the same to the bit" if are_equal(dropout, given.device) else "NOT the same"
        print(f"  gradients, dropout {dropout}: {same}", flush=True)
    measure = peak_on_gpu if given.device == "cuda" else lambda which: peak_alone(which, given.threads)
    less, more = measure("checkpointed"), measure("plain")
    print(f"  memory  {less / 2**20:6.0f} MiB / {more / 2**20:6.0f} MiB = {told(less / more, MEMORY)}", flush=True)
    for name, (ours, floor) in times(given.steps, given.device).items():
        print(f"  {name:6}  {ours:6.2f} s / {floor:6.2f} s = {told(ours / floor, TIME)}")


if __name__ == "__main__":
    main()
