"""The headline figures of each kind of task: their names, in the order in which they are printed; the first decides."""

from __future__ import annotations

from math import inf

HEADLINES = {
    "classification": ("oa", "aa", "kappa", "macro_f1", "weighted_f1"),
    "multilabel": ("map", "macro_f1", "micro_f1", "subset_accuracy"),
    "regression": ("rmse", "mae", "r2"),
    "grounding": ("acc_50", "mean_iou", "acc_25", "acc_75"),
    "retrieval": (
        "mean_recall",
        "forward_r1",
        "forward_r5",
        "forward_r10",
        "forward_median_rank",
        "backward_r1",
        "backward_r5",
        "backward_r10",
        "backward_median_rank",
        "mean_map",
        "forward_map",
        "backward_map",
    ),
}
LABELS = {
    "oa": "OA",
    "aa": "AA",
    "kappa": "kappa",
    "macro_f1": "macro F1",
    "weighted_f1": "weighted F1",
    "soft_accuracy": "soft accuracy",
    "map": "mAP",
    "micro_f1": "micro F1",
    "subset_accuracy": "subset accuracy",
    "rmse": "RMSE",
    "mae": "MAE",
    "r2": "R²",
    "acc_50": "Acc@0.5",
    "mean_iou": "mean IoU",
    "acc_25": "Acc@0.25",
    "acc_75": "Acc@0.75",
    "mean_recall": "mean recall",
    "forward_r1": "R@1 →",
    "forward_r5": "R@5 →",
    "forward_r10": "R@10 →",
    "forward_median_rank": "median rank →",
    "backward_r1": "R@1 ←",
    "backward_r5": "R@5 ←",
    "backward_r10": "R@10 ←",
    "backward_median_rank": "median rank ←",
    "mean_map": "mean mAP",
    "forward_map": "mAP →",
    "backward_map": "mAP ←",
}
"""How they are printed; see `label`."""
ERRORS = frozenset({"rmse", "mae", "forward_median_rank", "backward_median_rank"})
"""Those of which less is better; they have a unit: of what is predicted, or ranks."""
IN_TABLE = {
    "classification": ("oa", "aa", "kappa"),
    "multilabel": ("map", "macro_f1", "micro_f1"),
    "regression": ("rmse", "mae", "r2"),
    "grounding": ("acc_50", "mean_iou", "acc_75"),
    "retrieval": ("forward_r1", "forward_r10", "forward_map", "backward_r1", "backward_r10", "backward_map"),
}
"""Those that stand in the table of modalities, where they are defined."""


def bounds(figure: str) -> tuple[float, float]:
    """The least and the most that a figure can be."""
    if figure in ERRORS:
        return 0.0, inf
    return {"kappa": -1.0, "r2": -inf}.get(figure, 0.0), 1.0


def label(figure: str) -> str:
    """How a figure is printed: a metric of a plugin by its own name."""
    return LABELS.get(figure, figure)


def primary(kind: str) -> str:
    """The figure by which models are compared."""
    return HEADLINES[kind][0]
