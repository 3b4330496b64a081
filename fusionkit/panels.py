"""Panels of test samples: what the model was given, what is true, what the best baseline says and what ours says.

A run's folder holds answers and no inputs, so its dataset reads the samples again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import numpy as np
from jinja2 import Template

from fusionkit import grounding
from fusionkit.assembly import blamed_on
from fusionkit.errors import BadSample, RequestError
from fusionkit.files import atomic
from fusionkit.loading import read_checked
from fusionkit.pages import template
from fusionkit.panel_attention import Attention
from fusionkit.panel_choice import RULE, drawn, groups, right
from fusionkit.pictures import picture, source, with_attention, with_boxes
from fusionkit.predictions import Predictions, read_predictions
from fusionkit.recipe import load_recipe
from fusionkit.samples import Dataset, Sample
from fusionkit.saved import SavedRun
from fusionkit.webfont import font_source

PAGE = "panels.html"
NUMBER = 4
"""So many samples are drawn of each group."""
FOUND = 5
"""So many candidates of a retrieval are shown."""
WORDS = 12
"""So many words are shown with their attention; the first ones."""
TRUE, OURS, THEIRS = "#2e8540", "#d1661a", "#1f6fb2"
"""The colours of boxes."""
_THUMB = 112


@dataclass
class Shown:
    """What there is to see of a sample.

    Args:
        id: of the sample.
        pictures: name and `data:` URI of each map.
        texts: name and text of each modality of text.
        trouble: why it could not be read, if so.
        mark: of a candidate, `right`, `class` where it is of the same class alone, or empty.
    """

    id: str
    pictures: list[tuple[str, str]] = field(default_factory=list)
    texts: list[tuple[str, str]] = field(default_factory=list)
    trouble: str = ""
    mark: str = ""


@dataclass
class Panel:
    """A sample with what is said of it.

    Args:
        shown: the sample.
        answers: who, what it says, and whether that is right; None where there is no saying.
        looks: word and `data:` URI of where it looks.
        found: of a retrieval, per direction its title and the first candidates.
    """

    shown: Shown
    answers: list[tuple[str, str, bool | None]] = field(default_factory=list)
    looks: list[tuple[str, str]] = field(default_factory=list)
    found: list[tuple[str, list[Shown]]] = field(default_factory=list)

    def everyone(self) -> list[Shown]:
        """The sample and the candidates that it finds."""
        return [self.shown, *(shown for _, candidates in self.found for shown in candidates)]


def write_panels(path: str | Path, *, overrides: Sequence[str] = (), number: int = NUMBER) -> Path:
    """Write `panels.html` into the folder of a finished run, and a link to it into its report.

    Args:
        path: the folder.
        overrides: `data.key=value`, where the data have moved.
        number: of samples of each group.

    Returns:
        the path of the page.

    Raises:
        RequestError: it is no finished run, has no image, or its test samples are not among the data.
    """
    page = PanelMaker(path, overrides).page(number)
    target = Path(path) / PAGE
    with atomic(target) as file:
        file.write(page.encode())
    report = Path(path) / "report.html"
    if report.is_file():
        text, link = report.read_text(encoding="utf-8"), f'<a href="{PAGE}">Panels</a>\n'
        if link not in text:
            with atomic(report) as file:
                file.write(text.replace("</nav>", f"{link}</nav>", 1).encode())
    return target


class PanelMaker:
    """Reads what a page needs; arguments and errors as for `write_panels`."""

    def __init__(self, path: str | Path, overrides: Sequence[str] = ()):
        self.saved = SavedRun.open(path)
        self.run = self.saved.run
        self.maps = [name for name, spec in self.saved.inputs.items() if len(spec.shape) == 3 and not spec.ragged]
        if not self.maps:
            raise RequestError(f"{path}: none of its modalities ({', '.join(self.saved.inputs)}) is an image to show")
        for override in overrides:
            if not override.startswith("data."):
                raise RequestError(f"{override}: a finished run shows what it was given; only data.* can be changed")
        self.recipe = load_recipe(self.run.path / "resolved.yaml", overrides)
        with blamed_on(self.recipe):
            self.dataset: Dataset = self.recipe.dataset.build()
            ids = [str(id) for id in self.dataset.index().ids]
        self.place = {id: position for position, id in enumerate(ids)}
        self.ours = self.run.predictions
        if lost := [id for id in self.ours.ids if id not in self.place]:
            raise RequestError(f"{len(lost)} test samples of {path} are not among the data, the first is {lost[0]}")
        self.baseline = self._baseline()
        self.attention = Attention(self.saved)

    def _baseline(self) -> tuple[str, Predictions] | None:
        """The name and predictions of the best single modality, in the order of ours."""
        comparison = self.run.result.comparison
        if comparison is None:
            return None
        path = self.run.path / "baselines" / f"{comparison.best}.csv"
        held, _ = read_predictions(path if path.is_file() else path.with_suffix(".parquet"))
        ours = self.ours
        same = Predictions(ours.ids, ours.target, held.of(ours.ids), task=ours.task)
        return comparison.best, same

    def page(self, number: int) -> str:
        """The page as HTML."""
        baseline = self.baseline[1] if self.baseline else None
        seed = self.run.result.seed
        sections = [
            (title, len(rows), [self.panel(row) for row in drawn(rows, number, seed, title)])
            for title, rows in groups(self.ours, baseline)
        ]
        seen = [shown for _, _, panels in sections for panel in panels for shown in panel.everyone()]
        written = [*(shown.id for shown in seen), *(text for shown in seen for _, text in shown.texts)]
        names = [self.run.result.name, *self.run.result.classes, *self.run.result.modalities]
        return _template().render(
            font=font_source("".join([*written, *names])),
            result=self.run.result,
            sections=sections,
            baseline=self.baseline[0] if self.baseline else None,
            rule=RULE.format(number=number),
            attention=self.attention.model is not None,
            colours=(TRUE, OURS, THEIRS) if self.ours.task == "grounding" else None,
        )

    def panel(self, row: int) -> Panel:
        """One of the test samples, with all that is said of it."""
        sample, trouble = self._read(row)
        shown = self._shown(row, sample, trouble)
        panel = Panel(shown, self._answers(row))
        if self.ours.task == "retrieval":
            panel.answers, panel.found = [], self._found(row)
        for look in self.attention.of(sample)[:WORDS] if sample else ():
            value = sample.get(look.image)
            if value is not None:
                panel.looks.append((look.token, source(with_attention(picture(value), look.weights), _THUMB)))
        return panel

    def _read(self, row: int) -> tuple[Sample, str]:
        """A test sample; nothing of one that cannot be read any more, and why."""
        offered = self.dataset.inputs()
        inputs = {name: offered[name] for name in self.saved.inputs if name in offered}
        try:
            return read_checked(self.dataset, self.place[self.ours.ids[row]], inputs, self.recipe.data.timeout), ""
        except BadSample as bad:
            return {}, str(bad)

    def _shown(self, row: int, sample: Sample, trouble: str, side: int | None = None, only: str | None = None) -> Shown:
        shown = Shown(self.ours.ids[row], trouble=trouble)
        boxes = self._boxes(row)
        for name, value in sample.items():
            if only is not None and name != only:
                continue
            if value is None:
                shown.texts.append((name, "absent"))
            elif name in self.maps:
                image = with_boxes(picture(value), boxes)
                shown.pictures.append((name, source(image, side) if side else source(image)))
            elif self.saved.inputs[name].text:
                shown.texts.append((name, str(value)))
        return shown

    def _boxes(self, row: int) -> dict[str, np.ndarray]:
        if self.ours.task != "grounding":
            return {}
        theirs = {} if self.baseline is None else {THEIRS: self.baseline[1].answers[row]}
        return {TRUE: self.ours.target[row], **theirs, OURS: self.ours.answers[row]}

    def _answers(self, row: int) -> list[tuple[str, str, bool | None]]:
        """Ground truth, the baseline's answer and ours."""
        if self.ours.task == "retrieval":
            return []
        told: list[tuple[str, str, bool | None]] = [("ground truth", self._called(self.ours.target[row]), None)]
        models = [] if self.baseline is None else [(f"baseline, {self.baseline[0]}", self.baseline[1])]
        for who, held in [*models, ("ours", self.ours)]:
            judged = None if held.task == "regression" else bool(right(held)[row])
            told.append((who, self._said(held, row), judged))
        return told

    def _called(self, target: np.ndarray) -> str:
        names, units = self.run.result.classes, self.run.result.units or ("",) * len(self.run.result.classes)
        if self.ours.task == "classification":
            return names[int(target)]
        if self.ours.task == "multilabel":
            return ", ".join(name for name, held in zip(names, target, strict=True) if held) or "none"
        if self.ours.task == "grounding":
            return " ".join(f"{corner:.2f}" for corner in target)
        told = zip(names, target, units, strict=True)
        return ", ".join(f"{name} {value:.4g} {unit}".strip() for name, value, unit in told)

    def _said(self, held: Predictions, row: int) -> str:
        said = self._called(held.prediction[row])
        if held.task == "classification":
            return f"{said}, {held.answers[row].max():.0%}"
        if held.task == "grounding":
            return f"{said}, IoU {grounding.iou(held.target[[row]], held.answers[[row]])[0]:.2f}"
        return said

    def _found(self, row: int) -> list[tuple[str, list[Shown]]]:
        """The first candidates of both directions, right ones marked; of equals the right ones come last."""
        one, other = list(self.saved.inputs)
        halves = self.ours.answers.reshape(len(self.ours), 2, -1)
        things = self.ours.target
        found = []
        for query, candidate, names in ((0, 1, (one, other)), (1, 0, (other, one))):
            rows = np.flatnonzero(halves[:, candidate].any(1))
            if candidate == 0:  # a thing is one candidate, however many descriptions it has
                rows = rows[np.unique(things[rows, 0], return_index=True)[1]]
            similar = (halves[rows, candidate] @ halves[row, query]).round(7)
            is_right = things[rows, 0] == things[row, 0]
            order = np.lexsort((is_right, -similar))
            shown = []
            for position in order[:FOUND].tolist():
                sample, trouble = self._read(int(rows[position]))
                seen = self._shown(int(rows[position]), sample, trouble, _THUMB, only=names[1])
                same_class = things[rows[position], 1] == things[row, 1] >= 0
                seen.mark = "right" if is_right[position] else "class" if same_class else ""
                shown.append(seen)
            first = int(np.flatnonzero(is_right[order])[0]) + 1 if is_right.any() else None
            place = f"the first right one is number {first} of {len(rows):,}" if first else "there is no right one"
            found.append((f"{names[0]} → {names[1]}: {place}", shown))
        return found


@lru_cache(maxsize=1)
def _template() -> Template:
    return template(PAGE)
