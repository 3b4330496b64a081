"""The reader of pages finds what is wrong with one, and says where."""

from __future__ import annotations

import pytest
from doc_pages import PageError, blocks
from doc_reader import Reader
from doc_stand_ins import Site


def follow(tmp_path, *lines: str) -> Reader:
    """Follow a page of these lines."""
    site = tmp_path / "site-packages"
    site.mkdir(exist_ok=True)
    reader = Reader(tmp_path, Site(site))
    for block in blocks("page.md", "\n".join(lines)):
        reader.follow(block)
    return reader


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


SHOWN = "<!-- shown only: a cluster -->"
RIGHT = ["Text.", "", "<!-- file: hello.py -->", "```python", 'print("hello, 12")', "```", "", "and then"]


def test_a_page_is_followed_from_block_to_block(here):
    follow(
        here,
        *RIGHT,
        *("```sh", "python hello.py     # greets", "```"),
        *("<!-- printed -->", "```text", "hello, 12", "```"),
        *("<!-- printed: other figures -->", "```text", "hello, 7", "```"),
        *("```python", "x = 1", "```", "```python", "assert x == 1", "```"),
        *("```json", "{}", "```"),
        *(SHOWN, "```sh", "fusionkit run tiles.yaml \\", "  --runs there", "sbatch job.sh", "make test", "```"),
    )


@pytest.mark.parametrize(
    ("line", "told", "lines"),
    [
        (2, "without a mark", ["```text", "hello", "```"]),
        (2, "without a mark", ["```yaml", "fusion: concat", "```"]),
        (3, "no mark is called 'shown'", ["", "<!-- shown: x -->", "```sh", "ls", "```"]),
        (3, "say why", ["<!-- shown only -->", "```sh", "ls", "```"]),
        (3, "indented code", ["Text", "", "    fusionkit run"]),
        (3, "'ls' is not understood", ["```sh", "# first", "ls", "```"]),
        (2, "ended with 2", ["```sh", "fusionkit run nowhere.yaml", "```"]),
        (4, "ended with 0", ["<!-- exits: 1 -->", "```sh", "fusionkit recipes", "fusionkit recipes", "```"]),
        (2, "No such option", ["```sh", "fusionkit run --fast x.yaml", "```"]),
        (3, "No such option", [SHOWN, "```sh", "fusionkit run \\", "--fast x.yaml", "fusionkit go", "```"]),
        (3, "No such command", [SHOWN, "```sh", "fusionkit go", "```"]),
        (3, "the Makefile has no tests", [SHOWN, "```sh", "make tests", "```"]),
        (3, "no extra txt", [SHOWN, "```sh", "pip install 'fusionkit-geo[txt]'", "```"]),
        (3, "there is no benchmarks/none.py", [SHOWN, "```sh", "python benchmarks/none.py", "```"]),
        (3, "syntax error", [SHOWN, "```sh", "if true; then", "```"]),
        (4, "SyntaxError", [SHOWN, "```python", "x = 1", "x = = 1", "```"]),
        (4, "YAML", [SHOWN, "```yaml", "a: 1", "b: }", "```"]),
        (3, "NameError", ["", "```python", "y", "```"]),
        (4, "epochz", ["<!-- over: urfc_demo -->", "```yaml", "seed: 1", "train: {epochz: 3}", "```"]),
        (6, "gnu", ["<!-- over: urfc_demo -->", "```yaml", "seed: 1", "---", "", "fusion: gnu", "```"]),
        (3, "modalitys", ["<!-- file: a.yaml -->", "```yaml", "modalities: {}", "modalitys: {}", "```"]),
        (11, "nothing like 'bye'", [*RIGHT, "<!-- printed -->", "```text", "bye", "```"]),
    ],
)
def test_what_is_wrong_is_told_with_its_line(here, line, told, lines):
    with pytest.raises(PageError, match=told) as error:
        follow(here, *lines)
    assert str(error.value).startswith(f"page.md:{line}: ")
