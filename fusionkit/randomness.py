"""Randomness that is counted, not carried.

Every draw comes from a generator keyed by what it is for: (seed, epoch, sample) for a sample's augmentation,
(seed, epoch) for the order, (seed, step) for dropout. So the number of workers, a resume and a second process
change nothing.
"""

from __future__ import annotations

import hashlib

import numpy as np
import torch


def key(*parts: int | str) -> int:
    """A 64-bit key that differs wherever any part does (3 and "3" are one), and is the same on every machine."""
    text = "\x1f".join(map(str, parts)).encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little")


def generator(*parts: int | str) -> np.random.Generator:
    """A NumPy generator for this purpose alone, for example `generator(seed, "augment", epoch, index)`."""
    return np.random.Generator(np.random.Philox(key(*parts)))


def seed_torch(*parts: int | str) -> None:
    """Seed torch's own generators (initial weights, dropout) for this purpose."""
    torch.manual_seed(key(*parts) % 2**63)
