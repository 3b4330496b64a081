"""Replacement by synonyms."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

import numpy as np
from pydantic import Field

from fusionkit.contract import Augmentation, Sample
from fusionkit.errors import DataError, RequestError
from fusionkit.flow import InputSpec
from fusionkit.options import DataPath
from fusionkit_augmentations.phrases import Phrases
from fusionkit_augmentations.selection import select_texts
from fusionkit_augmentations.text_tables import read_table
from fusionkit_augmentations.wordnet import read_wordnet


class Synonyms(Augmentation):
    """Replaces words of a text by synonyms, as in Wei and Zou: EDA, EMNLP 2019.

    Words and phrases are found by the longest match, so that texts without spaces between words (Chinese) are read by a
    table too. Each that is known is replaced with the same probability, by any of its synonyms, each as likely as the
    others. A capital at the beginning stays; inflected forms that are not listed are left as they are.

    Args:
        inputs: per modality, the shape of its arrays.
        wordnet: WordNet's folder `dict`, with index.noun, data.noun and the like. A word is replaced by one of the same
            synset, the most frequent one of each part of speech.
        table: in its place, a text file with a line `word<TAB>synonym<TAB>synonym` each, of any language.
        share: of the words with synonyms that are replaced, on average.
        modalities: the texts to change; default: all.

    Raises:
        RequestError: a modality is unknown or no text, or there is not one source of synonyms.
        DataError: the source is missing or damaged.
    """

    def __init__(
        self,
        inputs: Mapping[str, InputSpec],
        *,
        wordnet: DataPath | None = None,
        table: DataPath | None = None,
        share: Annotated[float, Field(gt=0, le=1)] = 0.2,
        modalities: list[str] | None = None,
    ):
        super().__init__(inputs)
        self.share = share
        self.modalities = select_texts("synonyms", inputs, modalities)
        if (wordnet is None) == (table is None):
            raise RequestError("synonyms: give either `wordnet`, a folder, or `table`, a file")
        self.synonyms = read_wordnet(wordnet) if wordnet else read_table(table) if table else {}
        if not self.synonyms:
            raise DataError("no word of it has a synonym", wordnet)
        self.phrases = Phrases(self.synonyms)

    def __call__(self, sample: Sample, random: np.random.Generator) -> Sample:
        return sample | {
            name: np.array(self._changed(value.item(), random))
            for name in self.modalities
            if (value := sample.get(name)) is not None
        }

    def _changed(self, text: str, random: np.random.Generator) -> str:
        pieces, done = [], 0
        for start, end in self.phrases.find(text):
            if random.random() < self.share:
                choices = self.synonyms[text[start:end].lower()]
                chosen = choices[random.integers(len(choices))]
                capital = text[start].isupper() and chosen[0].islower()
                pieces += [text[done:start], chosen[0].upper() + chosen[1:] if capital else chosen]
                done = end
        return "".join([*pieces, text[done:]])
