"""Which code a result comes from: one hash of the core and of every package that provides components."""

from __future__ import annotations

import hashlib
from importlib.util import find_spec
from pathlib import Path

from fusionkit.registry import load_registry


def code_hash() -> str:
    """16 hexadecimal digits of all Python files of fusionkit and of the packages of installed plugins.

    Nothing is imported for it.
    """
    told = hashlib.blake2b(digest_size=8)
    targets = [entry.component.target for entry in load_registry().components]
    for package in sorted({"fusionkit", *(target.split(".")[0].split(":")[0] for target in targets)}):
        for folder, path in _files(package):
            told.update(f"{package}/{path.relative_to(folder).as_posix()}\0".encode())
            told.update(hashlib.blake2b(path.read_bytes()).digest())
    return told.hexdigest()


def _files(package: str) -> list[tuple[Path, Path]]:
    """The Python files of a package, each with the folder of the package."""
    spec = find_spec(package)
    if spec is None:
        return []
    if spec.submodule_search_locations is None:  # a module of one file
        return [(Path(spec.origin).parent, Path(spec.origin))] if spec.origin else []
    return [
        (Path(folder), path)
        for folder in spec.submodule_search_locations
        for path in sorted(Path(folder).rglob("*.py"))
    ]
