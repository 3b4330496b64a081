"""The built-in fusions."""

from __future__ import annotations

from collections.abc import Iterator

from fusionkit import Component, hookimpl

PLUGIN_API = 1
HERE = "fusionkit_fusions"


@hookimpl
def fusionkit_components() -> Iterator[Component]:
    yield Component("fusion", "concat", f"{HERE}.concat:Concat", "concatenate, then an MLP")
    yield Component("fusion", "sum", f"{HERE}.sum:Sum", "sum of projected features")
    yield Component("fusion", "mean", f"{HERE}.mean:Mean", "mean of projected features, over those present")
    yield Component("fusion", "max", f"{HERE}.max:Max", "maximum of projected features, over those present")
    yield Component("fusion", "product", f"{HERE}.product:Product", "product of projected features")
    yield Component("fusion", "difference", f"{HERE}.difference:Difference", "absolute difference of two modalities")
    yield Component("fusion", "gmu", f"{HERE}.gmu:GMU", "gated multimodal unit")
    yield Component("fusion", "adaptive", f"{HERE}.adaptive:Adaptive", "weighted mean, with weights from the features")
    yield Component("fusion", "lmf", f"{HERE}.lmf:LMF", "low-rank multimodal fusion")
    yield Component("fusion", "tensor", f"{HERE}.tensor:TensorFusion", "outer product of all, then an MLP")
    yield Component("fusion", "mfb", f"{HERE}.mfb:MFB", "factorised bilinear pooling of two modalities")
    yield Component("fusion", "mutan", f"{HERE}.mutan:MUTAN", "bilinear Tucker fusion of two modalities")
    yield Component("fusion", "film", f"{HERE}.film:FiLM", "one modality, scaled and shifted by the others")
    yield Component("fusion", "mixture_of_experts", f"{HERE}.mixture_of_experts:MixtureOfExperts", "gated experts")
    yield Component("fusion", "early_stack", f"{HERE}.early_stack:EarlyStack", "stack the inputs, one encoder for all")
    yield Component("fusion", "dual_vit", f"{HERE}.dual_vit:DualViT", "Dual-ViT: the map of one, tokens of the others")
    yield Component(
        "fusion", "channel_exchange", f"{HERE}.channel_exchange:ChannelExchange", "CEN: shared network, private norms"
    )
    yield Component(
        "fusion", "dual_encoder", f"{HERE}.dual_encoder:DualEncoder", "two embeddings side by side, for retrieval"
    )
    yield Component(
        "fusion",
        "semantic_matching",
        f"{HERE}.semantic_matching:SemanticMatching",
        "class posteriors of two modalities",
    )
    yield Component("fusion", "mmtm", f"{HERE}.mmtm:MMTM", "joint gates on channels, between the encoders' stages")
    yield Component("fusion", "multi_level", f"{HERE}.multi_level:MultiLevel", "CentralNet on low, middle and high")
    yield Component("fusion", "multi_scale", f"{HERE}.multi_scale:MultiScale", "feature pyramid or pyramid pooling")
    yield Component("fusion", "late", f"{HERE}.late:Late", "mean, product or confidence of the predictions")
    yield Component("fusion", "dual_fusion", f"{HERE}.dual_fusion:DualFusion", "two fusions and a vote of the branches")
    yield Component("fusion", "cross_attention", f"{HERE}.cross_attention:CrossAttention", "tokens read one another")
    yield Component(
        "fusion", "region_attention", f"{HERE}.region_attention:RegionAttention", "words look at regions of an image"
    )
    yield Component(
        "fusion", "joint_transformer", f"{HERE}.joint_transformer:JointTransformer", "one transformer for all"
    )
    yield Component("fusion", "perceiver", f"{HERE}.perceiver:Perceiver", "a few latents read all tokens")
    yield Component("fusion", "bottleneck", f"{HERE}.bottleneck:Bottleneck", "MBT: transformers with shared tokens")
    yield Component("fusion", "token_fusion", f"{HERE}.token_fusion:TokenFusion", "tokens of low score are exchanged")
    yield Component("fusion", "llava", f"{HERE}.llava:LLaVA", "tokens of images, read by a causal language model")
