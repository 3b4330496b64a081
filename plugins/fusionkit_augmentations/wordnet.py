"""WordNet's own files: `index.noun`, `data.noun`, and the same for verbs, adjectives and adverbs (wndb(5WN))."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from fusionkit.errors import DataError

PARTS_OF_SPEECH = ("noun", "verb", "adj", "adv")

_GRAMMAR = """
    a about above across after again against all am an and any are as at be because been before behind being below
    beside between both but by can could did do does doing down during each either few for from had has have having
    he her here hers him his how i if in into is it its just many may me might mine more most must my near no nor not
    of off on once one only or other our ours out over own same shall she should so some such than that the their
    theirs them then there these they this those through to too two under until up very was we were what when where
    which while who whom whose why will with within without would you your yours
"""
GRAMMAR = frozenset(_GRAMMAR.split())
"""Words that hold a sentence together. WordNet has some as something else: `a` as a vitamin, `in` as an inch."""

_MARKER = re.compile(r"\((a|p|ip)\)$")
"""Where an adjective may stand."""


def read_wordnet(folder: Path) -> dict[str, tuple[str, ...]]:
    """The synonyms of each word and collocation, in small letters: of its most frequent sense as each part of speech.

    Words without synonyms are left out, and so are words of grammar.

    Raises:
        DataError: the folder has no such files, or they are damaged.
    """
    found: dict[str, dict[str, None]] = {}
    kinds = [kind for kind in PARTS_OF_SPEECH if (folder / f"index.{kind}").is_file()]
    if not kinds:
        raise DataError("there is no index.noun, index.verb, index.adj or index.adv in this folder", folder)
    for kind in kinds:
        for word, synonyms in _senses(folder, kind):
            if word not in GRAMMAR and synonyms:
                found.setdefault(word, {}).update(dict.fromkeys(synonyms))
    return {word: tuple(synonyms) for word, synonyms in found.items()}


def _senses(folder: Path, kind: str) -> Iterator[tuple[str, list[str]]]:
    """Each word of a part of speech, and the others of its first sense."""
    index, data = folder / f"index.{kind}", folder / f"data.{kind}"
    if not data.is_file():
        raise DataError(f"there is an index.{kind}, but no such file", data)
    synsets = data.read_bytes()
    for number, line in enumerate(index.read_bytes().split(b"\n"), 1):
        if not line or line.startswith(b" "):  # the licence
            continue
        try:
            lemma, _, synset_count, pointers, *fields = line.decode().split()
            offsets = fields[int(pointers) + 2 :]
            if len(offsets) != int(synset_count):
                raise ValueError("another number of synsets than it says")
            words = _words(synsets, int(offsets[0]))
        except (ValueError, IndexError) as error:
            raise DataError(f"line {number} and {data.name} do not fit: {error}", index) from error
        word = lemma.replace("_", " ").lower()
        yield word, [other for other in words if other.lower() != word]


def _words(synsets: bytes, offset: int) -> list[str]:
    """The words of the synset at this byte."""
    fields = synsets[offset : max(synsets.find(b"\n", offset), 0) or None].decode().split()
    if not fields or fields[0] != f"{offset:08d}":
        raise ValueError(f"no synset begins at byte {offset}")
    count = int(fields[3], 16)
    return [_MARKER.sub("", word).replace("_", " ") for word in fields[4 : 4 + 2 * count : 2]]
