"""Shared by all tests: shapes in signatures are checked while tests run, and the wheel is built once a process."""

import pytest
from fresh import Distributions, build
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


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Distributions:
    """The sdist and the wheel of the checkout."""
    return build(tmp_path_factory.mktemp("checkout"))
