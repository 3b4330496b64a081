"""The section of the report."""

from __future__ import annotations

from pathlib import Path
from statistics import median

from fusionkit_robust.gradient_norms import FOLDER, read_norms


def section(run: Path) -> list[tuple[str, str]]:
    """A line a model: the median norm of the gradients of its training, and the greatest with its step."""
    lines = []
    for path in sorted((run / FOLDER).glob("*.csv")):
        rows = read_norms(path)
        step, greatest = max(rows, key=lambda row: row[1])
        middle = median(norm for _, norm in rows)
        lines.append(f"{path.stem}: median {middle:.3g}, greatest {greatest:.3g} in step {step} of {len(rows)}")
    return [("Gradient norms", "\n".join(lines))] if lines else []
