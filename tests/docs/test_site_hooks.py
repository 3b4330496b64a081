"""The site has the layout of the repository, and loads nothing from elsewhere."""

from __future__ import annotations

import logging
import re
from pathlib import Path
from types import SimpleNamespace

import pytest
import site_hooks
from fusionkit_site.offline import loaded_from_elsewhere
from mkdocs.config import load_config
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import Files, get_files

ROOT = Path(__file__).parents[2]


@pytest.fixture
def config(tmp_path) -> MkDocsConfig:
    """A small repository: two pages on top, one of docs/, and a reference of one page."""
    (tmp_path / "docs").mkdir()
    (tmp_path / "README.md").write_text("# Home\n\n[guide](docs/guide.md)\n")
    (tmp_path / "DESIGN.md").write_text("# Design\n")
    (tmp_path / "docs" / "guide.md").write_text("# Guide\n\n[home](../README.md)\n")
    (tmp_path / "mkdocs.yml").write_text(
        f"""
site_name: small
theme: mkdocs
nav: [README.md, {{Guide: docs/guide.md}}, {{中文: README.zh-CN.md}}]
hooks: [{site_hooks.__file__}]
"""
    )
    return configured(tmp_path)


def configured(folder: Path) -> MkDocsConfig:
    config = load_config(str(folder / "mkdocs.yml"))
    (hooks,) = config.hooks.values()
    hooks.reference = lambda: {"fusions": "# Fusions\n"}
    return config.plugins.on_config(config)


@pytest.fixture
def files(config) -> Files:
    return config.plugins.on_files(get_files(config), config=config)


def test_pages_lie_where_their_files_lie(files):
    assert {file.src_uri: file.dest_uri for file in files} == {
        "README.md": "index.html",
        "DESIGN.md": "DESIGN/index.html",
        "docs/guide.md": "docs/guide/index.html",
        "docs/reference/fusions.md": "docs/reference/fusions/index.html",
    }
    texts = {file.src_uri: file.content_string for file in files}
    assert "[home](../README.md)" in texts["docs/guide.md"]
    assert texts["docs/reference/fusions.md"] == "# Fusions\n"


def test_a_page_on_top_that_does_not_exist_is_in_no_navigation(config, tmp_path):
    assert config.nav == ["README.md", {"Guide": "docs/guide.md"}]
    (tmp_path / "README.zh-CN.md").write_text("# 中文\n")
    assert configured(tmp_path).nav[-1] == {"中文": "README.zh-CN.md"}


@pytest.mark.parametrize(
    "html",
    [
        '<script src="https://cdn.example.org/a.js"></script>',
        '<link rel="stylesheet" href="//fonts.example.org/css?family=Roboto">',
        '<img alt="" src=http://example.org/badge.svg>',
        '<iframe src="https://example.org/"></iframe>',
    ],
)
def test_what_comes_from_elsewhere_is_told(html, caplog):
    page = SimpleNamespace(file=SimpleNamespace(src_uri="docs/guide.md"))
    with caplog.at_level(logging.WARNING):
        assert site_hooks.on_post_page(html, page=page, config=None) == html
    assert "docs/guide.md loads " in caplog.text
    assert "example.org" in caplog.text


def test_links_and_own_files_are_no_loads_from_elsewhere():
    html = '<a href="https://example.org/paper">x</a><script src="../assets/a.js"></script><img src="data:image/png,">'
    assert loaded_from_elsewhere(html) == []


def pages() -> list[Path]:
    return sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])


@pytest.mark.parametrize("page", pages(), ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_lead_somewhere_in_the_repository_too(page):
    """The build checks them on the site, where there are written pages as well."""
    text = re.sub(r"^(```+).*?^\1|`[^`\n]*`", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    links = re.findall(r"\]\(([^)\s#]+)", text)
    local = [link for link in links if not re.match(r"[a-z]+:", link)]
    assert [link for link in local if not (page.parent / link).exists()] == []


def test_every_page_on_top_is_on_the_site():
    assert {page.name for page in ROOT.glob("*.md")} <= set(site_hooks.ON_TOP)
