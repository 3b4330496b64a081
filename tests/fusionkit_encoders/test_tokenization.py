"""Tokenizers that learn: what they make of texts, and that they always make the same."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from collections import Counter

import numpy as np
import pytest
from fusionkit_encoders.tokenization import BYTES, BytePair, Words

from fusionkit.errors import DataError, RequestError

TEXTS = [
    "A plane stands on the runway.",
    "Two planes near a terminal, a plane behind them",
    "两架飞机停在机场",
    "机场上有飞机",
    "Many green trees are near a river.",
] * 2
KINDS = [BytePair, Words]


def learned(kind, length=32, vocabulary=400, texts=TEXTS):
    tokenizer = kind(length, vocabulary)
    tokenizer.fit(texts)
    return tokenizer


@pytest.mark.parametrize("kind", KINDS)
def test_ids_are_few_enough_and_within_the_vocabulary(kind):
    tokenizer = learned(kind, length=5)
    for text in [*TEXTS, "", " \t\n", "zzz qqq", "éß👍", "\ud800", "\x00", "word " * 10_000]:
        ids = tokenizer(text)
        assert ids.dtype == np.int32
        assert 1 <= len(ids) <= 5
        assert 0 <= ids.min() <= ids.max() < tokenizer.vocabulary
        assert len(tokenizer.words(ids)) == len(ids)
    assert (tokenizer.spec.shape, tokenizer.spec.vocabulary) == ((5,), 400)
    assert tokenizer.spec.text
    assert tokenizer.spec.ragged


@pytest.mark.parametrize("kind", KINDS)
def test_a_state_brings_everything_back(kind):
    one, other = learned(kind), kind(32, 400)
    other.restore(one.state())
    sent = pickle.loads(pickle.dumps(one))  # loaders hand it to their processes
    for text in [*TEXTS, "a plane on a tree", "飞机 and more"]:
        assert one(text).tolist() == other(text).tolist() == sent(text).tolist()
        assert one.words(one(text)) == other.words(one(text))
    assert json.loads(one.state())
    assert other.state() == one.state()


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_texts_teach_the_same_in_another_process(kind):
    """The library counts in tables whose order differs from process to process."""
    texts = [" ".join(f"{word}{number}" for word in ("ab", "ba", "abc", "cab")) for number in range(40)] * 2
    program = (
        f"import sys, json; from fusionkit_encoders.tokenization import {kind.__name__} as Kind;"
        "made = Kind(32, 300); made.fit(json.load(sys.stdin)); sys.stdout.write(made.state())"
    )
    words = [sys.executable, "-c", program]
    state = subprocess.run(words, input=json.dumps(texts), capture_output=True, text=True, check=True).stdout
    assert state == learned(kind, vocabulary=300, texts=texts).state()
    assert state == learned(kind, vocabulary=300, texts=texts).state()


def test_words_are_those_of_a_count():
    """Against a count by hand: words seen twice, the most frequent first, ties in the order of the alphabet."""
    texts = ["b a c.", "A, d b a", "C e", "机场 机", "Ａ"]
    counted = Counter(["b", "a", "c", ".", "a", ",", "d", "b", "a", "c", "e", "机", "场", "机", "a"])
    expected = sorted((word for word, count in counted.items() if count > 1), key=lambda w: (-counted[w], w))
    tokenizer = learned(Words, texts=texts)
    assert tokenizer.words(np.arange(1 + len(expected), dtype=np.int32)) == ["[UNK]", *expected]
    few = learned(Words, vocabulary=3, texts=texts)
    assert few.words(few("a b c")) == ["a", "b", "[UNK]"]


def test_what_words_do_not_know_is_unknown():
    tokenizer = learned(Words)
    assert tokenizer("").tolist() == tokenizer("zzz").tolist() == [0]
    assert tokenizer("A PLANE zzz").tolist() == [*tokenizer("a plane"), 0]
    assert tokenizer.words(tokenizer("飞机 停在")) == ["飞", "机", "停", "在"]


def test_byte_pairs_spell_what_they_have_never_seen():
    tokenizer = learned(BytePair)
    for text in ["xylophone", "ünïcode", "跑道", "👍🏽"]:
        ids = tokenizer(text)
        assert "".join(word for word in tokenizer.words(ids) if word not in "·␣") == text
    assert tokenizer("").tolist() == [0]
    assert tokenizer("Ｐlane").tolist() == tokenizer("plane").tolist()  # NFKC, lower case


def test_byte_pairs_learn_the_most_frequent_pair_first():
    """`ab` stands there six times and `bc` four times: `ab` is the first piece that is learned, `abc` the second."""
    tokenizer = learned(BytePair, vocabulary=BYTES + 3, texts=["xabc", "xabc", "yabc", "yabc", "ab", "ab"])
    assert tokenizer.words(np.array([BYTES + 1, BYTES + 2], dtype=np.int32)) == ["ab", "abc"]


def test_a_text_that_ends_within_a_character_is_told_as_far_as_it_goes():
    tokenizer = learned(BytePair, texts=["a a"])
    ids = tokenizer("跑道")
    assert tokenizer.words(ids[:-1]) == ["␣", "·", "·", "跑", "·", "·"]


@pytest.mark.parametrize("state", ["", "{", "{}", "null", '{"model": {"type": "Pickle"}}'])
def test_a_damaged_state_is_told(state):
    with pytest.raises(DataError, match="damaged"):
        BytePair(8, 300).restore(state)


def test_a_state_of_other_options_is_told():
    state = learned(BytePair, texts=["ab ab"]).state()
    with pytest.raises(DataError, match=r"holds 25. tokens, and its options allow 257"):
        BytePair(8, BYTES + 1).restore(state)


def test_what_cannot_be_learned_is_told():
    with pytest.raises(RequestError, match="256 bytes, not 256"):
        BytePair(8, BYTES)
    with pytest.raises(RequestError, match="no room"):
        Words(8, 1)
    with pytest.raises(DataError, match="no word twice"):
        learned(Words, texts=["each word once"])
    with pytest.raises(RuntimeError, match="fit"):
        Words(8, 10)("a")
