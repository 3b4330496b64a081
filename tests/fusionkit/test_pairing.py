from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from fusionkit.errors import RequestError
from fusionkit.pairing import torchvision_needed

MISSING = "operator torchvision::nms does not exist"


def test_a_torchvision_of_another_build_is_named_with_the_remedy() -> None:
    with pytest.raises(RequestError, match=r"torchvision are from different builds.*pip install"), torchvision_needed():
        raise RuntimeError(MISSING)


def test_other_errors_are_left_alone() -> None:
    with pytest.raises(RuntimeError, match="something else"), torchvision_needed():
        raise RuntimeError("something else")


def test_it_is_told_in_one_line_where_the_optimiser_is_proven(tmp_path: Path) -> None:
    fake = tmp_path / "torchvision"
    fake.mkdir()
    (fake / "__init__.py").write_text(f"raise RuntimeError({MISSING!r})")
    code = "from fusionkit.optimization import prove_optimizer as p; from fusionkit.sections import Train; p(Train())"
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env={**os.environ, "PYTHONPATH": path}
    )
    assert "RequestError: torch" in done.stderr.splitlines()[-1]
