"""Answers of VQA: brought to one way of writing, and numbered by how often they are given.

By the rules that the benchmark's evaluation states: lower case; no period but that of a decimal number; number words as
digits; no articles; contractions with their apostrophe; all other punctuation but apostrophes and colons is a space,
though not a comma between digits.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np

_UP_TO_TEN = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
_NUMBERS = {"none": "0"} | {word: str(number) for number, word in enumerate(_UP_TO_TEN)}
_ARTICLES = {"a", "an", "the"}
_CONTRACTED = """
    ain't aren't can't could've couldn't couldn't've didn't doesn't don't hadn't hadn't've hasn't haven't he'd he'd've
    he's how'd how'll how's i'd've i'm i've isn't it'd it'd've it'll let's ma'am might've mightn't mightn't've must've
    mustn't needn't o'clock oughtn't shan't she'd've should've shouldn't shouldn't've somebody'd somebody'll somebody's
    someone'd someone'll someone's something'd something'll that'd that'll that's there'd there're there's they'd
    they'd've they'll they're they've 'twas wasn't we'd've we've weren't what'll what're what's what've when's where'd
    where's where've who'd who'll who's who've why'll why're why's won't would've wouldn't wouldn't've y'all y'all'll
    you'd you'd've you'll you're you've
"""
"""Those that are no other word without their apostrophe, as `its` and `well` are."""
_CONTRACTIONS = {word.replace("'", ""): word for word in _CONTRACTED.split()}

_PERIOD = re.compile(r"\.(?!\d)")
_COMMA = re.compile(r"(?<=\d),(?=\d)")
_PUNCTUATION = re.compile(r"[^\w\s':.]|_")


def normalized(answer: str) -> str:
    """An answer as the evaluation compares it."""
    text = _PUNCTUATION.sub(" ", _COMMA.sub("", _PERIOD.sub("", answer.lower().replace("’", "'"))))
    words = (_NUMBERS.get(word, word) for word in text.split())
    return " ".join(_CONTRACTIONS.get(word, word) for word in words if word not in _ARTICLES)


def most_frequent(answers: Iterable[str], count: int) -> list[str]:
    """The answers that are given most often, in this order; of equals, the first in the alphabet."""
    counted = Counter(answer for answer in answers if answer)
    return sorted(counted, key=lambda answer: (-counted[answer], answer))[:count]


def of_most(numbers: Sequence[int]) -> int:
    """The number that most answers have, the lowest of equals; -1 where none has one."""
    known = [number for number in numbers if number >= 0]
    return int(np.bincount(known).argmax()) if known else -1
