"""The suite of augmentations names the defect of each faulty one, and no other; ours keep all rules."""

from __future__ import annotations

import numpy as np
import pytest

from fusionkit.contract import Augmentation
from fusionkit.errors import RequestError
from fusionkit.flow import InputSpec
from fusionkit.registry import load_registry
from fusionkit.testing import AugmentationSuite, Fault, MixingSuite
from fusionkit.testing.augmentations import CHECKS, AugmentationSubject
from fusionkit.testing.fault import hold


def faults(kind: type[Augmentation]) -> set[str]:
    found = set()
    for check in CHECKS:
        try:
            hold(check, AugmentationSubject.of(kind))
        except Fault as fault:
            found.add(fault.check)
    return found


class Right(Augmentation):
    """Shifts each modality of numbers by one random number. Faulty ones change a step."""

    def __call__(self, sample, random):
        return {name: self.changed(name, value, self.shift(random)) for name, value in sample.items()}

    def shift(self, random):
        return np.float32(random.normal())

    def changed(self, name, value, shift):
        return value if value is None or self.inputs[name].text else value.astype(np.float32) + shift


class DrawsElsewhere(Right):
    """Draws from NumPy's own generator."""

    def shift(self, random):
        return np.float32(np.random.normal())


class Remembers(Right):
    """Shifts by a little more each time."""

    count = 0

    def shift(self, random):
        self.count += 1
        return super().shift(random) + np.float32(self.count)


class MakesDoubles(Right):
    def changed(self, name, value, shift):
        changed = super().changed(name, value, shift)
        return changed.astype(np.float64) if name == "rgb" and changed is not None else changed


class Crops(Right):
    """Cuts a row off a map."""

    def changed(self, name, value, shift):
        changed = super().changed(name, value, shift)
        return changed[:, 1:] if name == "rgb" and changed is not None else changed


class MakesNothing(Right):
    """Divides by what may be zero, unless it is masked."""

    def changed(self, name, value, shift):
        changed = super().changed(name, value, shift)
        return changed * np.float32(np.nan) if name == "vector" and changed is not None else changed


class DropsText(Right):
    """Hands back what it has changed alone."""

    def __call__(self, sample, random):
        return {name: value for name, value in super().__call__(sample, random).items() if name != "caption"}


class InPlace(Right):
    def changed(self, name, value, shift):
        if name == "dem" and value is not None:
            value += shift
            return value
        return super().changed(name, value, shift)


class TakesOut(Right):
    """Takes a modality out of the mapping that it is given, and back."""

    def __call__(self, sample, random):
        caption = sample.get("caption")
        changed = super().__call__(sample, random)
        if caption is not None:
            sample["caption"] = None
        return changed


class FillsIn(Right):
    """Puts zeros in the place of what is absent."""

    def changed(self, name, value, shift):
        if value is None and not self.inputs[name].text:
            return np.zeros(self.inputs[name].shape, np.float32)
        return super().changed(name, value, shift)


class LeavesOut(Right):
    """Drops a modality and does not say so."""

    def changed(self, name, value, shift):
        return None if name == "vector" and shift > 0 else super().changed(name, value, shift)


class SaysSo(LeavesOut):
    def __init__(self, inputs):
        super().__init__(inputs)
        self.makes_absent = frozenset({"vector"})


class ReadsUnderMasks(Right):
    """Centres a map by the mean of what stands under the mask too."""

    def changed(self, name, value, shift):
        changed = super().changed(name, value, shift)
        if name != "dem" or not isinstance(changed, np.ma.MaskedArray):
            return changed
        return np.ma.MaskedArray(changed.data - np.nan_to_num(changed.data).mean(), changed.mask)


class LosesTheMask(Right):
    def changed(self, name, value, shift):
        return super().changed(name, np.ma.filled(value, 0) if name == "dem" and value is not None else value, shift)


class RefusesMasks(Right):
    def changed(self, name, value, shift):
        if np.ma.is_masked(value):
            raise RequestError("this takes whole maps alone")
        return super().changed(name, value, shift)


class Nothing(Right):
    def changed(self, name, value, shift):
        return value


class StaysAtHome(Right):
    def __init__(self, inputs):
        super().__init__(inputs)
        self.shift = lambda random: np.float32(random.normal())


@pytest.mark.parametrize("right", [Right, SaysSo, RefusesMasks])
def test_a_right_augmentation_passes(right):
    assert faults(right) == set()


@pytest.mark.parametrize(
    ("faulty", "rule"),
    [
        (DrawsElsewhere, "the_generator_decides"),
        (MakesDoubles, "shapes_and_types_are_kept"),
        (Crops, "shapes_and_types_are_kept"),
        (MakesNothing, "shapes_and_types_are_kept"),
        (DropsText, "modalities_are_kept"),
        (InPlace, "inputs_are_left_alone"),
        (TakesOut, "inputs_are_left_alone"),
        (FillsIn, "absent_stays_absent"),
        (LeavesOut, "what_is_left_out_is_said"),
        (ReadsUnderMasks, "masked_values_mean_nothing"),
        (LosesTheMask, "masked_values_stay_masked"),
        (Nothing, "it_changes_something"),
        (StaysAtHome, "it_travels_to_workers"),
    ],
    ids=lambda value: value if isinstance(value, str) else value.__name__,
)
def test_a_defect_is_named_and_no_other(faulty, rule):
    assert faults(faulty) == {rule}


def test_a_memory_is_found():
    assert "the_generator_decides" in faults(Remembers)


def test_modalities_may_be_named():
    inputs = {"own": InputSpec((2, 3, 3))}
    assert AugmentationSubject.of(Right, inputs).inputs == inputs
    with pytest.raises(RequestError, match="finds none to change"):
        AugmentationSubject.of(load_registry().resolve("augmentation", "time_shift"), inputs)


@pytest.mark.parametrize("name", load_registry().names("augmentation"))
def test_ours_keep_every_rule(name, tmp_path):
    """A table stands for the sources that synonyms and paraphrases have to be given."""
    table = tmp_path / "table.tsv"
    table.write_text("river\tstream\na small field beside the river\tby the stream, a field\n")
    given = {"options": {"table": table} if name in ("synonyms", "paraphrases") else {}}
    suite = MixingSuite if name in ("mixup", "cutmix") else AugmentationSuite
    tests = type(f"Test{name}", (suite,), {"component": f"augmentation:{name}", **given})()
    for test in (test for test in dir(tests) if test.startswith("test_")):
        getattr(tests, test)()


def test_installed_ones_are_checked_by_name(fusionkit, packages):
    packages.add(
        "acme",
        plugin="from fusionkit import Component, hookimpl\n"
        "@hookimpl\ndef fusionkit_components():\n    yield Component('augmentation', 'idle', 'acme.idle:Idle')\n",
        idle="from fusionkit import Augmentation\n"
        "class Idle(Augmentation):\n    def __call__(self, sample, random):\n        return sample\n",
    )
    answer = fusionkit("check", "augmentation:all")
    assert answer.code == 1
    lines = {line.split()[0]: line for line in answer.out.splitlines()}
    assert "FAULT it_changes_something: 200 samples come back as they were" in lines["idle"]
    assert "synonyms: give either `wordnet`" in lines["synonyms"]
    assert lines["mixup"].split(maxsplit=1)[1] == "hsi, rgb, dem, visits, series, vector"
    assert answer.out.count("FAULT") == 1
