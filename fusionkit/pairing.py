"""Says what is wrong where torch and torchvision were not built for each other."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from fusionkit.errors import RequestError


@contextmanager
def torchvision_needed() -> Iterator[None]:
    """Wrap the import of torchvision, or of what imports it.

    Raises:
        RequestError: torch and torchvision do not fit together.
    """
    try:
        yield
    except RuntimeError as error:
        if "torchvision" not in str(error):
            raise
        import torch

        raise RequestError(
            f"torch {torch.__version__} and the installed torchvision are from different builds ({error}); install "
            "them as a pair, from one index and in one command: pip install --force-reinstall torch torchvision"
        ) from error
