"""Templates escape what they are given and take nothing undefined."""

from __future__ import annotations

from pathlib import Path

import jinja2
import pytest

from fusionkit import pages


@pytest.fixture(autouse=True)
def templates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One template in the place of those that are shipped."""
    (tmp_path / "t.html").write_text("<p>{{ name | twice }}</p>")
    monkeypatch.setattr(jinja2, "PackageLoader", lambda package: jinja2.FileSystemLoader(tmp_path))


def test_what_is_given_is_escaped() -> None:
    made = pages.template("t.html", twice=lambda text: 2 * text)
    assert made.render(name="<b>") == "<p>&lt;b&gt;&lt;b&gt;</p>"


def test_what_is_missing_is_an_error() -> None:
    made = pages.template("t.html", twice=str)
    with pytest.raises(jinja2.UndefinedError, match="'name' is undefined"):
        made.render()
