"""Trains every fusion on the demo data and writes the table of `docs/fusions.md`.

    fusionkit data make urfc data/urfc_demo      # or make demo
    python benchmarks/zoo.py                     # all fusions, about twenty minutes on two cores
    python benchmarks/zoo.py gmu film            # some of them; the other rows of the table stay

One recipe, `recipes/urfc_demo.yaml` without baselines; only `fusion=NAME` changes. Every run is a process of its own,
so that its peak memory is its own.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from fusionkit.registry import load_registry

ROOT = Path(__file__).parents[1]
RECIPE, PAGE = ROOT / "recipes" / "urfc_demo.yaml", ROOT / "docs" / "fusions.md"
BEGIN, END = "<!-- table: python benchmarks/zoo.py -->", "<!-- end of table -->"
HEAD = "| fusion | what it does | OA (95 % interval) | parameters | multiply-adds | samples/s | peak memory |"


def measured(name: str, summary: str) -> str:
    """A row of the table: what one run of the demo with this fusion says; where it is refused, why."""
    with tempfile.TemporaryDirectory() as runs:
        words = [sys.executable, "-m", "fusionkit", "run", str(RECIPE), f"fusion={name}", "baselines=false"]
        done = subprocess.run([*words, "--runs", runs, "--json"], capture_output=True, text=True, check=False, cwd=ROOT)
    if done.returncode == 2:
        reason = done.stderr.strip().splitlines()[-1].split(": ", 2)[-1]
        return f"| `{name}` | {summary} | refused: {reason} | | | | |"
    if done.returncode:
        raise SystemExit(f"{name} failed:\n{done.stderr}")
    result = json.loads(done.stdout)
    oa, cost = result["metrics"]["oa"], result["cost"]
    cells = [
        f"`{name}`",
        summary,
        f"{oa['value']:.3f} ({oa['low']:.3f} to {oa['high']:.3f})",
        f"{cost['parameters']:,}",
        f"{cost['multiply_adds'] / 1e6:.1f} M",
        f"{cost['samples_per_second']:.0f}",
        f"{cost['peak_memory_bytes'] / 2**20:.0f} MiB",
    ]
    return "| " + " | ".join(cells) + " |"


def main() -> None:
    registry = load_registry()
    summaries = {e.component.name: e.component.summary for e in registry.components if e.component.kind == "fusion"}
    del summaries["llava"]  # needs a language model and a text
    if unknown := sorted(set(sys.argv[1:]) - summaries.keys()):
        raise SystemExit(f"no fusion is named {', '.join(unknown)}")
    page = PAGE.read_text(encoding="utf-8")
    before, _, rest = page.partition(BEGIN)
    table, _, after = rest.partition(END)
    rows = {match[1]: match[0] for match in re.finditer(r"^\| `(\w+)` .*$", table, re.MULTILINE)}
    for name in sys.argv[1:] or summaries:
        rows[name] = measured(name, summaries[name])
        print(rows[name], flush=True)
        listed = [rows[each] for each in summaries if each in rows]
        lines = [BEGIN, HEAD, "|" + "---|" * HEAD.count(" | ") + "---|", *listed, END]
        PAGE.write_text(before + "\n".join(lines) + after, encoding="utf-8")


if __name__ == "__main__":
    main()
