"""Finds tensors that a module holds without having registered them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import Tensor, nn


def unregistered(module: nn.Module, known: nn.Module | None = None) -> list[str]:
    """Where tensors hide from `parameters()` and `state_dict()`: in lists, tuples, dicts and plain attributes.

    Args:
        module: searched with all its submodules.
        known: what is registered here is known, for modules that refer to parts of their neighbours.
    """
    roots = [module] if known is None else [module, known]
    registered = {id(t) for root in roots for t in [*root.parameters(), *root.buffers()]}
    modules = {id(m) for root in roots for m in root.modules()}
    found: list[str] = []
    for name, part in module.named_modules():
        for attribute, value in vars(part).items():
            if attribute in ("_parameters", "_buffers", "_modules"):
                continue
            for where, held in _tensors_and_modules(attribute, value):
                if isinstance(held, nn.Module):
                    hidden = id(held) not in modules and any(True for _ in held.parameters())
                else:
                    hidden = id(held) not in registered
                if hidden:
                    found.append(f"{name}.{where}" if name else where)
    return found


def _tensors_and_modules(where: str, value: Any, depth: int = 0) -> Iterator[tuple[str, Tensor | nn.Module]]:
    if isinstance(value, Tensor | nn.Module):
        yield where, value
    elif depth < 3 and isinstance(value, list | tuple | set):
        for number, item in enumerate(value):
            yield from _tensors_and_modules(f"{where}[{number}]", item, depth + 1)
    elif depth < 3 and isinstance(value, dict):
        for key, item in value.items():
            yield from _tensors_and_modules(f"{where}[{key!r}]", item, depth + 1)
