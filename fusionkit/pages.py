"""Pages of HTML from the templates of fusionkit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jinja2


def template(name: str, **filters: Callable[..., Any]) -> jinja2.Template:
    """A template that escapes what it is given, and takes nothing undefined.

    Args:
        name: of the file in `templates/`.
        filters: further ones, by the names that the template knows them by.
    """
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("fusionkit"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= filters
    return environment.get_template(name)
