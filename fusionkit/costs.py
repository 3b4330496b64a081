"""What models take, in words."""

from __future__ import annotations

from fusionkit.result import Cost

HEADS = ("parameters", "multiply-adds", "training", "samples / s", "peak memory")


def cost_cells(cost: Cost) -> list[str]:
    """As printed under `HEADS`; a dash for what was not measured."""
    return [
        _known(cost.parameters, "{:,}"),
        "–" if cost.multiply_adds is None else _short(cost.multiply_adds),
        "–" if cost.train_seconds is None else _duration(cost.train_seconds),
        _known(cost.samples_per_second, "{:,.0f}"),
        "–" if cost.peak_memory_bytes is None else f"{cost.peak_memory_bytes / 2**20:,.0f} MiB",
    ]


def _known(value: float | None, form: str) -> str:
    return "–" if value is None else form.format(value)


def _short(number: float) -> str:
    """With three digits and a letter for the thousands: `45.7 M`."""
    for letter, size in (("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if number >= size:
            return f"{number / size:.3g} {letter}"
    return f"{number:g}"


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
