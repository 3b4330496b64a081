"""The suite of plugin modules names the defect of each, and no other."""

from __future__ import annotations

import pytest

from fusionkit.testing import Fault, PluginSuite
from fusionkit.testing.fault import hold
from fusionkit.testing.plugins import CHECKS, it_loads

RIGHT = """
from fusionkit import Component, hookimpl

@hookimpl
def fusionkit_components():
    yield Component("loss", "entropy", "fusionkit_losses.cross_entropy:CrossEntropy")
"""


@pytest.mark.parametrize(
    ("text", "rules"),
    [
        (RIGHT, set()),
        ("import torch" + RIGHT, {"importing_is_light"}),
        ("import nowhere_to_be_found" + RIGHT, {"it_loads"}),
        (RIGHT.replace("@hookimpl", ""), {"it_loads"}),
        ("PLUGIN_API = 99" + RIGHT, {"it_loads"}),
        (RIGHT.replace(":CrossEntropy", ":Nothing"), {"components_are_there"}),
    ],
    ids=["right", "imports torch", "cannot be imported", "hook not marked", "another API", "class is not there"],
)
def test_a_defect_is_named_and_no_other(tmp_path, monkeypatch, text, rules, request):
    module = "tried_" + request.node.callspec.id.replace(" ", "_")
    (tmp_path / f"{module}.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    found = set()
    for check in CHECKS:
        try:
            hold(check, module)
        except Fault as fault:
            found.add(fault.check)
    assert found == rules


def test_a_plugin_for_another_version_of_the_api_is_told_what_to_upgrade(tmp_path, monkeypatch):
    (tmp_path / "tried_another_time.py").write_text("PLUGIN_API = 99" + RIGHT)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(Fault, match=r"; upgrade fusionkit-geo$"):
        it_loads("tried_another_time")


class TestOurLosses(PluginSuite):
    module = "fusionkit_losses.plugin"
