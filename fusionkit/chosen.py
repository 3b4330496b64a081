"""A component that a recipe names."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from fusionkit.options import Options
from fusionkit.yamlfile import KeyPath


@dataclass
class Chosen:
    """A component that a recipe names, with its validated options.

    Args:
        kind: what it is.
        name: its name.
        target: its class.
        options: its options, defaults filled in.
        path: the keys under which the recipe names it.
        owner: the distribution that it comes from.
        summary: one line, of its record.
    """

    kind: str
    name: str
    target: type
    options: Options
    path: KeyPath
    owner: str = ""
    summary: str = ""

    def build(self, *context: Any) -> Any:
        """Make the component; `context` is what the core hands over (see `fusionkit.contract`)."""
        return self.target(*context, **dict(self.options))

    def resolved(self) -> dict[str, Any]:
        return {"name": self.name, **self.options.model_dump(mode="json")}
