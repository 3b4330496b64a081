"""The result as an interface: what is in it, that it survives JSON, and what it answers."""

import dataclasses
import json

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, f1_score

from fusionkit.errors import RequestError
from fusionkit.estimates import Estimate
from fusionkit.result import (
    Baseline,
    Cost,
    Predictions,
    Result,
    estimate_text,
    fusion_effect,
    score,
)

NAMES = ("residential", "铁路站", "<script>")


def certain(prediction, classes=3):
    return np.eye(classes, dtype=np.float32)[np.asarray(prediction)]


def predictions(right, n=200, *, seed=0, groups=None, fold=None, target=None):
    """Answers for the same samples, of which about the share `right` is right."""
    target = np.arange(n) % 3 if target is None else target
    wrong = np.random.default_rng(seed).random(n) >= right
    ids = [f"{i:06d}" for i in range(n)]
    return Predictions(ids, target, certain(np.where(wrong, (target + 1) % 3, target)), groups, fold)


def result_of(fused, others, alone):
    found = score(fused, NAMES, 0)
    return Result(
        name="urfc",
        task="classification",
        split="test",
        n=found.n,
        seed=0,
        fusion="concat",
        modalities=("image", "visits"),
        classes=NAMES,
        metrics=found.metrics,
        per_class=found.details,
        interval=found.interval,
        cost=Cost(parameters=1234567, train_seconds=1.5),
        baselines={
            name: Baseline(
                ("image", "visits") if name == "early_stack" else (name,), score(p, NAMES, 0).metrics, Cost(9)
            )
            for name, p in others.items()
        },
        comparison=fusion_effect(fused, others, alone, 0),
        folds=found.folds,
    )


@pytest.fixture(scope="module")
def result():
    others = {"early_stack": predictions(0.7, seed=3), "image": predictions(0.4, seed=1), "visits": predictions(0.6)}
    return result_of(predictions(0.9, seed=4), others, ["image", "visits"])


def test_score_equals_sklearn():
    found = predictions(0.7)
    scores = score(found, NAMES, 0)
    answered = found.answers.argmax(1)
    assert scores.n == 200
    assert scores.metrics["oa"].value == pytest.approx(accuracy_score(found.target, answered))
    assert scores.metrics["macro_f1"].value == pytest.approx(f1_score(found.target, answered, average="macro"))
    assert scores.confusion.sum() == 200
    assert scores.interval == "bootstrap over 200 samples"
    assert [row.name for row in scores.details] == list(NAMES)


def test_score_resamples_groups_and_tells_folds_apart():
    fold = np.array(["a"] * 80 + ["b"] * 120)
    found = predictions(0.7, groups=np.arange(200) % 20, fold=fold)
    scores = score(found, NAMES, 0)
    assert scores.interval == "bootstrap over 20 groups"
    assert [(f.fold, f.n) for f in scores.folds] == [("a", 80), ("b", 120)]
    first = accuracy_score(found.target[:80], found.prediction[:80])
    assert scores.folds[0].metrics["oa"] == pytest.approx(first)


def test_predictions_refuse_what_does_not_fit():
    with pytest.raises(ValueError, match="2 target for 3 samples"):
        Predictions(["a", "b", "c"], np.array([0, 1]), certain([0, 1, 1]))
    broken = certain([0, 1, 1])
    broken[1, 2] = np.nan
    with pytest.raises(ValueError, match="of 1 samples are no numbers, first b"):
        Predictions(["a", "b", "c"], np.array([0, 1, 1]), broken)
    with pytest.raises(ValueError, match=r"\[n, K\]"):
        Predictions(["a", "b"], np.array([0, 1]), np.array([0.1, 0.2]))
    with pytest.raises(ValueError, match="2 names for 3 columns of answers"):
        score(predictions(0.5), ["a", "b"], 0)


def test_json_has_the_promised_form(result):
    told = json.loads(result.to_json())
    assert told["format"] == 1
    assert {"name", "task", "split", "n", "seed", "classes", "metrics", "baselines", "per_class", "cost"} <= set(told)
    headlines = ["oa", "aa", "kappa", "macro_f1", "weighted_f1"]
    assert list(told["metrics"]) == headlines
    assert list(told["metrics"]["oa"]) == ["value", "low", "high"]
    assert list(told["baselines"]["visits"])[:5] == headlines
    assert told["baselines"]["visits"]["oa"]["value"] == pytest.approx(0.6, abs=0.1)
    assert told["baselines"]["visits"]["cost"]["parameters"] == 9
    assert list(told["cost"]) == [
        "parameters",
        "multiply_adds",
        "train_seconds",
        "samples_per_second",
        "peak_memory_bytes",
    ]
    assert list(told["per_class"][0]) == ["name", "n", "predicted", "pa", "ua", "f1"]
    assert told["classes"][1] == "铁路站"


def test_json_round_trip(result):
    again = Result.from_json(result.to_json())
    assert again == result
    assert again.to_json() == result.to_json()
    assert isinstance(again.baselines["image"].metrics["oa"], Estimate)


