"""Shared by all tests: shapes in signatures are checked while tests run, and the wheel is built once."""

import os
from collections.abc import Iterator

import pytest
from filelock import FileLock
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
    "fusionkit_metrics",
]

install_import_hook(CHECKED, "beartype.beartype")

collect_ignore = ["plugin_packages"]
"""They have tests of their own, which run where the packages are installed."""


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Distributions:
    """The sdist and the wheel of the checkout, built by the first of pytest's processes that asks for them."""
    home = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        home = home.parent
    with FileLock(home / "checkout.lock"):
        return build(home / "checkout")


@pytest.fixture(scope="module")
def undrawn() -> Iterator[None]:
    """Figures of this module's runs are composed and not drawn, which takes longer than training on toy data."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("fusionkit.figures.save", lambda figure, file, kind, dpi=0: None)
        yield
