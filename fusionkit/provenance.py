"""Where a run came from: versions, plugins, code, data, command line, device."""

from __future__ import annotations

import platform
import subprocess
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

import fusionkit
from fusionkit.opened import Opened
from fusionkit.packages import installed
from fusionkit.recipe import Recipe
from fusionkit.registry import load_registry

if TYPE_CHECKING:
    from lightning.fabric import Fabric

_PACKAGES = (
    "fusionkit-geo",
    "torch",
    "torchvision",
    "timm",
    "lightning",
    "numpy",
    "scipy",
    "scikit-learn",
    "rasterio",
    "pillow",
)


def provenance(recipe: Recipe, opened: Opened, fabric: Fabric, used: Mapping[str, str]) -> dict[str, Any]:
    """What one needs to know to repeat a run; `used` are the packages of its plugins, with their versions."""
    device = str(fabric.device)
    if fabric.device.type == "cuda":
        device += f" ({torch.cuda.get_device_name(fabric.device)})"
    return {
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": sys.argv,
        "overrides": list(recipe.overrides),
        "seed": recipe.seed,
        "data_fingerprint": opened.survey.fingerprint,
        "device": device,
        "processes": fabric.world_size,
        "threads": torch.get_num_threads(),
        "precision": recipe.train.precision,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": {name: found for name in _PACKAGES if (found := installed(name))},
        "plugins_used": dict(used),
        "plugins": [
            {"name": p.name, "owner": p.owner, "version": p.version, "status": p.status}
            for p in load_registry().plugins
        ],
        "git": _git(Path(fusionkit.__file__).parent),
        "recipe_git": _git(Path(next(iter(recipe.sources), ".")).resolve().parent),
    }


def _git(folder: Path) -> dict[str, Any] | None:
    """The commit that a folder is at and whether its files differ from it; None outside a repository."""

    def ask(*words: str) -> str | None:
        try:
            done = subprocess.run(  # noqa: S603 - fixed words, no shell
                ["git", "-C", str(folder), *words],  # noqa: S607
                capture_output=True,
                text=True,
                timeout=20,
                check=True,
            )
        except (OSError, subprocess.SubprocessError):
            return None
        return done.stdout.strip()

    if not folder.is_dir() or (commit := ask("rev-parse", "HEAD")) is None:
        return None
    return {"commit": commit, "changed": bool(ask("status", "--porcelain", "--untracked-files=no"))}
