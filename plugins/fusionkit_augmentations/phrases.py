"""Known words and phrases found in running text, with spaces between words or without."""

from __future__ import annotations

import re
from collections.abc import Collection

_UNSPACED = re.compile("[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]")
"""Chinese characters and kana: words are not parted by spaces."""


class Phrases:
    """Finds known phrases by the longest match from the left.

    A phrase in letters begins and ends with a word; one in Chinese may stand anywhere.

    Args:
        known: the phrases, in small letters.
    """

    def __init__(self, known: Collection[str]):
        self.known = known
        self._longest: dict[str, int] = {}
        for phrase in known:
            self._longest[phrase[0]] = max(len(phrase), self._longest.get(phrase[0], 0))

    def find(self, text: str) -> list[tuple[int, int]]:
        """Where the phrases begin and end, from left to right; they do not overlap."""
        found, start = [], 0
        while start < len(text):
            end = self._end(text, start)
            if end:
                found.append((start, end))
            start = end or start + 1
        return found

    def _end(self, text: str, start: int) -> int:
        """Where the longest phrase that begins here ends; 0 where none does."""
        if _within_a_word(text, start):
            return 0
        longest = self._longest.get(text[start].lower(), 0)
        for end in range(min(start + longest, len(text)), start, -1):
            if text[start:end].lower() in self.known and not _within_a_word(text, end):
                return end
        return 0


def _within_a_word(text: str, position: int) -> bool:
    return 0 < position < len(text) and _joins(text[position - 1]) and _joins(text[position])


def _joins(character: str) -> bool:
    return (character.isalnum() or character in "'’-_") and not _UNSPACED.match(character)
