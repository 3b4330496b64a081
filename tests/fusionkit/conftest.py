"""A stranger's plugin package, and the command line called in this process."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path

import pytest

from fusionkit import registry
from fusionkit.cli import app


@dataclass(frozen=True)
class Answer:
    """What a command left: exit code, standard output, standard error."""

    code: int
    out: str
    err: str


@pytest.fixture
def fusionkit(capsys: pytest.CaptureFixture[str]) -> Callable[..., Answer]:
    """Call the command line: `fusionkit("check", "mosi")`."""

    def call(*words: object) -> Answer:
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            app([str(word) for word in words], prog_name="fusionkit")
        out, err = capsys.readouterr()
        return Answer(int(ended.value.code or 0), out, err)

    return call


@dataclass(frozen=True)
class Packages:
    """A folder on the path where tests put installed packages."""

    folder: Path

    def add(self, name: str, version: str = "1.2", **modules: str) -> None:
        """Install a distribution whose modules are these texts; the one called `plugin` is its entry point."""
        package = self.folder / name
        package.mkdir()
        (package / "__init__.py").touch()
        for module, text in modules.items():
            (package / f"{module}.py").write_text(text, encoding="utf-8")
        info = self.folder / f"{name}-{version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        (info / "entry_points.txt").write_text(f"[fusionkit]\n{name} = {name}.plugin\n")


@pytest.fixture
def packages(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[Packages]:
    """Installed packages that come and go with the test."""
    folder = tmp_path_factory.mktemp("site-packages")
    monkeypatch.syspath_prepend(folder)
    registry._load.cache_clear()
    yield Packages(folder)
    registry._load.cache_clear()
    for module in [name for name, held in sys.modules.items() if str(folder) in str(getattr(held, "__file__", ""))]:
        del sys.modules[module]


ACME_PLUGIN = """
from fusionkit import Component, hookimpl

@hookimpl
def fusionkit_components():
    yield Component("dataset", "tiles", "acme.parts:Tiles", "tiles of text")
    yield Component("dataset", "scenes", "acme.parts:Scenes", "scenes")
    yield Component("encoder", "net", "acme.parts:Net", "a net")
    yield Component("encoder", "plain", "acme.parts:Plain", "no options")
    yield Component("fusion", "join", "acme.parts:Join", "joins")
    yield Component("fusion", "add", "acme.parts:Add", "adds")
    yield Component("loss", "ce", "acme.parts:CE", "cross-entropy")
    yield Component("loss", "focal", "acme.parts:Focal", "focal")
    yield Component("augmentation", "flip", "acme.parts:Flip", "flips")
    yield Component("metric", "gain", "acme.parts:Gain", "gains")
"""

ACME_PARTS = '''
from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict, PositiveInt

from fusionkit import Augmentation, DataPath, Dataset, Encoder, Fusion, Loss, Metric, Probability

if TYPE_CHECKING:
    from nowhere import InputSpec


class Column(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    file: str
    delimiter: str = ","
    column: int = 0


class Parts(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    train: str | Column
    test: str | Column


class Tiles(Dataset):
    """Tiles of text.

    Args:
        root: the folder in which they lie.
        files: per modality,
            where its values stand.
        labels: where the labels stand.
        size: height and width.
    """

    def __init__(
        self,
        *,
        root: DataPath,
        files: dict[str, str | list[str]] = {},
        labels: str | Column | Parts | None = None,
        size: tuple[int, int] = (3, 4),
        names: dict[int, str] | None = None,
    ):
        self.root, self.files, self.labels, self.size, self.names = root, files, labels, size, names

    def inputs(self): ...
    def index(self, progress=None): ...
    def read(self, i): ...


class Scenes(Dataset):
    """Scenes. It has no options."""

    def inputs(self): ...
    def index(self, progress=None): ...
    def read(self, i): ...


class Net(Encoder):
    """A net.

    Args:
        spec: the shape of the modality.
        width: channels.
        dropout: share of channels dropped.
        variant: which one.
    """

    def __init__(
        self,
        spec: InputSpec,
        *,
        width: PositiveInt = 32,
        dropout: Probability = 0.1,
        variant: Literal["2d", "1d"] = "2d",
        pretrained: bool = False,
        scales: list[float] = [1.0],
    ):
        super().__init__(spec)

    def embed(self, value, valid): ...


class Plain(Encoder):
    def embed(self, value, valid): ...


class Join(Fusion):
    """Joins.

    Args:
        inputs: the features.
        dim: width of the result.
    """

    def __init__(self, inputs, *, dim: PositiveInt = 256, dropout: Probability = 0.1):
        super().__init__(inputs)

    def forward(self, features): ...


class Add(Fusion):
    def __init__(self, inputs, *, dim: PositiveInt):
        super().__init__(inputs)

    def forward(self, features): ...


class CE(Loss):
    def __init__(self, task, *, label_smoothing: Probability = 0.0):
        super().__init__(task)

    def forward(self, output, batch): ...


class Focal(Loss):
    def __init__(self, task, *, gamma: float = 2.0):
        super().__init__(task)

    def forward(self, output, batch): ...


class Flip(Augmentation):
    def __init__(self, inputs, *, probability: Probability = 0.5):
        super().__init__(inputs)

    def __call__(self, sample, random): ...


class Gain(Metric):
    def __init__(self, task, *, power: PositiveInt = 1):
        super().__init__(task)

    def compute(self, target, answers): ...
'''


@pytest.fixture
def acme(packages: Packages) -> registry.Registry:
    """A registry of one installed package with a component of each kind: small ones, whose options are known."""
    packages.add("acme", plugin=ACME_PLUGIN, parts=ACME_PARTS)
    return registry.build_registry(point for point in entry_points(group="fusionkit") if point.name == "acme")
