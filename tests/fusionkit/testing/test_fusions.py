"""The suite of fusions names the defect of each faulty module, and no other.

The defects are those met in well-known toolkits. Those that no single module can have are the core's own:

| defect | where it is tested |
|---|---|
| attention across the batch; a single key; factors in a list; a new projection in every forward | here |
| dropout drawn per batch; a token unused at test, appended last or never initialised | here |
| keys swallowed by `**kwargs` | here |
| unknown keys of a recipe dropped in silence | ../test_recipe.py: test_broken_recipes |
| unreadable images replaced by black ones | test_datasets.py: BlackImages |
| training samples in the test split, overlapping windows | test_datasets.py: TrainInTest, OverlappingWindows |
| validation windows that overlap training ones | ../test_splits_windows.py: test_blocks_clear_a_given_val_too |
| a plugin imports torch | test_plugins.py |
| a plugin's import error kills every command | ../test_registry.py: test_a_broken_plugin_is_listed_and_harms_no_other |
| test set used for model selection | ../test_trainer.py: test_test_samples_are_never_read |
| recall reported as precision | ../test_metrics.py: test_per_class_equals_sklearn_and_leaves_the_undefined_open |
| metrics overwritten by every batch | ../test_evaluation.py: test_answers_and_losses_do_not_depend_on_the_batches |
| one normalisation in training, another at test | ../test_normalization.py: test_whitening_travels_with_the_weights |
"""

from __future__ import annotations

import pytest
from faulty_fusions import (
    AbsenceIgnored,
    AbsenceMultiplied,
    AbsenceSpreads,
    AbsentInPlace,
    AbsentLast,
    AcrossTheBatch,
    BranchedNorm,
    Deaf,
    DropoutPerBatch,
    DropoutPerSample,
    FactorsInAList,
    ForgottenBuffer,
    LateLayer,
    ModulesInADict,
    NeedsPresence,
    NewMatrix,
    NewProjection,
    NotOfOne,
    OneKey,
    OneKeyApart,
    OverflowsInHalf,
    Pool,
    ReadsPadding,
    ReadsValues,
    RefusesAll,
    Right,
    Swallows,
    TokenFromMemory,
    TokenUnusedAtTest,
    Unused,
    WritesInExchange,
    WritesInPlace,
)

from fusionkit.contract import Fusion
from fusionkit.errors import ShapeError
from fusionkit.testing import Fault, FusionSuite
from fusionkit.testing.fault import hold
from fusionkit.testing.fusions import CHECKS, options_are_a_schema
from fusionkit.testing.subjects import subjects


def faults(kind: type[Fusion], *counts: int) -> set[str]:
    """The rules that a fusion breaks with so many modalities."""
    trial = subjects(kind, {}, counts or (2,))
    broken = {fault.check for fault in trial.faults}
    for check, subject in [(options_are_a_schema, kind), *((c, s) for s in trial.taken.values() for c in CHECKS)]:
        try:
            hold(check, subject)
        except Fault as fault:
            broken.add(fault.check)
    return broken


@pytest.mark.parametrize("right", [Right, Pool, DropoutPerSample, AbsentInPlace])
def test_a_right_module_passes(right):
    assert faults(right, 1, 3) == set()


