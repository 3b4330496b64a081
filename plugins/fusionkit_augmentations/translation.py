"""Translation there and back by two local models of Hugging Face transformers."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors import SafetensorError

from fusionkit.errors import RequestError

try:
    from transformers import AutoModelForSeq2SeqLM, AutoTokenizer
except ImportError as error:
    raise RequestError(f"translation needs transformers ({error}): pip install fusionkit-geo[text]") from error


class Translator:
    """A model that translates from one language to another.

    Args:
        folder: of the model and its tokenizer. No code that comes with them is run, and nothing is unpickled.

    Raises:
        RequestError: they are not there, are damaged, or are no such model.
    """

    def __init__(self, folder: Path):
        if not (folder / "config.json").is_file():
            raise RequestError(f"{folder}: no model is in this folder; it would have a config.json")
        try:
            self.tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
            self.model = AutoModelForSeq2SeqLM.from_pretrained(folder, local_files_only=True, use_safetensors=True)
        except (OSError, ValueError, KeyError, ImportError, SafetensorError) as error:
            raise RequestError(f"{folder}: no translation model can be loaded: {str(error).splitlines()[0]}") from error
        self.model.eval()
        self.length = getattr(self.model.config, "max_position_embeddings", None)

    def __call__(self, text: str, *, beams: int, count: int = 1) -> list[str]:
        """The best translations that a beam search finds.

        Args:
            text: what is translated.
            beams: the width of the search.
            count: how many, at most `beams`.
        """
        tokens = self.tokenizer(text, return_tensors="pt", truncation=self.length is not None, max_length=self.length)
        longest = 2 * tokens["input_ids"].shape[1] + 10
        if self.length is not None:
            longest = min(longest, self.length - 1)
        with torch.inference_mode():
            found = self.model.generate(
                input_ids=tokens["input_ids"],
                attention_mask=tokens["attention_mask"],
                do_sample=False,
                num_beams=beams,
                num_return_sequences=count,
                max_new_tokens=longest,
            )
        return [line.strip() for line in self.tokenizer.batch_decode(found, skip_special_tokens=True)]


class BackTranslator:
    """Paraphrases a text by translating it into another language and back.

    Args:
        there, back: folders of the two models.
        beams: the width of both searches; so many paraphrases are made of the best translation.

    Raises:
        RequestError: as for `Translator`.
    """

    def __init__(self, there: Path, back: Path, beams: int):
        self.there, self.back, self.beams = Translator(there), Translator(back), beams

    def __call__(self, text: str) -> list[str]:
        abroad = self.there(text, beams=self.beams)[0]
        return self.back(abroad, beams=self.beams, count=self.beams) if abroad else []
