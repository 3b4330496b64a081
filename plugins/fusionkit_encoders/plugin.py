"""The built-in encoders."""

from __future__ import annotations

from collections.abc import Iterator

from fusionkit import Component, hookimpl

PLUGIN_API = 1
HERE = "fusionkit_encoders"


@hookimpl
def fusionkit_components() -> Iterator[Component]:
    yield Component(
        "encoder", "timm", f"{HERE}.timm_backbone:Timm", "any image backbone of timm, any number of channels"
    )
    yield Component("encoder", "visit_cube", f"{HERE}.visit_cube:VisitCube", "visit counts: weekday x week x hour")
    yield Component("encoder", "patch_cnn", f"{HERE}.patch_cnn:PatchCNN", "small hyperspectral, LiDAR or SAR patches")
    yield Component("encoder", "spectral", f"{HERE}.spectral:Spectral", "spectra, pixel by pixel")
    yield Component("encoder", "mlp", f"{HERE}.mlp:MLP", "feature vectors")
    yield Component("encoder", "sequence", f"{HERE}.sequence:Sequence", "feature sequences: GRU, transformer or TCN")
    yield Component(
        "encoder", "text_transformer", f"{HERE}.text_transformer:TextTransformer", "text from scratch, with a tokenizer"
    )
    yield Component(
        "encoder",
        "huggingface",
        f"{HERE}.huggingface:HuggingFace",
        "pretrained text encoders: BERT, MiniLM, XLM-R, ...",
        extra="fusionkit-geo[text]",
    )
    yield Component(
        "encoder",
        "causal_lm",
        f"{HERE}.causal_lm:CausalLM",
        "causal language models: LLaMA, Qwen, GPT-2, ...",
        extra="fusionkit-geo[text]",
    )
    yield Component("encoder", "dual_vit", f"{HERE}.dual_vit:DualViTEncoder", "Dual-ViT S, B or L, from scratch")
