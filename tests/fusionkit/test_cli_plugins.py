"""`fusionkit plugins` and `fusionkit plugins show`."""

from __future__ import annotations

import json
import re

import pytest

GATE = """
from typing import Literal

from pydantic import BaseModel, ConfigDict, PositiveInt

from fusionkit import Fusion


class Knot(BaseModel):
    model_config = ConfigDict(extra="forbid")
    place: float
    name: str | None = None


class Gate(Fusion):
    '''Gates one modality by the others.

    After somebody's paper.

    Args:
        inputs: what comes in.
        width: how wide
            the gate is.
        kind: which gate.
        knots: where it bends.
        weights: one a modality.
    '''

    def __init__(self, inputs, *, width: PositiveInt, kind: Literal["soft", "hard"] = "soft",
                 knots: list[Knot] | None = None, weights: dict[str, float] = {}, size: tuple[int, int] = (1, 2)):
        super().__init__(inputs)

    def forward(self, features):
        raise NotImplementedError
"""

PLUGIN = """
from fusionkit import Component, hookimpl

@hookimpl
def fusionkit_components():
    yield Component("fusion", "gate", "stranger.gate:Gate", "gates 门 one by the others")
"""


@pytest.fixture
def stranger(packages):
    packages.add("stranger", plugin=PLUGIN, gate=GATE)
    return packages


def test_a_strangers_component_stands_beside_our_own(fusionkit, stranger):
    answer = fusionkit("plugins")
    lines = [line.split() for line in answer.out.splitlines()]
    assert lines[0] == ["kind", "name", "from", "status", "summary"]
    assert ["fusion", "gate", "stranger", "1.2", "ok", "gates", "门", "one", "by", "the", "others"] in lines
    assert any(line[:3] == ["fusion", "concat", "fusionkit-geo"] for line in lines)
    assert answer.code == 0
    assert answer.err == ""


def test_lines_in_a_pipe_are_neither_wrapped_nor_coloured(fusionkit, packages):
    summary = "word " * 60 + "end"
    packages.add("stranger", plugin=PLUGIN.replace("gates 门 one by the others", summary))
    answer = fusionkit("plugins")
    assert any(line.endswith(summary) for line in answer.out.splitlines())
    assert "\x1b" not in answer.out


def test_json_lists_plugins_and_components(fusionkit, stranger):
    found = json.loads(fusionkit("plugins", "--json").out)
    assert {
        "name": "stranger",
        "owner": "stranger",
        "version": "1.2",
        "status": "ok",
        "reason": "",
        "remedy": "",
        "hooks": {},
    } in found["plugins"]
    [gate] = [component for component in found["components"] if component["name"] == "gate"]
    assert gate == {
        "kind": "fusion",
        "name": "gate",
        "summary": "gates 门 one by the others",
        "target": "stranger.gate:Gate",
        "extra": None,
        "deprecated": None,
        "plugin": "stranger",
        "owner": "stranger",
        "version": "1.2",
        "status": "ok",
    }


def test_what_is_no_component_is_listed_too(fusionkit, packages):
    hooks = """
from fusionkit import hookimpl

@hookimpl
def fusionkit_callbacks(recipe):
    '''Log to a server.

    Returns:
        nothing else.
    '''
    return []

@hookimpl
def fusionkit_report_sections(run): return []
"""
    packages.add("stranger", plugin=hooks)
    packages.add("empty", plugin="from fusionkit import hookimpl\n@hookimpl\ndef fusionkit_components(): return []")
    lines = [" ".join(line.split()) for line in fusionkit("plugins").out.splitlines()]
    assert "callbacks stranger stranger 1.2 ok Log to a server." in lines
    assert "report section stranger stranger 1.2 ok" in lines
    assert "plugin empty empty 1.2 ok provides nothing" in lines
    plugins = {held["name"]: held for held in json.loads(fusionkit("plugins", "--json").out)["plugins"]}
    assert plugins["stranger"]["hooks"] == {"fusionkit_callbacks": "Log to a server.", "fusionkit_report_sections": ""}


def test_an_extra_that_is_not_installed_is_told(fusionkit, packages):
    packages.add("stranger", plugin=PLUGIN.replace('others")', 'others", extra="no-such-thing>=2")'), gate=GATE)
    lines = [" ".join(line.split()) for line in fusionkit("plugins").out.splitlines()]
    assert "fusion gate stranger 1.2 needs extra gates 门 one by the others; pip install 'no-such-thing>=2'" in lines


