"""The headline figures of each kind of task: their names, in the order in which they are printed; the first decides."""

from __future__ import annotations

HEADLINES = {
    "classification": ("oa", "aa", "kappa", "macro_f1", "weighted_f1"),
    "multilabel": ("map", "macro_f1", "micro_f1", "subset_accuracy"),
    "regression": ("rmse", "mae", "r2"),
}
LABELS = {
    "oa": "OA",
    "aa": "AA",
    "kappa": "kappa",
    "macro_f1": "macro F1",
    "weighted_f1": "weighted F1",
    "map": "mAP",
    "micro_f1": "micro F1",
    "subset_accuracy": "subset accuracy",
    "rmse": "RMSE",
    "mae": "MAE",
    "r2": "R²",
}
"""How they are printed."""
ERRORS = frozenset({"rmse", "mae"})
"""Those of which less is better; they have the unit of what is predicted."""
IN_TABLE = {
    "classification": ("oa", "aa", "kappa"),
    "multilabel": ("map", "macro_f1", "micro_f1"),
    "regression": ("rmse", "mae", "r2"),
}
"""Those that stand in the table of modalities."""


def primary(kind: str) -> str:
    """The figure by which models are compared."""
    return HEADLINES[kind][0]
