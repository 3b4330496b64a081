"""The built-in losses."""

from __future__ import annotations

from collections.abc import Iterator

from fusionkit import Component, hookimpl

PLUGIN_API = 1
HERE = "fusionkit_losses"


@hookimpl
def fusionkit_components() -> Iterator[Component]:
    yield Component("loss", "cross_entropy", f"{HERE}.cross_entropy:CrossEntropy", "class weights, label smoothing")
    yield Component("loss", "focal", f"{HERE}.focal:Focal", "what is predicted well counts little")
    yield Component(
        "loss", "binary_cross_entropy", f"{HERE}.binary_cross_entropy:BinaryCrossEntropy", "of each label, weighed"
    )
    yield Component("loss", "mse", f"{HERE}.mse:MSE", "mean squared error, of a regression")
    yield Component("loss", "l1", f"{HERE}.l1:L1", "mean absolute error, of a regression")
    yield Component("loss", "huber", f"{HERE}.huber:Huber", "squared error, linear from delta on, of a regression")
    yield Component("loss", "iou", f"{HERE}.iou:IoU", "IoU, GIoU, DIoU or CIoU of boxes")
    yield Component("loss", "deep_supervision", f"{HERE}.deep_supervision:DeepSupervision", "loss of branches, stages")
    yield Component("loss", "distillation", f"{HERE}.distillation:Distillation", "main to branches, back, or a teacher")
    yield Component("loss", "info_nce", f"{HERE}.info_nce:InfoNCE", "contrast of modalities (CLIP), or of classes")
    yield Component("loss", "triplet", f"{HERE}.triplet:Triplet", "a class together, others farther by a margin")
    yield Component(
        "loss", "cosine_consistency", f"{HERE}.cosine_consistency:CosineConsistency", "modalities of a sample alike"
    )
    yield Component(
        "loss", "cross_modal_triplet", f"{HERE}.cross_modal_triplet:CrossModalTriplet", "triplets across modalities"
    )
    yield Component("loss", "cen_l1", f"{HERE}.cen_l1:CENL1", "L1 norm of the batch-norm scales of channel_exchange")
    yield Component("loss", "token_l1", f"{HERE}.token_l1:TokenL1", "L1 norm of the scores of token_fusion")
    yield Component("loss", "moe_balance", f"{HERE}.moe_balance:MoEBalance", "even use of a mixture's experts")
    yield Component("loss", "captioning", f"{HERE}.captioning:Captioning", "next token of a text, of the fusion llava")
