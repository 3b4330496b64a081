"""Replacement by paraphrases."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from pydantic import BaseModel, ConfigDict, PositiveInt

from fusionkit.contract import Augmentation, Sample
from fusionkit.errors import RequestError
from fusionkit.flow import InputSpec
from fusionkit.options import DataPath, Probability
from fusionkit_augmentations.selection import select_texts
from fusionkit_augmentations.text_tables import key, read_table


class Translation(BaseModel):
    """Two models that translate, into another language and back."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, use_attribute_docstrings=True)

    there: DataPath
    """Folder of a Hugging Face model, with its tokenizer."""
    back: DataPath
    """Folder of the model of the opposite direction."""
    beams: PositiveInt = 4
    """The width of the search, and how many translations back there are to choose from."""


class Paraphrases(Augmentation):
    """Replaces a whole text by another of the same meaning, as back-translation makes them: Sennrich, Haddow and Birch:
    Improving Neural Machine Translation Models with Monolingual Data, ACL 2016.

    Either from a table made beforehand, or by two models that translate on the way: beam search, so that what a text
    becomes depends on nothing but the draw. Each process translates a text once and keeps the results; the first
    epoch takes its time. A text without paraphrase is left as it is, and so is one that comes back unchanged.

    Args:
        inputs: per modality, the shape of its arrays.
        table: a text file with a line `text<TAB>paraphrase<TAB>paraphrase` each, of any language; texts are compared
            in small letters and with single spaces.
        translation: in its place, two local models; needs fusionkit-geo[text].
        probability: of a text with paraphrases to be replaced by one of them, each as likely as the others.
        modalities: the texts to change; default: all.

    Raises:
        RequestError: a modality is unknown or no text, there is not one source of paraphrases, or a model cannot be
            loaded.
        DataError: the table is missing or damaged.
    """

    def __init__(
        self,
        inputs: Mapping[str, InputSpec],
        *,
        table: DataPath | None = None,
        translation: Translation | None = None,
        probability: Probability = 0.5,
        modalities: list[str] | None = None,
    ):
        super().__init__(inputs)
        self.probability = probability
        self.modalities = select_texts("paraphrases", inputs, modalities)
        if (table is None) == (translation is None):
            raise RequestError("paraphrases: give either `table`, a file, or `translation`, two models")
        self.table = read_table(table) if table else {}
        self.translator = None
        if translation:
            from fusionkit_augmentations.translation import BackTranslator

            self.translator = BackTranslator(translation.there, translation.back, translation.beams)

    def __call__(self, sample: Sample, random: np.random.Generator) -> Sample:
        changed = dict(sample)
        for name in self.modalities:
            value = sample.get(name)
            if value is not None and random.random() < self.probability:
                choices = self._paraphrases(value.item())
                if choices:
                    changed[name] = np.array(choices[random.integers(len(choices))])
        return changed

    def _paraphrases(self, text: str) -> tuple[str, ...]:
        if self.translator is None:
            return self.table.get(key(text), ())
        if text not in self.table:
            others = {key(other): other for other in self.translator(text) if other}
            self.table[text] = tuple(other for compared, other in others.items() if compared != key(text))
        return self.table[text]
