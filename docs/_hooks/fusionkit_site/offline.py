"""What a built page would load from elsewhere."""

from __future__ import annotations

from html.parser import HTMLParser
from urllib.parse import urlsplit

_LOADED = {
    ("audio", "src"), ("embed", "src"), ("iframe", "src"), ("img", "src"), ("img", "srcset"), ("link", "href"),
    ("object", "data"), ("script", "src"), ("source", "src"), ("source", "srcset"), ("video", "src"),
}  # fmt: skip


class _Finder(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for key, value in attrs:
            if (tag, key) in _LOADED and value and urlsplit(value.strip()).netloc:
                self.found.append(value)


def loaded_from_elsewhere(html: str) -> list[str]:
    """The addresses on other machines from which a page loads scripts, styles, fonts or pictures."""
    finder = _Finder()
    finder.feed(html)
    return finder.found
