"""Shared by all tests: shapes in signatures are checked while tests run."""

from jaxtyping import install_import_hook

CHECKED = [
    "fusionkit.flow",
    "fusionkit.contract",
    "fusionkit.model",
    "fusionkit_augmentations",
    "fusionkit_encoders",
    "fusionkit_fusions",
    "fusionkit_losses",
]

install_import_hook(CHECKED, "beartype.beartype")
