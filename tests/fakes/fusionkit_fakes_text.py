"""Tiny random language models, as the hub would hold them."""

from __future__ import annotations

from pathlib import Path

import torch
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from fusionkit.flow import InputSpec

WORDS = ["<unk>", "<s>", "</s>", *("plane", "stands", "on", "the", "runway", "ship", "lies", "in", "harbour")]
SPEC = InputSpec((9,), ragged=True, text=True, vocabulary=len(WORDS))
LLAMA = transformers.LlamaConfig(
    vocab_size=len(WORDS),
    hidden_size=16,
    num_hidden_layers=2,
    num_attention_heads=2,
    intermediate_size=24,
    max_position_embeddings=32,
    bos_token_id=1,
    eos_token_id=2,
)
GPT2 = transformers.GPT2Config(
    vocab_size=len(WORDS), n_embd=16, n_layer=2, n_head=2, n_positions=32, bos_token_id=2, eos_token_id=2
)


def write_language_model(folder: Path, config: transformers.PreTrainedConfig) -> transformers.PreTrainedModel:
    """A random model of this configuration and a tokenizer of words, as `save_pretrained` leaves them.

    That of LLaMA begins every text with `<s>`, and that of any other puts nothing around it.
    """
    torch.manual_seed(0)
    model = transformers.AutoModelForCausalLM.from_config(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))  # what begins as 0 or 1 would hide mistakes
    model.save_pretrained(folder)
    words = Tokenizer(models.WordLevel({word: number for number, word in enumerate(WORDS)}, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    if config.model_type == "llama":
        words.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=words, unk_token="<unk>", bos_token="<s>", eos_token="</s>"
    ).save_pretrained(folder)
    return model.eval()
