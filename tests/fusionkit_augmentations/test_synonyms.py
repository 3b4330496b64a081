"""Synonyms: from files in WordNet's own format and from tables, in English and Chinese."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
from fusionkit_augmentations.phrases import Phrases
from fusionkit_augmentations.synonyms import Synonyms
from fusionkit_augmentations.text_tables import read_table
from fusionkit_augmentations.wordnet import read_wordnet

from fusionkit.errors import DataError, RequestError
from fusionkit.flow import InputSpec

TEXT = InputSpec((), text=True)
INPUTS = {"text": TEXT, "image": InputSpec((3, 8, 8))}

NOUNS = {
    "dog": (["dog", "domestic_dog", "Canis_familiaris"], ["frump", "dog"]),
    "car": (["car", "auto", "automobile"],),
    "auto": (["car", "auto", "automobile"],),
    "domestic_dog": (["dog", "domestic_dog", "Canis_familiaris"],),
    "runway": (["runway"],),
    "a": (["angstrom", "a"],),
}
"""Lemmas and their synsets, the most frequent sense first."""
VERBS = {"dog": (["chase", "dog", "tail"],)}
ADJECTIVES = {"large": (["large(a)", "big(p)"],)}


def write_wordnet(folder: Path, kind: str, lemmas: dict[str, tuple[list[str], ...]]) -> None:
    """The two files of a part of speech, as wndb(5WN) describes them."""
    letter = {"noun": "n", "verb": "v", "adj": "a"}[kind]
    licence = "  1 This software and database is being provided to you.  \n"
    data, offsets = licence, {}
    for senses in lemmas.values():
        for words in map(tuple, senses):
            if words not in offsets:
                offsets[words] = len(data)
                listed = " ".join(f"{word} 0" for word in words)
                data += f"{len(data):08d} 05 {letter} {len(words):02x} {listed} 001 @ 00000001 n 0000 | a gloss  \n"
    index = licence
    for lemma, senses in lemmas.items():
        places = " ".join(f"{offsets[tuple(words)]:08d}" for words in senses)
        index += f"{lemma} {letter} {len(senses)} 2 @ ~ {len(senses)} 1 {places}  \n"
    folder.mkdir(exist_ok=True)
    (folder / f"data.{kind}").write_text(data)
    (folder / f"index.{kind}").write_text(index)


@pytest.fixture
def wordnet(tmp_path: Path) -> Path:
    folder = tmp_path / "dict"
    for kind, lemmas in {"noun": NOUNS, "verb": VERBS, "adj": ADJECTIVES}.items():
        write_wordnet(folder, kind, lemmas)
    return folder


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "synonyms.tsv"
    path.write_text(
        "机场\t航空港\n飞机\t航空器\t客机\n飞机场\t空港\nparking lot\tcar park\nlot\tbatch\n", encoding="utf-8-sig"
    )
    return path


def test_wordnet(wordnet: Path):
    assert read_wordnet(wordnet) == {
        "dog": ("domestic dog", "Canis familiaris", "chase", "tail"),
        "car": ("auto", "automobile"),
        "auto": ("car", "automobile"),
        "domestic dog": ("dog", "Canis familiaris"),
        "large": ("big",),
    }


def test_more_than_fifteen_words_are_counted_in_hexadecimal(tmp_path: Path):
    words = ["dog", *(f"dog{i}" for i in range(17))]
    write_wordnet(tmp_path, "noun", {"dog": (words,)})
    assert read_wordnet(tmp_path)["dog"] == tuple(words[1:])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("飞机场旁的飞机", [(0, 3), (5, 7)]),  # the longest match, not 飞机 and then 场
        ("机场abc飞机", [(0, 2), (5, 7)]),
        ("A Parking Lot, a lot", [(2, 13), (17, 20)]),
        ("allotment pilots lot's x-lot", []),
        ("lots of lots", []),
        ("", []),
    ],
)
def test_phrases(text: str, expected: list):
    assert Phrases({"机场", "飞机", "飞机场", "parking lot", "lot"}).find(text) == expected


@pytest.mark.parametrize(
    ("text", "possible"),
    [
        ("A dog in a car .", {f"A {dog} in a {car} ." for dog in ("domestic dog", "Canis familiaris", "chase", "tail")
                              for car in ("auto", "automobile")}),
        ("Dog!", {"Domestic dog!", "Canis familiaris!", "Chase!", "Tail!"}),
        ("Hotdogs, carpets; dogs", {"Hotdogs, carpets; dogs"}),
        ("两条跑道", {"两条跑道"}),
    ],
)  # fmt: skip
def test_every_synonym_comes(text: str, possible: set, wordnet: Path, draws):
    augmentation = Synonyms(INPUTS, wordnet=wordnet, share=1.0)
    found = {augmentation({"text": np.array(text)}, draws(i))["text"].item() for i in range(100)}
    assert found == possible


def test_chinese(table: Path, draws):
    augmentation = Synonyms(INPUTS, table=table, share=1.0)
    sample = {"text": np.array("飞机场旁的飞机。"), "image": np.zeros((3, 8, 8))}
    after = [augmentation(sample, draws(i)) for i in range(30)]
    assert {one["text"].item() for one in after} == {"空港旁的航空器。", "空港旁的客机。"}
    assert all(one["image"] is sample["image"] for one in after)
    assert all(one["text"].shape == () for one in after)
    assert sample["text"].item() == "飞机场旁的飞机。"


def test_the_generator_alone_decides_and_the_share_is_kept(wordnet: Path, draws):
    augmentation = Synonyms(INPUTS, wordnet=wordnet, share=0.3)
    copy = pickle.loads(pickle.dumps(augmentation))
    sample = {"text": np.array(" ".join(["car"] * 50))}
    kept = 0
    for i in range(60):
        after = augmentation(sample, draws(i))["text"].item()
        assert copy(sample, draws(i))["text"].item() == after
        assert len(after.split()) == 50
        kept += after.split().count("car")
    assert kept / 3000 == pytest.approx(0.7, abs=0.042)  # 5 deviations of sqrt(.3 * .7 / 3000)
    assert augmentation({"text": None}, draws(0)) == {"text": None}
    assert augmentation({}, draws(0)) == {}


def test_which_modalities(table: Path, draws):
    inputs = {"title": TEXT, "body": TEXT}
    sample = {"title": np.array("飞机场"), "body": np.array("飞机场")}
    after = Synonyms(inputs, table=table, share=1.0, modalities=["body"])(sample, draws(0))
    assert (after["title"].item(), after["body"].item()) == ("飞机场", "空港")
    after = Synonyms(inputs, table=table, share=1.0)(sample, draws(0))
    assert (after["title"].item(), after["body"].item()) == ("空港", "空港")


def test_what_is_no_text_is_refused(table: Path, wordnet: Path):
    with pytest.raises(RequestError, match="synonyms changes texts, and image is 3 x 8 x 8"):
        Synonyms(INPUTS, table=table, modalities=["image"])
    with pytest.raises(RequestError, match="no modality 'texts'; did you mean 'text'"):
        Synonyms(INPUTS, table=table, modalities=["texts"])
    with pytest.raises(RequestError, match="finds none to change by default among image 3 x 8 x 8"):
        Synonyms({"image": INPUTS["image"]}, table=table)
    for options in ({}, {"table": table, "wordnet": wordnet}):
        with pytest.raises(RequestError, match="either `wordnet`, a folder, or `table`"):
            Synonyms(INPUTS, **options)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\n \n", "holds no line of text"),
        (b"dog\thound\ncat\n", "line 2 is not a text, a tab and other texts"),
        (b"dog\tDog\n", "line 1 is not"),
        (b"\thound\n", "line 1 is not"),
        ("狗\t犬".encode("gbk"), "no text in UTF-8"),
    ],
)
def test_bad_tables(content: bytes, message: str, tmp_path: Path):
    (tmp_path / "a.tsv").write_bytes(content)
    with pytest.raises(DataError, match=message):
        read_table(tmp_path / "a.tsv")
    with pytest.raises(DataError, match="no such file"):
        read_table(tmp_path / "b.tsv")


def test_lines_of_one_word_add_up(tmp_path: Path):
    (tmp_path / "a.tsv").write_text("Dog\thound\r\ndog\tcanine\thound\t\r\n")
    assert read_table(tmp_path / "a.tsv") == {"dog": ("hound", "canine")}


def test_bad_wordnets(wordnet: Path, tmp_path: Path):
    with pytest.raises(DataError, match=r"no index\.noun, index\.verb"):
        read_wordnet(tmp_path / "nowhere")
    data = (wordnet / "data.noun").read_text()
    (wordnet / "data.noun").write_text(data[:90])
    with pytest.raises(DataError, match=r"line 3 and data\.noun do not fit: no synset begins at byte"):
        read_wordnet(wordnet)
    (wordnet / "data.noun").write_text(data.replace("licence", "").replace("software", "soft"))
    with pytest.raises(DataError, match=r"line 2 and data\.noun do not fit"):
        read_wordnet(wordnet)
    (wordnet / "data.noun").unlink()
    with pytest.raises(DataError, match=r"data\.noun: there is an index\.noun, but no such file"):
        read_wordnet(wordnet)
    (wordnet / "index.noun").write_text("dog n 2 0 1 1 00000000\n")
    (wordnet / "data.noun").write_text(data)
    with pytest.raises(DataError, match="another number of synsets than it says"):
        read_wordnet(wordnet)
    write_wordnet(tmp_path, "noun", {"a": (["angstrom", "a"],)})
    with pytest.raises(DataError, match="no word of it has a synonym"):
        Synonyms(INPUTS, wordnet=tmp_path)
