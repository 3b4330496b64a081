"""The built-in fusions."""

from __future__ import annotations

from collections.abc import Iterator

from fusionkit import Component, hookimpl

HERE = "fusionkit_fusions"


@hookimpl
def fusionkit_components() -> Iterator[Component]:
    yield Component("fusion", "concat", f"{HERE}.concat:Concat", "concatenate, then an MLP")
    yield Component("fusion", "sum", f"{HERE}.sum:Sum", "sum of projected features")
    yield Component("fusion", "mean", f"{HERE}.mean:Mean", "mean of projected features, over those present")
    yield Component("fusion", "max", f"{HERE}.max:Max", "maximum of projected features, over those present")
    yield Component("fusion", "product", f"{HERE}.product:Product", "product of projected features")
    yield Component("fusion", "difference", f"{HERE}.difference:Difference", "absolute difference of two modalities")
    yield Component("fusion", "early_stack", f"{HERE}.early_stack:EarlyStack", "stack the inputs, one encoder for all")
    yield Component("fusion", "dual_vit", f"{HERE}.dual_vit:DualViT", "Dual-ViT: the map of one, tokens of the others")
    yield Component("fusion", "mmtm", f"{HERE}.mmtm:MMTM", "joint gates on channels, between the encoders' stages")
    yield Component("fusion", "multi_level", f"{HERE}.multi_level:MultiLevel", "CentralNet on low, middle and high")
    yield Component("fusion", "multi_scale", f"{HERE}.multi_scale:MultiScale", "feature pyramid or pyramid pooling")
    yield Component("fusion", "late", f"{HERE}.late:Late", "mean, product or confidence of the predictions")
    yield Component("fusion", "dual_fusion", f"{HERE}.dual_fusion:DualFusion", "two fusions and a vote of the branches")