def test_a_plugin_for_another_version_of_the_api_is_listed_with_the_remedy(fusionkit, packages):
    packages.add("stranger", plugin="PLUGIN_API = 99")
    answer = fusionkit("plugins")
    (line,) = [line for line in answer.out.splitlines() if line.startswith("plugin ")]
    assert line.split()[:5] == ["plugin", "stranger", "stranger", "1.2", "broken"]
    assert line.endswith("; upgrade fusionkit-geo")
    assert answer.err == "`fusionkit plugins doctor` says what to do\n"


@pytest.mark.parametrize("columns", [80, 120])
def test_the_list_fits_a_terminal(fusionkit, packages, monkeypatch, columns):
    """Names and statuses stand whole; what is too long goes on below, in its own column."""
    packages.add("fusionkit-stranger", plugin="PLUGIN_API = 99")
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setenv("FORCE_COLOR", "1")
    lines = [re.sub(r"\x1b\[[0-9;]*m", "", line) for line in fusionkit("plugins").out.splitlines()]
    assert max(map(len, lines)) <= columns
    assert any(line.startswith("augmentation  modality_dropout ") for line in lines)
    begin = lines[0].index("summary")
    assert all(line[begin - 2 : begin] in ("", "  ") for line in lines if line.isascii())


def test_a_broken_plugin_is_listed_and_explained_on_request(fusionkit, packages):
    packages.add("stranger", plugin="import a_module_that_is_nowhere")
    quiet = fusionkit("plugins")
    assert quiet.code == 0
    assert "broken  ModuleNotFoundError: No module named 'a_module_that_is_nowhere'" in quiet.out
    assert "Traceback" not in quiet.out
    for words in (("plugins", "-v"), ("--verbose", "plugins")):
        assert "stranger/plugin.py" in fusionkit(*words).out


def test_a_disabled_plugin_is_listed_and_not_imported(fusionkit, packages, monkeypatch):
    packages.add("stranger", plugin="raise SystemExit('imported')")
    monkeypatch.setenv("FUSIONKIT_DISABLE_PLUGINS", "stranger")
    assert "disabled  named in FUSIONKIT_DISABLE_PLUGINS" in fusionkit("plugins").out


def test_two_plugins_with_one_name_are_a_clash(fusionkit, stranger):
    stranger.add("rival", plugin=PLUGIN.replace("stranger.gate", "rival.gate"), gate=GATE)
    assert fusionkit("plugins").out.count("clash") == 2
    answer = fusionkit("plugins", "show", "gate")
    assert answer.code == 2
    assert "rival" in answer.err
    assert "stranger" in answer.err


def test_show_tells_every_option(fusionkit, stranger):
    answer = fusionkit("plugins", "show", "gate")
    assert answer.code == 0
    told, _, table = answer.out.partition("option ")
    assert told.startswith("fusion gate, from stranger 1.2\n")
    assert "Gates one modality by the others.\n\nAfter somebody's paper." in told
    assert "Args" not in told
    rows = {line.split()[0]: " ".join(line.split()) for line in table.splitlines()[1:] if line}
    assert rows == {
        "width": "width whole number > 0 required how wide the gate is.",
        "kind": "kind soft | hard soft which gate.",
        "knots": "knots list of Knot | null null where it bends.",
        "weights": "weights mapping to number {} one a modality.",
        "size": "size [whole number, whole number] [1, 2]",
        "Knot": "Knot type default what",
        "place": "place number required",
        "name": "name text | null null",
    }


def test_show_says_why_a_component_has_no_options(fusionkit, packages):
    packages.add("stranger", plugin=PLUGIN, gate=GATE.replace("width: PositiveInt", "width"))
    answer = fusionkit("plugins", "show", "gate")
    assert (answer.code, answer.out) == (2, "")
    assert answer.err == ("error: fusion 'gate' of stranger is broken: option 'width' of Gate.__init__ has no type\n")


def test_show_takes_the_kind_along(fusionkit, stranger):
    assert fusionkit("plugins", "show", "fusion:gate").out == fusionkit("plugins", "show", "gate").out
    assert fusionkit("plugins", "show", "loss:gate").code == 2


def test_show_corrects_the_spelling(fusionkit):
    answer = fusionkit("plugins", "show", "concta")
    assert (answer.code, answer.out) == (2, "")
    assert answer.err == "error: no component is named 'concta'; did you mean 'concat'?\n"


def test_show_says_what_to_install(fusionkit, packages):
    component = 'Component("encoder", "words", "stranger.words:Words", "", extra="stranger[words]")'
    packages.add(
        "stranger",
        plugin=PLUGIN.replace(PLUGIN[PLUGIN.index("Component(") :].strip(), component),
        words="import nowhere",
    )
    answer = fusionkit("plugins", "show", "words")
    assert answer.code == 2
    assert "pip install 'stranger[words]'" in answer.err
