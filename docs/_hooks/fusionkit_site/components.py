"""A page for each kind of component: what each does, and its options, as `fusionkit plugins show` tells them."""

from __future__ import annotations

import inspect
import os
from importlib.metadata import entry_points

from fusionkit_site.markdown import cell, code, options_tables, table

from fusionkit.components import ENTRY_POINT_GROUP
from fusionkit.options import options_model
from fusionkit.registry import DISABLE_VARIABLE, Entry, Registry
from fusionkit.wording import prose

DISTRIBUTION = "fusionkit-geo"
PAGES = {
    "encoder": ("encoders", "An encoder turns one modality into features."),
    "fusion": ("fusions", "A fusion combines the features of all modalities."),
    "loss": ("losses", "A loss is one term of what training minimises; losses add up, each with a weight."),
    "dataset": ("datasets", "A dataset lists samples and reads them. Its options stand in `data`, beside `source`."),
    "metric": ("metrics", "A metric is a figure of the answers, beside the headline figures of the task."),
    "augmentation": ("augmentations", "An augmentation changes samples, or whole batches, in training only."),
}
"""Per kind, the page's name and its first sentence."""


def switch_off_plugins_of_others() -> None:
    """What is installed beside this distribution has no place in its reference."""
    owners = [(point.dist.name, point.name) for point in entry_points(group=ENTRY_POINT_GROUP) if point.dist]
    os.environ[DISABLE_VARIABLE] = ",".join(f"{owner}:{name}" for owner, name in owners if owner != DISTRIBUTION)


def component_page(kind: str, registry: Registry) -> str:
    """The page of one kind, as Markdown."""
    name, sentence = PAGES[kind]
    entries = [registry.get(kind, known) for known in registry.names(kind)]
    listed = [(f"[`{e.component.name}`](#{e.component.name})", cell(e.component.about)) for e in entries]
    parts = [f"# {name.capitalize()}", sentence, table((kind, "what"), listed)]
    for entry in entries:
        parts += _component(entry, registry)
    return "\n\n".join(parts) + "\n"


def _component(entry: Entry, registry: Registry) -> list[str]:
    component = entry.component
    target = registry.resolve(component.kind, component.name)
    parts = [f"## {component.name}", prose(inspect.getdoc(target) or component.summary)]
    if component.deprecated:
        parts.append(f"**Deprecated**: {component.deprecated}")
    if component.extra:
        parts.append(f"It needs `pip install '{component.extra}'`.")
    own, *named = options_tables(options_model(target)).items()
    parts.append(own[1] or "It has no options.")
    for name, options in named:
        parts += [f"{code(name)} has these keys:", options]
    return parts