def test_undefined_is_null_and_nan_never_enters(result):
    one = dataclasses.replace(result, metrics={**result.metrics, "kappa": Estimate(None)})
    assert json.loads(one.to_json())["metrics"]["kappa"] == {"value": None, "low": None, "high": None}
    assert Result.from_json(one.to_json()).metrics["kappa"] == Estimate(None)
    with pytest.raises(ValueError, match="not JSON compliant"):
        dataclasses.replace(result, cost=Cost(train_seconds=float("nan"))).to_json()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda told: told.update(format=2), "format 2"),
        (lambda told: told.pop("format"), "format None"),
        (lambda told: told.pop("metrics"), "metrics"),
        (lambda told: told.update(n="many"), "n: "),
        (lambda told: told["baselines"]["image"].pop("cost"), "cost"),
        (lambda told: told.update(baselines=[1]), "not a result"),
    ],
)
def test_broken_results_are_refused(result, change, message):
    told = json.loads(result.to_json())
    change(told)
    with pytest.raises(RequestError, match=message):
        Result.from_dict(told)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '"text"'])
def test_what_is_no_json_object_is_refused(text):
    with pytest.raises(RequestError):
        Result.from_json(text)


def test_keys_of_a_later_version_are_left_aside(result):
    told = json.loads(result.to_json()) | {"novelty": 1}
    assert Result.from_dict(told) == result


def test_table_has_each_modality_then_early_stack_then_fusion(result):
    rows = result.table()
    assert [row.name for row in rows] == ["image", "visits", "early_stack", "fusion"]
    assert [row.label for row in rows][2:] == ["image + visits (early_stack)", "image + visits (concat)"]
    assert rows[-1].metrics is result.metrics
    assert rows[-1].cells[-1] == "1,234,567"
    lines = str(rows).splitlines()
    assert lines[0].split() == ["modalities", "OA", "AA", "kappa", "parameters"]
    assert len(lines) == 5
    assert estimate_text(result.metrics["oa"]) in lines[-1]


def test_printed_result_says_what_it_is(result):
    text = str(result)
    assert "200 samples (test), seed 0, 95 % intervals by bootstrap over 200 samples" in text
    assert text.endswith(result.comparison.answer)


def test_estimate_text():
    assert estimate_text(Estimate(0.78649, 0.7571, 0.8149)) == "0.786 [0.757, 0.815]"
    assert estimate_text(Estimate(0.5)) == "0.500"
    assert estimate_text(Estimate(None)) == "undefined"
    assert estimate_text(Estimate(1.0, 0.5, 123.456), "brier") == "1.000 [0.5000, 123.5]"
    assert estimate_text(Estimate(1234.0), "brier") == "1234"


def answers(*flips, n=300):
    """A target, and predictions wrong exactly at the given positions."""
    target = np.arange(n) % 3
    ids = [str(i) for i in range(n)]
    made = []
    for flip in flips:
        prediction = target.copy()
        prediction[list(flip)] = (prediction[list(flip)] + 1) % 3
        made.append(Predictions(ids, target, certain(prediction)))
    return made


def test_answer_when_fusion_helps():
    fused, image, visits = answers(range(30), range(150), range(90))
    effect = fusion_effect(fused, {"image": image, "visits": visits}, ["image", "visits"], 0)
    assert (effect.best, effect.verdict) == ("visits", "better")
    assert effect.answer.startswith("Fusion helps: OA +20.0 points (95 % interval +15.")
    assert "against visits alone" in effect.answer
    assert "p < 0.001" in effect.answer
    assert "Macro F1 +" in effect.answer
    assert effect.against["image"].differences["oa"].value == pytest.approx(0.4)


def test_answer_when_fusion_hurts():
    fused, image = answers(range(90), range(30))
    assert fusion_effect(fused, {"image": image}, ["image"], 0).answer.startswith("Fusion hurts: OA -20.0 points")


def test_answer_when_nothing_can_be_said():
    fused, image = answers(range(0, 60), range(5, 66))
    effect = fusion_effect(fused, {"image": image}, ["image"], 0)
    assert effect.answer.startswith("No evidence that fusion helps: OA +0.3 points")


def test_answer_with_weak_evidence():
    fused, image = answers(range(8), range(6, 24))  # 6 against 16: p = 0.052, interval without zero
    effect = fusion_effect(fused, {"image": image}, ["image"], 0)
    assert effect.answer.startswith("Weak evidence that fusion helps: OA +3.3 points")


def test_answer_names_the_early_stack_but_does_not_count_it_as_a_single_modality():
    fused, image, stack = answers(range(30), range(90), range(28))
    effect = fusion_effect(fused, {"image": image, "early_stack": stack}, ["image"], 0)
    assert effect.best == "image"
    assert "Against the early stack: OA -0.7 points" in effect.answer
    assert effect.answer.endswith("no evidence of a difference.")


def test_baselines_are_matched_by_id():
    fused, image = answers(range(30), range(90))
    order = np.random.default_rng(0).permutation(300)
    shuffled = Predictions([image.ids[i] for i in order], image.target[order], image.answers[order])
    assert fusion_effect(fused, {"image": shuffled}, ["image"], 0) == fusion_effect(
        fused, {"image": image}, ["image"], 0
    )
    other = Predictions(["x", *image.ids[1:]], image.target, image.answers)
    with pytest.raises(ValueError, match="other samples"):
        fusion_effect(fused, {"image": other}, ["image"], 0)
