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
from mkdocs.structure.files import get_files

ROOT = Path(__file__).parents[2]


@pytest.fixture
def config(tmp_path) -> MkDocsConfig:
    """A small repository: the pages on top, one of docs/, and a reference of one page."""
    (tmp_path / "docs").mkdir()
    for page in (*site_hooks.ON_TOP, "docs/guide.md"):
        (tmp_path / page).write_text(f"# {page}\n\n[home](README.md)\n", encoding="utf-8")
    (tmp_path / "mkdocs.yml").write_text(f"site_name: small\ntheme: mkdocs\nhooks: [{site_hooks.__file__}]\n")
    config = load_config(str(tmp_path / "mkdocs.yml"))
    (hooks,) = config.hooks.values()
    hooks.reference = lambda: {"fusions": "# Fusions\n"}
    return config


def test_pages_lie_where_their_files_lie(config):
    files = config.plugins.on_files(get_files(config), config=config)
    places = {file.src_uri: file.dest_uri for file in files}
    assert places["README.md"] == "index.html"
    assert places["README.zh-CN.md"] == "README.zh-CN/index.html"
    assert places["docs/guide.md"] == "docs/guide/index.html"
    assert places["docs/reference/fusions.md"] == "docs/reference/fusions/index.html"
    assert set(places) == {*site_hooks.ON_TOP, "docs/guide.md", "docs/reference/fusions.md"}
    texts = {file.src_uri: file.content_string for file in files}
    assert texts["docs/guide.md"] == "# docs/guide.md\n\n[home](README.md)\n"
    assert texts["docs/reference/fusions.md"] == "# Fusions\n"


def test_blocks_of_code_that_are_files_show_their_names():
    text = "<!-- file: fields.yaml -->\n```yaml\nfusion: concat\n```\n\n<!-- over: urfc -->\n```yaml\nseed: 1\n```\n"
    shown = site_hooks.on_page_markdown(text, page=None, config=None, files=None)
    assert shown.startswith('```yaml title="fields.yaml"\nfusion: concat\n```\n')
    assert shown.endswith("<!-- over: urfc -->\n```yaml\nseed: 1\n```\n")


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
    assert {page.name for page in ROOT.glob("*.md")} == set(site_hooks.ON_TOP)
