"""The page on recipes: the keys of each section, with types, defaults and meanings."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any, get_args, get_origin

from fusionkit_site.markdown import cell, code, kind, options_tables, table
from pydantic.fields import FieldInfo

from fusionkit.sections import RecipeKeys, Section
from fusionkit.weighting import Schedule
from fusionkit.wording import OptionRow, options_in_words, plain

_TOP = "The top level"
_INTRODUCTION = """\
# Recipes

What may stand in a recipe, section by section. Options of components stand beside their names: of
[datasets](datasets.md) in `data`, of [encoders](encoders.md), [fusions](fusions.md), [losses](losses.md),
[metrics](metrics.md) and [augmentations](augmentations.md) in a mapping with `name`.

`fusionkit schema` prints the same as a JSON Schema, for editors that complete and check YAML."""


def recipe_page() -> str:
    """The page, as Markdown."""
    parts = [_INTRODUCTION]
    for place, section in sections():
        own = next(iter(options_in_words(section).values()))
        rows = [_cells(row, section.model_fields[row.name]) for row in own]
        parts += [f"## {place}", inspect.getdoc(section) or "", table(("key", "type", "default", "what"), rows)]
    parts += ["## weight", inspect.getdoc(Schedule) or "", *options_tables(Schedule).values()]
    return "\n\n".join(parts) + "\n"


def sections(place: str = "", section: type[Section] = RecipeKeys) -> Iterator[tuple[str, type[Section]]]:
    """A section and those within it, each under the keys that lead to it: `train.balance`, `modalities.NAME`."""
    yield place or _TOP, section
    for key, field in section.model_fields.items():
        for inner, name in _named(field.annotation):
            yield from sections(".".join(filter(None, (place, key, name))), inner)


def _named(annotation: Any) -> Iterator[tuple[type[Section], str]]:
    """The sections in a type; with `NAME` those that a mapping holds under names of the user's."""
    if isinstance(annotation, type) and issubclass(annotation, Section):
        yield annotation, ""
    for part in get_args(annotation):
        for section, name in _named(part):
            yield section, "NAME" if get_origin(annotation) is dict else name


def _cells(row: OptionRow, field: FieldInfo) -> tuple[str, str, str, str]:
    """A row of a table. Where a key holds a section, its type is a link, and the section may say what it means."""
    told, default, meaning = kind(row.type), row.default, row.meaning
    for place, section in sections():
        if any(section is inner for inner, _ in _named(field.annotation)):
            link = f"[{place}](#{place.replace('.', '').lower()})"
            told = told.replace(section.__name__, link).replace("anything", link)
            meaning = meaning or inspect.getdoc(section) or ""
    if factory := field.default_factory:
        made = factory()  # type: ignore[call-arg] # none of ours reads the other fields
        default = "{}" if isinstance(made, Section) else plain(made)
    return code(row.name), told.replace("anything", "component"), code(default), cell(meaning)
