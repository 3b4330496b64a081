"""What the documentation says works: every page is followed, block by block, in an empty folder."""

from __future__ import annotations

import pytest
from doc_pages import ROOT, PageError, blocks, pages, spans
from doc_reader import Reader, check_command
from doc_stand_ins import PREPARED, Site, cells_here, one_epoch

from fusionkit.errors import RequestError

pytestmark = pytest.mark.usefixtures("undrawn")


@pytest.fixture
def reader(tmp_path, tmp_path_factory, monkeypatch):
    """One who sits before an empty folder, with fusionkit installed."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("FUSIONKIT_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
    site = tmp_path_factory.mktemp("site-packages")
    monkeypatch.syspath_prepend(site)
    one_epoch(monkeypatch)
    cells_here(monkeypatch)
    installed = Site(site)
    yield Reader(tmp_path, installed)
    installed.close()


@pytest.mark.slow
@pytest.mark.parametrize("page", pages())
def test_following_a_page(page, reader):
    PREPARED.get(page, lambda folder: None)(reader.folder)
    for block in blocks(page, (ROOT / page).read_text(encoding="utf-8")):
        reader.follow(block)


@pytest.mark.parametrize("page", pages())
def test_commands_in_sentences_exist(page):
    for span in spans(page, (ROOT / page).read_text(encoding="utf-8")):
        try:
            check_command(span.text.split())
        except RequestError as error:
            raise PageError(page, span.line, f"`{span.text}`: {error}") from None
