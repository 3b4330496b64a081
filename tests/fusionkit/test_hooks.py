"""Callbacks and report sections of plugins: what reaches them, and what is told where they fail."""

from __future__ import annotations

from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import pytest
from toy_recipe import write_toy

from fusionkit.errors import FusionkitError
from fusionkit.hooks import EVENTS, callbacks_of, sections_of
from fusionkit.registry import Registry, build_registry
from fusionkit.trainer import Callback, Fit

CALLBACKS = "from fusionkit import hookimpl\n@hookimpl\ndef fusionkit_callbacks(recipe): "
SECTIONS = "from fusionkit import hookimpl\n@hookimpl\ndef fusionkit_report_sections(run): "


def installed(packages: Any, **plugins: str) -> Registry:
    """Packages of these names, each with this text as its plugin."""
    for name, text in plugins.items():
        packages.add(name, plugin=text)
    return build_registry(point for point in entry_points(group="fusionkit") if point.name in plugins)


def told(registry: Registry) -> str:
    with pytest.raises(FusionkitError) as error:
        callbacks_of("the recipe", registry)  # type: ignore[arg-type] # handed on as it is
    return str(error.value)


def test_callbacks_of_all_plugins_are_called_with_what_happens(packages: Any) -> None:
    recorder = """
class Recorder:
    def __init__(self, recipe): self.recipe, self.heard = recipe, []
    def on_step_end(self, fit, terms): self.heard.append((fit, terms))
    def on_fit_end(self, fit): self.heard.append(fit)
"""
    none = CALLBACKS + "return None\n"
    registry = installed(
        packages, acme=recorder + CALLBACKS + "yield Recorder(recipe)", other=CALLBACKS + "return []", third=none
    )
    [callback] = callbacks_of("the recipe", registry)  # type: ignore[arg-type]
    fit: Any = object()
    callback.on_fit_start(fit)
    callback.on_step_end(fit, {"ce": 1.0})
    callback.on_epoch_end(fit)
    callback.on_fit_end(fit)
    assert callback.callback.recipe == "the recipe"  # type: ignore[attr-defined]
    assert callback.callback.heard == [(fit, {"ce": 1.0}), fit]  # type: ignore[attr-defined]


def test_the_events_are_those_of_the_base_class() -> None:
    assert EVENTS == ("on_fit_start", "on_step_end", "on_epoch_end", "on_fit_end")
    assert all(callable(getattr(Callback, event)) for event in EVENTS)


@pytest.mark.parametrize(
    ("plugin", "reason"),
    [
        (CALLBACKS + "1 / 0", "fusionkit_callbacks fails: ZeroDivisionError: division by zero"),
        (CALLBACKS + "return 3", "fusionkit_callbacks fails: TypeError: 'int' object is not iterable"),
        (CALLBACKS + "raise SystemExit('bye')", "fusionkit_callbacks fails: SystemExit: bye"),
        (
            CALLBACKS + "return [recipe]",
            "the callback str has no method for any event; they are on_fit_start, on_step_end, "
            "on_epoch_end, on_fit_end",
        ),
        (
            "class Late:\n    def on_epoch_edn(self, fit): ...\n    def on_fit_end(self, fit): ...\n"
            + CALLBACKS
            + "return [Late()]",
            "the callback Late has on_epoch_edn, no event; did you mean 'on_epoch_end'?",
        ),
    ],
)
def test_what_is_no_callback_is_refused_before_training(packages: Any, plugin: str, reason: str) -> None:
    first, *_ = told(installed(packages, acme=plugin)).splitlines()
    assert first == f"plugin acme of acme: {reason}"


def test_one_failing_callback_says_whose_it_is_and_how_to_go_on(packages: Any) -> None:
    late = "class Late:\n    def on_epoch_end(self, fit): fit.nothing\n"
    registry = installed(packages, acme=late + CALLBACKS + "return [Late()]", other=CALLBACKS + "return []")
    [callback] = callbacks_of("the recipe", registry)  # type: ignore[arg-type]
    fit = object.__new__(Fit)
    fit.name, fit.run_folder = "fusion", Path("runs/here")
    with pytest.raises(FusionkitError) as error:
        callback.on_epoch_end(fit)
    assert str(error.value).splitlines() == [
        "plugin acme of acme: the callback Late fails in on_epoch_end of fusion: "
        "AttributeError: 'Fit' object has no attribute 'nothing'",
        "mend the plugin, or leave it out by FUSIONKIT_DISABLE_PLUGINS=acme, and go on with --resume runs/here",
    ]
    assert isinstance(error.value.__cause__, AttributeError)


def test_a_section_that_fails_leaves_the_others(packages: Any) -> None:
    registry = installed(
        packages,
        acme=SECTIONS + "1 / 0",
        broken=SECTIONS + "return [('Title', 3)]",
        good=SECTIONS + "return [('Good', f'of {run}')]",
    )
    lines: list[str] = []
    sections = dict(sections_of("the run", lines.append, registry))  # type: ignore[arg-type]
    assert sections["Good"] == "of the run"
    assert sections.keys() == {"Good", "Failed: plugin acme of acme", "Failed: plugin broken of broken"}
    assert "plugin.py" in sections["Failed: plugin acme of acme"]
    assert sorted(lines) == [
        "warning: plugin acme of acme: its report section fails: ZeroDivisionError: division by zero; "
        "the report shows the traceback",
        "warning: plugin broken of broken: its report section fails: TypeError: a section is (title, text), not "
        "('Title', 3); the report shows the traceback",
    ]


def test_a_run_outlives_what_plugins_do_to_it(fusionkit, packages, tmp_path, monkeypatch) -> None:
    write_toy(tmp_path, epochs=2)
    monkeypatch.chdir(tmp_path)
    late = """
class Late:
    def on_epoch_end(self, fit):
        (fit.run_folder / "heard.txt").open("a").write(f"{fit.epoch} {fit.is_first}\\n")
        if fit.epoch == 2: 1 / 0
"""
    packages.add("callbacks", plugin=late + CALLBACKS + "return [Late()]")
    packages.add("sections", plugin=SECTIONS + "raise ValueError(run.result.n)")
    failed = fusionkit("run", "toy.yaml")
    [folder] = Path("runs").iterdir()
    assert failed.code == 1
    assert failed.err.splitlines()[-1].endswith(f"--resume {folder}")
    assert "Traceback" not in failed.err
    assert (folder / "heard.txt").read_text() == "1 True\n2 True\n"

    from fusionkit import registry

    monkeypatch.setenv("FUSIONKIT_DISABLE_PLUGINS", "callbacks")
    registry._load.cache_clear()
    resumed = fusionkit("run", "toy.yaml", "--resume", folder)
    assert (resumed.code, resumed.out) == (0, f"{folder}\n")
    assert "epoch" not in resumed.err  # both epochs were kept
    assert "plugin sections of sections: its report section fails: ValueError: 20; " in resumed.err
    report = (folder / "report.html").read_text()
    assert "Failed: plugin sections of sections" in report
    assert "ValueError: 20" in report
