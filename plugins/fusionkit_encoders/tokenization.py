"""Tokenizers that learn from the training texts, over Hugging Face tokenizers."""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np
from jaxtyping import Int32

from fusionkit.contract import Tokenizer
from fusionkit.errors import DataError, RequestError

# It would warn of threads whenever a loader forks; single texts have no use for them.
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

from tokenizers import Tokenizer as Pipeline
from tokenizers import decoders, models, normalizers, pre_tokenizers, trainers
from tokenizers.decoders import DecodeStream

UNKNOWN = "[UNK]"
BYTES = 256


class PipelineTokenizer(Tokenizer):
    """Tokens by a pipeline of Hugging Face tokenizers: normaliser, pre-tokenizer, model.

    Args:
        length: the most tokens of a text.
        vocabulary: the most tokens in all.
    """

    unknown: int = 0
    """The id of a text that has no other token."""

    def __init__(self, length: int, vocabulary: int):
        self.length, self.vocabulary = length, vocabulary
        self._learned: Pipeline | None = None

    @property
    def pipeline(self) -> Pipeline:
        """What was learned.

        Raises:
            RuntimeError: nothing was.
        """
        if self._learned is None:
            raise RuntimeError("a tokenizer needs `fit` or `restore` before it is used")
        return self._learned

    def __call__(self, text: str) -> Int32[np.ndarray, " t"]:
        ids = self.pipeline.encode(encodable(text)).ids[: self.length]
        return np.array(ids or [self.unknown], dtype=np.int32)

    def words(self, ids: Int32[np.ndarray, " t"]) -> list[str]:
        """What each id stands for; where several share a character, the last one shows it and the others are `·`."""
        stream = DecodeStream(skip_special_tokens=False)
        return [(stream.step(self.pipeline, int(number)) or "·").strip() or "␣" for number in ids]

    def state(self) -> str:
        return self.pipeline.to_str()

    def restore(self, state: str) -> None:
        try:
            learned = Pipeline.from_str(state)
        except Exception as error:  # the library raises nothing narrower
            raise DataError(f"the state of a tokenizer is damaged ({str(error).splitlines()[0]})") from error
        if learned.get_vocab_size() > self.vocabulary:
            raise DataError(
                f"the state of a tokenizer holds {learned.get_vocab_size()} tokens, and its options allow "
                f"{self.vocabulary}; was it learned with others?"
            )
        self._learned = learned


class BytePair(PipelineTokenizer):
    """Byte-level byte-pair encoding (Sennrich et al., ACL 2016) of lower-case NFKC text; no text is unknown to it.

    Args:
        length, vocabulary: as above; all 256 bytes are tokens.

    Raises:
        RequestError: the vocabulary has no room for the bytes.
    """

    def __init__(self, length: int, vocabulary: int):
        super().__init__(length, vocabulary)
        if vocabulary <= BYTES:
            raise RequestError(f"bpe needs a vocabulary of more than the {BYTES} bytes, not {vocabulary}")

    def fit(self, texts: Sequence[str]) -> None:
        learned = Pipeline(models.BPE())
        learned.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
        learned.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
        learned.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(
            vocab_size=self.vocabulary,
            min_frequency=2,
            special_tokens=[UNKNOWN],  # stands for empty text alone
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        )
        learned.train_from_iterator(map(encodable, texts), trainer)
        self._learned = learned


class Words(PipelineTokenizer):
    """Whole words and punctuation of lower-case NFKC text, and every Chinese character by itself.

    Words that the training texts have once are unknown, so that a vector is learned for the unknown. Where there are
    more of the others than the vocabulary has room for, the most frequent ones are kept.

    Args:
        length, vocabulary: as above.

    Raises:
        RequestError: the vocabulary has no room for a word.
    """

    def __init__(self, length: int, vocabulary: int):
        super().__init__(length, vocabulary)
        if vocabulary < 2:
            raise RequestError(f"a vocabulary of {vocabulary} has no room for a word beside the unknown one")

    def fit(self, texts: Sequence[str]) -> None:
        learned = Pipeline(models.WordLevel(unk_token=UNKNOWN))
        chinese_apart = normalizers.BertNormalizer(handle_chinese_chars=True, strip_accents=False, lowercase=True)
        learned.normalizer = normalizers.Sequence([normalizers.NFKC(), chinese_apart])
        learned.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        trainer = trainers.WordLevelTrainer(
            vocab_size=self.vocabulary, min_frequency=2, special_tokens=[UNKNOWN], show_progress=False
        )
        learned.train_from_iterator(map(encodable, texts), trainer)
        if learned.get_vocab_size() == 1:
            raise DataError(f"the {len(texts)} training texts have no word twice, so that there is nothing to learn")
        self._learned = learned


def encodable(text: str) -> str:
    """The text with a question mark for what is no character: half a surrogate pair, which JSON may hold."""
    return text.encode("utf-8", "replace").decode("utf-8")
