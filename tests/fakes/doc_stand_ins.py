"""What a test of the documentation does otherwise than a reader would, so that it is quick and needs no network.

- Every training has one epoch (`one_epoch`), the data of `fusionkit data make` are few (`cut`), the cells of a grid run
  in this process (`cells_here`), and figures are blank (the fixture `undrawn`).
- `pip install FOLDER` puts the package on the path with the metadata that installing it would make (`Site`).
- What a page says is there, real data or a finished run, is made up before the page is followed (`PREPARED`).
"""

from __future__ import annotations

import runpy
import shutil
import sys
import tomllib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from doc_pages import ROOT, blocks
from made_runs import made_run, probabilities

import fusionkit
from fusionkit import experiment, grid_backends, grids, recipe
from fusionkit.errors import FusionkitError
from fusionkit.grid_code import code_hash
from fusionkit.grid_folder import sign
from fusionkit.grid_work import Job, Outcome
from fusionkit.progress import Progress


def one_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cut every training short, after its recipe has been found valid as it is written."""
    validate = recipe.validate

    def shortened(*given: Any) -> recipe.Recipe:
        valid = validate(*given)
        valid.train.epochs = 1
        return valid

    for module in (recipe, grids):
        monkeypatch.setattr(module, "validate", shortened)


def cells_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Run the cells of a grid one after the other in this process, which has imported everything already."""

    def outcomes(local: grid_backends.Local, jobs: Sequence[Job]) -> Iterator[Outcome]:
        for job in jobs:
            sign(job.folder, code_hash())
            try:
                experiment.run(job.folder / "resolved.yaml", resume=job.folder)
                yield Outcome(job.fingerprint, "", attempts=1)
            except FusionkitError as error:
                yield Outcome(job.fingerprint, str(error), attempts=1)

    monkeypatch.setattr(grid_backends.Local, "outcomes", outcomes)


def cut(words: list[str]) -> list[str]:
    """A command of fusionkit, with less to do."""
    return [*words, "--places", "30"] if words[:2] == ["data", "make"] else words


@dataclass
class Site:
    """A folder on the path, in which packages are installed.

    Args:
        folder: the folder.
        added: what has been put on the path for them.
    """

    folder: Path
    added: dict[str, str] = field(default_factory=dict)

    def install(self, package: Path) -> None:
        """Do what `pip install` would do with the package of this folder."""
        project = tomllib.loads((package / "pyproject.toml").read_text(encoding="utf-8"))["project"]
        name = project["name"]
        self.uninstall(name)
        info = self._info(name, project["version"])
        info.mkdir()
        needs = "".join(f"Requires-Dist: {line}\n" for line in project.get("dependencies", ()))
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {project['version']}\n{needs}")
        points = "".join(
            f"[{group}]\n" + "".join(f"{key} = {target}\n" for key, target in named.items())
            for group, named in project.get("entry-points", {}).items()
        )
        (info / "entry_points.txt").write_text(points)
        self.added[name] = str(package / "src" if (package / "src").is_dir() else package)
        sys.path.insert(0, self.added[name])

    def uninstall(self, name: str) -> None:
        if name in self.added:
            sys.path.remove(self.added.pop(name))
            for info in self.folder.glob(f"{name.replace('-', '_')}-*.dist-info"):
                shutil.rmtree(info)

    def close(self) -> None:
        for name in list(self.added):
            self.uninstall(name)

    def _info(self, name: str, version: str) -> Path:
        return self.folder / f"{name.replace('-', '_')}-{version}.dist-info"


def places(folder: Path) -> None:
    """Few made-up places, in the format of URFC."""
    from fusionkit_datasets.urfc_make import make_urfc

    make_urfc(folder, places=30, seed=0)


def readme(folder: Path) -> None:
    """The places that are prepared, and those of which a run is asked."""
    places(folder / "data" / "urfc")
    places(folder / "new" / "folder")


def ablations(folder: Path) -> None:
    """Finished runs of the recipe `tiles`, with two fusions and two seeds each."""
    random = np.random.default_rng(0)
    target = random.integers(0, 3, 120)
    for fusion in ("concat", "gmu"):
        for seed in (0, 1):
            right = random.uniform(size=120) < 0.7
            given = {"seed": seed, "recipe": {"fusion": {"name": fusion, "dim": 64}}}
            made_run(folder / "runs" / f"tiles-{fusion}-{seed}", target, probabilities(target, right, seed), **given)


def diagnosis(folder: Path) -> None:
    """A run of samples that can be shown."""
    files_of("docs/howto/own_data.md")
    runpy.run_path("fields.py")
    fusionkit.run("fields.yaml", progress=Progress(quiet=True))


def maps(folder: Path) -> None:
    """A run on rasters, a scene, and polygons in it."""
    import pyogrio
    import shapely

    files_of("docs/howto/geotiff.md")
    runpy.run_path("scene.py")
    fusionkit.run("land.yaml", progress=Progress(quiet=True))
    crowns = shapely.to_wkb([shapely.box(x, 3_284_700, x + 60, 3_284_760) for x in (400_100, 400_400)])
    name = np.array(["first", "second"])
    pyogrio.raw.write("crowns.shp", crowns, [name], ["name"], geometry_type="Polygon", crs="EPSG:32617")


def files_of(page: str) -> None:
    """Write the files of another page into the current folder."""
    for block in blocks(page, (ROOT / page).read_text(encoding="utf-8")):
        if name := block.marks.get("file"):
            Path(name).write_text(block.text, encoding="utf-8")


PREPARED: dict[str, Callable[[Path], None]] = {
    "README.md": readme,
    "docs/ablations.md": ablations,
    "docs/diagnosis.md": diagnosis,
    "docs/maps.md": maps,
}
