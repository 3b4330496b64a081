"""The process of one cell: `python -m fusionkit.grid_child RUN_FOLDER`, started by `fusionkit.grid_work`.

It ends when its standard input does, so that it never outlives the process that started it, however that one ends.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from pathlib import Path

from filelock import FileLock


def main(folder: Path) -> int:
    """Run a cell, or go on with it, and return the exit code.

    Args:
        folder: its run folder, with `resolved.yaml` in it.
    """
    threading.Thread(target=_end_with_parent, daemon=True).start()
    # A process that a killed grid has left may need a moment to end; on another machine it may be at work.
    with FileLock(folder.parent / f".{folder.name}.lock"):
        if (folder / "result.json").is_file():
            return 0
        from fusionkit import experiment
        from fusionkit.errors import FusionkitError
        from fusionkit.grid_code import code_hash
        from fusionkit.grid_folder import sign

        sign(folder, code_hash())
        try:
            experiment.run(folder / "resolved.yaml", resume=folder)
        except FusionkitError as error:
            print(str(error).replace("\n", "; "), file=sys.stderr)
            return error.exit_code
    return 0


def _end_with_parent() -> None:
    """Kill this process and its loaders when standard input is closed, as it is when the parent dies."""
    with contextlib.suppress(OSError):
        while os.read(0, 1):  # not sys.stdin, whose lock loaders would inherit
            pass
    if hasattr(os, "killpg") and os.getpgrp() == os.getpid():
        os.killpg(0, signal.SIGKILL)
    os._exit(1)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
