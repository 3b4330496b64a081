"""`fusionkit data make` and `prepare`: a dataset with such a classmethod has a command, its arguments as options."""

from __future__ import annotations

import pytest

PLUGIN = """
from fusionkit import Component, hookimpl

@hookimpl
def fusionkit_components():
    yield Component("dataset", "clouds", "stranger.clouds:Clouds")
"""

CLOUDS = """
from pathlib import Path
from typing import Literal

from pydantic import PositiveInt

from fusionkit import Dataset, FusionkitError, RequestError


class Clouds(Dataset):
    def inputs(self):
        raise NotImplementedError

    def index(self, progress=None):
        raise NotImplementedError

    def read(self, i):
        raise NotImplementedError

    @classmethod
    def make(cls, root: Path, progress, *, places: PositiveInt, cloud_cover: float = 0.5, names: list[str] = [],
             fail: Literal["work", "request", "bug", "stop", "disk"] | None = None):
        '''Draw clouds.

        Slowly.

        Args:
            root: where.
            places: how many.
            cloud_cover: how much of the sky.
        '''
        print("chatter")
        if fail:
            raise {"work": FusionkitError("no sky"), "request": RequestError("no such sky"), "bug": KeyError("sky"),
                   "stop": KeyboardInterrupt(), "disk": OSError(28, "No space left on device", "cloud")}[fail]
        progress(places, places)
        root.mkdir()
        return f"{places} {cloud_cover} {names}"

    @classmethod
    def prepare(cls, root: Path, progress, *, thin: bool = False):
        '''Thicken the clouds.

        Args:
            root: where.
            thin: the thin ones as well.
        '''
        print("chatter")
        progress("reading", 1, 2)
        progress("reading", 2, 2)
        progress("verifying", 2, 2)
        return f"{root.name} {thin}"
"""


@pytest.fixture(autouse=True)
def stranger(packages, tmp_path, monkeypatch):
    packages.add("stranger", plugin=PLUGIN, clouds=CLOUDS)
    monkeypatch.chdir(tmp_path)


def test_make_is_given_typed_options_and_prints_what_it_returns(fusionkit, tmp_path):
    answer = fusionkit("data", "make", "clouds", "sky", "--places", 3, "--cloud-cover=1e-1", "--names", "[a, b]")
    assert (answer.code, answer.out) == (0, "3 0.1 ['a', 'b']\n")
    assert "chatter" in answer.err
    assert (tmp_path / "sky").is_dir()


def test_defaults_are_those_of_the_function(fusionkit):
    assert fusionkit("data", "make", "clouds", "sky", "--places", 1).out == "1 0.5 []\n"


def test_help_shows_the_options(fusionkit):
    told = " ".join(fusionkit("data", "make", "clouds", "--help").out.replace("│", " ").split())
    assert "Draw clouds." in told
    assert "--places" in told
    assert "how many" in told
    assert "--cloud-cover" in told
    assert "0.5" in told


def test_help_lists_the_datasets_that_make_data(fusionkit):
    told = fusionkit("data", "make", "--help").out
    assert "clouds" in told
    assert "Draw clouds." in told
    assert "arrays" not in told


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["clouds", "sky"], "--places: is required and missing"),
        (["clouds", "sky", "--places", "0"], "--places: should be greater than 0, not 0"),
        (["clouds", "sky", "--places", "many"], "--places: should be a whole number"),
        (["clouds", "sky", "--places", "1", "--cloud-cover", "x"], "--cloud-cover: "),
        (["clouds", "sky", "--places", "1", "--plaecs", "2"], "No such option: --plaecs"),
        (["clouds"], "Missing argument 'FOLDER'"),
        (["arrays", "sky"], "the dataset 'arrays' cannot make data up; those that can: clouds"),
        (["cluods", "sky"], "did you mean 'clouds'"),
    ],
)
def test_a_wrong_request(fusionkit, tmp_path, words, told):
    answer = fusionkit("data", "make", *words)
    assert answer.code == 2
    assert told in " ".join(answer.err.replace("│", " ").split())
    assert not (tmp_path / "sky").exists()


@pytest.mark.parametrize(
    ("fail", "code", "told"),
    [
        ("work", 1, "chatter\nerror: no sky\n"),
        ("request", 2, "chatter\nerror: no such sky\n"),
        ("disk", 1, "chatter\nerror: cloud: No space left on device\n"),
        ("stop", 130, "chatter\ninterrupted\n"),
    ],
)
def test_exit_codes(fusionkit, fail, code, told):
    answer = fusionkit("data", "make", "clouds", "sky", "--places", 1, "--fail", fail)
    assert (answer.code, answer.err, answer.out) == (code, told, "")


def test_verbose_shows_the_traceback(fusionkit):
    answer = fusionkit("-v", "data", "make", "clouds", "sky", "--places", 1, "--fail", "request")
    assert answer.code == 2
    assert "Traceback" in answer.err
    assert "clouds.py" in answer.err


def test_a_bug_keeps_its_traceback(fusionkit):
    with pytest.raises(KeyError, match="sky"):
        fusionkit("data", "make", "clouds", "sky", "--places", 1, "--fail", "bug")


def test_prepare_is_given_typed_options_and_prints_what_it_returns(fusionkit):
    answer = fusionkit("data", "prepare", "clouds", "sky", "--thin", "true")
    assert (answer.code, answer.out, answer.err) == (0, "sky True\n", "chatter\n")
    assert fusionkit("data", "prepare", "clouds", "sky").out == "sky False\n"


def test_help_lists_the_datasets_that_prepare_data(fusionkit):
    told = fusionkit("data", "prepare", "--help").out
    assert "Thicken the clouds." in told
    assert "arrays" not in told
    told = " ".join(fusionkit("data", "prepare", "clouds", "--help").out.replace("│", " ").split())
    assert "--thin" in told
    assert "the thin ones as well" in told


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["clouds", "sky", "--thin", "3"], "--thin: should be true or false"),
        (["clouds"], "Missing argument 'ROOT'"),
        (["arrays", "sky"], "the dataset 'arrays' cannot prepare data; those that can: clouds"),
    ],
)
def test_a_wrong_request_to_prepare(fusionkit, words, told):
    answer = fusionkit("data", "prepare", *words)
    assert answer.code == 2
    assert told in " ".join(answer.err.replace("│", " ").split())