@pytest.mark.parametrize(
    ("faulty", "rule"),
    [
        (AcrossTheBatch, "samples_are_independent"),
        (OneKey, "no_query_is_dead"),
        (OneKeyApart, "no_query_is_dead"),
        (FactorsInAList, "every_tensor_is_registered"),
        (ModulesInADict, "every_tensor_is_registered"),
        (NewProjection, "nothing_is_made_in_forward"),
        (NewMatrix, "evaluation_is_deterministic"),
        (DropoutPerBatch, "randomness_is_per_sample"),
        (TokenUnusedAtTest, "training_and_test_treat_absence_alike"),
        (AbsentLast, "absent_modalities_keep_their_slots"),
        (TokenFromMemory, "parameters_are_initialised"),
        (Swallows, "options_are_a_schema"),
        (WritesInPlace, "inputs_are_left_alone"),
        (WritesInExchange, "inputs_are_left_alone"),
        (AbsenceIgnored, "absent_slots_mean_nothing"),
        (AbsenceMultiplied, "absent_slots_mean_nothing"),
        (AbsenceSpreads, "absence_is_seen"),
        (ReadsPadding, "padding_means_nothing"),
        (Deaf, "every_modality_counts"),
        (Unused, "every_parameter_learns"),
        (NotOfOne, "a_batch_of_one_is_enough"),
        (ForgottenBuffer, "weights_travel"),
        (OverflowsInHalf, "sixteen_bits_are_enough"),
        (NeedsPresence, "presence_may_be_unsaid"),
        (ReadsValues, "it_runs_or_refuses"),
        (RefusesAll, "some_modalities_are_taken"),
        (BranchedNorm, "every_parameter_learns"),
    ],
    ids=lambda value: value if isinstance(value, str) else value.__name__,
)
def test_a_defect_is_named_and_no_other(faulty, rule):
    sequence_or_slots = rule in ("padding_means_nothing", "absent_modalities_keep_their_slots")
    assert faults(faulty, 3 if sequence_or_slots else 2) == {rule}


def test_a_layer_made_in_the_first_forward_is_found():
    assert "nothing_is_made_in_forward" in faults(LateLayer)


def test_a_refusal_is_no_fault():
    class Two(Pool):
        def __init__(self, inputs):
            if len(inputs) != 2:
                raise ShapeError("this compares two")
            super().__init__(inputs)

    trial = subjects(Two, {})
    assert list(trial.taken) == [2]
    assert trial.refused == {1: "this compares two", 3: "this compares two", 4: "this compares two"}
    assert trial.faults == []


def test_maps_of_one_grid_are_offered_to_those_that_need_them():
    class OneGrid(Pool):
        def __init__(self, inputs):
            if len({spec.grid for spec in inputs.values()}) > 1 or None in {spec.grid for spec in inputs.values()}:
                raise ShapeError("this needs maps of one grid")
            super().__init__(inputs)

    trial = subjects(OneGrid, {})
    assert {count: list(subject.inputs) for count, subject in trial.taken.items()} == {
        1: ["optical"],
        2: ["red", "sar"],
        3: ["red", "sar", "dem"],
        4: ["red", "sar", "dem", "nir"],
    }


def test_the_message_names_what_is_hidden_and_what_to_do():
    with pytest.raises(Fault, match=r"factors\[0\].*ParameterList"):
        hold(CHECKS_BY_NAME["every_tensor_is_registered"], subjects(FactorsInAList, {}, (2,)).taken[2])
    with pytest.raises(
        Fault, match=r"attend.in_proj_weight \(query\), fusion.attend.in_proj_weight \(key\).*single key"
    ):
        hold(CHECKS_BY_NAME["no_query_is_dead"], subjects(OneKey, {}, (2,)).taken[2])


CHECKS_BY_NAME = {check.__name__: check for check in CHECKS}


class TestRight(FusionSuite):
    component = Right
    options = {"dropout": 0.0}


class TestConcatByName(FusionSuite):
    component = "fusion:concat"
    options = {"dim": 16}
    counts = (2,)


def test_a_suite_fails_by_the_rule_that_is_broken():
    class Suite(FusionSuite):
        component = AbsenceIgnored

    with pytest.raises(Fault, match=r"^absent_slots_mean_nothing: 1 modality: "):
        Suite().test_absent_slots_mean_nothing()
    Suite().test_samples_are_independent()


def test_a_suite_that_asks_for_a_number_of_modalities_fails_where_it_is_refused():
    class Suite(FusionSuite):
        component = RefusesAll
        counts = (2,)

    with pytest.raises(Fault, match="needs five modalities"):
        Suite().test_modalities_are_taken_or_refused()


def test_a_module_that_fails_within_a_check_has_that_fault():
    def checked(subject):
        raise KeyError("text")

    with pytest.raises(Fault, match="checked: 2 modalities: it fails with KeyError: 'text'"):
        hold(checked, None, "2 modalities")
