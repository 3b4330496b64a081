"""The report: everything is told, nothing hostile gets through, nothing is fetched from elsewhere."""

import dataclasses
import re
from html.parser import HTMLParser
from types import SimpleNamespace

import numpy as np
import pytest

from fusionkit.describe import Description
from fusionkit.estimates import Estimate
from fusionkit.figures import Curve
from fusionkit.predictions import Predictions
from fusionkit.report import ReportData, render, write_report
from fusionkit.result import Baseline, Cost, Result, fusion_effect, score
from fusionkit.runs import RunFolder
from fusionkit.survey import Bad

HOSTILE = ("<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "铁路站", "line\nbreak {{ 7*7 }}", "x" * 300)
IMAGES = {"confusion": b"c", "learning_curves": b"l", "baselines": b"b"}
VOID = {"meta", "img", "br", "hr", "link", "input"}


class Page(HTMLParser):
    """Tags with their attributes, the text, and a check that tags close in order."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.open, self.text = [], [], ""
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag
        self.text += " " if tag in ("td", "th", "span", "a", "li") else ""

    def handle_data(self, data):
        if self.open and self.open[-1] not in ("style", "title"):
            self.text += data

    def rows(self):
        return " ".join(self.text.split())


def answers(classes, right, seed, folds=False):
    target = np.arange(100) % classes
    wrong = np.random.default_rng(seed).random(100) > right
    prediction = np.where(wrong, (target + 1) % classes, target)
    fold = np.arange(100) // 50 if folds else None
    return Predictions([f"s{i}" for i in range(100)], target, np.eye(classes)[prediction], None, fold)


def report_data(names=("park", "airport"), *, folds=False, baselines=True, **changes):
    fused = answers(len(names), 0.9, 0, folds)
    others = {"image": answers(len(names), 0.4, 1), "visits": answers(len(names), 0.6, 2)} if baselines else {}
    found = score(fused, names, 0)
    result = Result(
        name="urfc",
        task="classification",
        split="test",
        n=100,
        seed=7,
        fusion="concat",
        modalities=("image", "visits"),
        classes=tuple(names),
        metrics=found.metrics,
        per_class=found.details,
        interval=found.interval,
        cost=Cost(1_234_567, 45_678_901, 3723.0, 1520.4, 850 * 2**20),
        baselines={
            name: Baseline((name,), score(held, names, 0).metrics, Cost(600_000)) for name, held in others.items()
        },
        comparison=fusion_effect(fused, others, list(others), 0) if others else None,
        folds=found.folds,
    )
    given = {
        "result": result,
        "predictions": fused,
        "confusion": found.confusion,
        "curves": [Curve([{"epoch": 1, "train/loss": 1.0, "val/loss": 1.1, "val/oa": 0.5}], 1)],
        "data": Description(
            recipe="urfc",
            source="urfc",
            sizes=[("", {"train": 7000, "val": 900, "test": 100})],
            unlabelled=12,
            classes=[(name, {"train": 11, "val": 12, "test": 13}) for name in names],
            modalities=[
                {"name": "image", "shape": "3 x 100 x 100", "absent": 17, "range": (0.0, 255.0), "example": ""}
            ],
            findings=["3 test samples are identical to a sample of train or val"],
        ),
        "bad": [Bad(f"{i:06d}", "train", f"tiles/{i}.jpg", i or None, "the tile is black") for i in range(14)],
        "provenance": {
            "command": ["fusionkit", "run", "a b.yaml"],
            "packages": {"torch": "2.9.1"},
            "plugins": [{"name": "fusions", "owner": "fusionkit-geo", "version": "0.1.0"}],
            "git": {"commit": "3f2a957", "changed": True},
            "recipe_git": None,
            "earlier": [{"started": "before"}],
        },
        "resolved": "name: urfc\ntrain:\n  epochs: 3\n",
        "notes": ["no early stack: shapes differ"],
        "sections": [("Exchanged channels", "layer 1: 3 %\nlayer 2: 17 %")],
    }
    return ReportData(**(given | changes))


def test_report_tells_everything():
    data = report_data()
    page = Page(render(data, IMAGES))
    text = page.rows()
    for figure in data.result.metrics.values():
        assert f"{figure.value:.3f}" in text
        assert f"{figure.low:.3f} to {figure.high:.3f}" in text
    verdict, _, rest = data.result.comparison.answer.partition(":")
    assert verdict in text
    assert rest.strip() in text
    for told in (
        "image + visits, fused by concat; 2 classes; 100 samples (test); seed 7.",
        "bootstrap over 100 samples",
        "image + visits (concat)",
        "1,234,567",
        "45.7 M",
        "1 h 2 min",
        "850 MiB",
        "7,000",
        "12 samples without a label",
        "3 x 100 x 100",
        "3 test samples are identical",
        "Left out as bad: 14",
        "4 more are in bad_samples.csv",
        "no early stack: shapes differ",
        "Exchanged channels layer 1: 3 % layer 2: 17 %",
        "fusionkit run 'a b.yaml'",
        "torch 2.9.1",
        "fusions fusionkit-geo 0.1.0",
        "commit 3f2a957, changed yes",
        "after 1 earlier sittings",
        "name: urfc train: epochs: 3",
    ):
        assert told in text
    assert "recipe git" not in text  # unknown


def test_figures_of_the_fusion_are_means_over_the_folds():
    def curve(best, *shares):
        start = {"train/loss": 1.0, "val/loss": 1.1, "val/oa": 0.5}
        rows = [{"epoch": i + 1, **start, "fusion/share": share} for i, share in enumerate(shares)]
        return Curve(rows, best)

    one, two = curve(2, 0.0, 0.25, 0.5), curve(1, 0.1, 0.3)
    one.rows[0]["balance/image"] = 0.7
    page = Page(render(report_data(curves=[one, two]), IMAGES)).rows()
    assert "figure first epoch chosen epoch last epoch" in page
    assert "fusion/share 0.05 0.175 0.4" in page
    assert "balance/image 0.7 – –" in page
    assert "Means over the folds." in page
    assert "State of fusion" not in Page(render(report_data(), IMAGES)).rows()


def test_report_is_one_file_that_needs_no_other():
    page = Page(render(report_data(), IMAGES))
    for tag, attributes in page.tags:
        assert tag not in ("script", "link", "iframe", "object")
        if "src" in attributes:
            assert attributes["src"].startswith("data:image/png;base64,")
        if "href" in attributes:
            assert attributes["href"].startswith("#")
    assert sum(tag == "img" for tag, _ in page.tags) == 3
    policy = [attributes["content"] for tag, attributes in page.tags if tag == "meta" and "http-equiv" in attributes]
    assert "default-src 'none'" in policy[0]
    assert not re.search(r"url\(|@import", render(report_data(), IMAGES))


def test_every_link_has_its_place():
    page = Page(render(report_data(), IMAGES))
    ids = {attributes["id"] for _, attributes in page.tags if "id" in attributes}
    links = {attributes["href"][1:] for _, attributes in page.tags if "href" in attributes}
    assert links
    assert links <= ids


def test_hostile_text_stays_text():
    bad = [Bad(HOSTILE[0], HOSTILE[1], HOSTILE[0], None, HOSTILE[1])]
    plain = Page(render(report_data(("a", "b", "c", "d", "e"), bad=bad[:1]), IMAGES))
    data = report_data(
        HOSTILE,
        bad=bad,
        provenance={HOSTILE[0]: HOSTILE[1], "command": [HOSTILE[0]], "packages": {HOSTILE[0]: HOSTILE[1]}},
        resolved="</pre>" + HOSTILE[0],
        notes=[HOSTILE[0]],
        sections=[(HOSTILE[0], HOSTILE[1])],
    )
    data = dataclasses.replace(data, result=dataclasses.replace(data.result, name=HOSTILE[0], fusion=HOSTILE[1]))
    data.data.findings = [HOSTILE[0]]
    data.data.source = HOSTILE[1]
    page = Page(render(data, IMAGES))
    assert {tag for tag, _ in page.tags} == {tag for tag, _ in plain.tags}
    assert not any(name.startswith("on") for _, attributes in page.tags for name in attributes)
    for name in HOSTILE:
        assert name in page.text
    assert "{{ 7*7 }}" in page.text


def test_report_without_baselines():
    data = report_data(baselines=False)
    page = Page(render(data, {name: IMAGES[name] for name in ("confusion", "learning_curves")}))
    assert "Does fusion help" not in page.text
    assert "1,234,567" in page.text


def test_report_of_folds():
    data = report_data(folds=True)
    data.data.sizes = [("0", {"train": 1, "val": 2, "test": 3}), ("1", {"train": 4, "val": 5, "test": 6})]
    text = Page(render(data, IMAGES)).rows()
    assert "fold as test n OA" in text
    assert "trained once a fold" in text
    first = data.result.folds[0]
    assert f"0 50 {first.metrics['oa']:.3f}" in text
    assert "Samples of each class, fold 0 as test" in text


def test_undefined_figures_are_dashes():
    data = report_data()
    data.data.modalities[0]["range"] = (float("nan"), float("nan"))  # absent in every sample
    metrics = data.result.metrics | {"kappa": Estimate(None), "oa": Estimate(0.5)}
    per_class = (dataclasses.replace(data.result.per_class[0], ua=None, f1=None), data.result.per_class[1])
    result = dataclasses.replace(data.result, metrics=metrics, per_class=per_class, cost=Cost())
    text = Page(render(dataclasses.replace(data, result=result), IMAGES)).rows()
    assert "kappa – no interval" in text
    assert "OA 0.500 no interval" in text
    assert "None" not in text
    assert not re.search(r"\bnan\b", text)


@pytest.mark.parametrize(
    ("seconds", "told"),
    [(2.345, "2.3 s"), (59.99, "60.0 s"), (61, "1 min 1 s"), (3599.9, "1 h 0 min"), (86400, "24 h 0 min")],
)
def test_training_time_is_readable(seconds, told):
    data = report_data()
    result = dataclasses.replace(data.result, cost=Cost(train_seconds=seconds))
    assert told in Page(render(dataclasses.replace(data, result=result), IMAGES)).rows()


def test_write_report_leaves_figures_and_page(tmp_path):
    folder = RunFolder(tmp_path)
    write_report(folder, report_data())
    stems = ("baselines", "confusion", "learning_curves")
    files = sorted(path.name for path in tmp_path.iterdir())
    assert files == sorted(["report.html", *(f"{stem}.{kind}" for stem in stems for kind in ("pdf", "png"))])
    page = Page((tmp_path / "report.html").read_text(encoding="utf-8"))
    sources = [attributes["src"] for tag, attributes in page.tags if tag == "img"]
    assert all(len(source) > 5000 for source in sources)


def test_bad_samples_need_only_their_fields():
    bad = [SimpleNamespace(id="a", reason="r", path="p", line=3, split="val")]
    assert "a r p 3 val" in Page(render(report_data(bad=bad), IMAGES)).rows()
