"""Made-up URFC: the stated ceilings hold, what is drawn shows what it should, and the files are the real format."""

from __future__ import annotations

import itertools
import json
import random
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from fusionkit_datasets.urfc import CLASS_NAMES, URFC
from fusionkit_datasets.urfc_make import (
    CLASS_COUNTS,
    LABEL_NOISE,
    RHYTHMS_OF,
    SCENES_OF,
    MadePlace,
    ceiling,
    draw_place,
    joint,
    make_urfc,
)
from fusionkit_datasets.urfc_rhythms import RHYTHMS
from fusionkit_datasets.urfc_scenes import SCENES
from fusionkit_datasets.urfc_visits import count_visits
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from fusionkit.errors import DataError, RequestError


def test_ceilings_are_near_those_asked_for():
    best = ceiling()
    assert best.image == pytest.approx(0.45, abs=0.01)
    assert best.visits == pytest.approx(0.65, abs=0.01)
    assert best.both == pytest.approx(0.80, abs=0.01)
    assert best.majority < best.image - 0.1
    for figure in (best.image, best.visits, best.both):
        assert f"{figure:.3f}" in str(best)


def test_ceilings_against_draws_from_the_tables():
    """Play the model with the standard library, and always guess what was most frequent."""
    assert {len(row) for row in SCENES_OF} == {len(SCENES)}
    assert {len(row) for row in RHYTHMS_OF} == {len(RHYTHMS)}
    assert {sum(row) for row in SCENES_OF + RHYTHMS_OF} == {20}
    draw = random.Random(0)
    n = 200_000
    seen: dict[str, Counter] = {"image": Counter(), "visits": Counter(), "both": Counter()}
    for y in draw.choices(range(9), CLASS_COUNTS, k=n):
        scene = draw.choices(range(len(SCENES)), SCENES_OF[y])[0]
        rhythm = draw.choices(range(len(RHYTHMS)), RHYTHMS_OF[y])[0]
        label = draw.choice([other for other in range(9) if other != y]) if draw.random() < LABEL_NOISE else y
        seen["image"][scene, label] += 1
        seen["visits"][rhythm, label] += 1
        seen["both"][(scene, rhythm), label] += 1
    for modality, counts in seen.items():
        most: dict = {}
        for (shown, _), count in counts.items():
            most[shown] = max(most.get(shown, 0), count)
        assert sum(most.values()) / n == pytest.approx(getattr(ceiling(), modality), abs=0.004)


@pytest.fixture(scope="module")
def places() -> list[MadePlace]:
    return [draw_place(1, "train", number) for number in range(900)]


def tile_features(tile: np.ndarray) -> np.ndarray:
    """The spectrum over wavelengths, whatever the direction and the brightness, and the spread of the hues."""
    grey = tile.mean(2)
    wave = np.abs(np.fft.fft2((grey - grey.mean()) / grey.std() * np.outer(np.hanning(100), np.hanning(100)))) ** 2
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(100, 0.01), np.fft.fftfreq(100, 0.01)))
    edges = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 14, 16, 18, 20, 24, 30, 50]
    rings = [wave[(frequency >= low) & (frequency < high)] for low, high in itertools.pairwise(edges)]
    hue = tile / tile.sum(2, keepdims=True)
    hues = np.percentile(hue - hue.mean((0, 1)), [2, 10, 25, 50, 75, 90, 98], axis=(0, 1))
    return np.concatenate(
        [[np.log(ring.mean()) for ring in rings], [np.log(ring.max()) for ring in rings], hues.ravel()]
    )


def visit_features(data: bytes) -> np.ndarray:
    """Shares of the hours, of workdays and weekends, of the weekdays, and of the holidays' weeks."""
    counts, bad = count_visits(data)
    assert bad == []
    share = counts / counts.sum()
    return np.concatenate(
        [share[:5].sum((0, 1)), share[5:].sum((0, 1)), share.sum((1, 2)), [share[:, [0, 13, 18]].sum()]]
    )


def decoded(features: np.ndarray, truth: np.ndarray, train: int) -> np.ndarray:
    decoder = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000)).fit(features[:train], truth[:train])
    return decoder.predict(features[train:])


def test_scene_and_rhythm_can_be_told(places: list[MadePlace]):
    """Nothing of the ceilings is lost between the tables and the files, but for a per cent."""
    train = 500
    scene = np.array([place.scene for place in places])
    rhythm = np.array([place.rhythm for place in places])
    told_scene = decoded(np.array([tile_features(place.tile) for place in places]), scene, train)
    told_rhythm = decoded(np.array([visit_features(place.visits) for place in places]), rhythm, train)
    assert (told_scene == scene[train:]).mean() > 0.98
    assert (told_rhythm == rhythm[train:]).mean() > 0.98

    label = np.array([place.label for place in places])[train:]
    p, best = joint(), ceiling()
    margin = 3 * 0.5 / len(label) ** 0.5
    assert (p.sum(2).argmax(0)[told_scene] == label).mean() == pytest.approx(best.image, abs=margin)
    assert (p.sum(1).argmax(0)[told_rhythm] == label).mean() == pytest.approx(best.visits, abs=margin)
    assert (p.argmax(0)[told_scene, told_rhythm] == label).mean() == pytest.approx(best.both, abs=margin)


def test_city_shows_in_both(places: list[MadePlace]):
    """The shared nuisance: where there are more visits, the tile is darker."""
    volume = np.array([len(place.visits) for place in places], float)
    light = np.array([place.tile.mean() for place in places])
    for kind in {(place.scene, place.rhythm) for place in places}:  # each as far as its own average
        here = np.array([(place.scene, place.rhythm) == kind for place in places])
        volume[here] -= volume[here].mean()
        light[here] -= light[here].mean()
    assert np.corrcoef(volume, light)[0, 1] < -0.3


def test_files_are_moderate_and_tiles_not_blank(places: list[MadePlace]):
    assert max(len(place.visits) for place in places) < 100_000
    assert min(len(place.visits) for place in places) > 500
    assert all(place.tile.std() > 5 for place in places)


def test_written_places_are_read_back(tmp_path: Path):
    told: list[tuple[int, int]] = []
    root = tmp_path / "made" / "urfc"
    best = make_urfc(root, places=12, test_places=3, seed=1, progress=lambda done, total: told.append((done, total)))
    assert best == ceiling()
    assert told == [(i + 1, 15) for i in range(15)]
    data = URFC(root=root, cache=tmp_path / "cache")
    index = data.index()
    assert index.bad == []
    assert index.columns["round"].tolist() == ["small"] * 15
    assert index.columns["split"].tolist() == ["test"] * 3 + ["train"] * 12
    for number in range(12):
        place, sample = draw_place(1, "train", number), data.read(3 + number)
        assert index.targets[3 + number] == place.label
        assert index.columns["place"][3 + number] == f"{number:06d}_{place.label + 1:03d}"
        np.testing.assert_array_equal(sample["visits"], count_visits(place.visits)[0])
        drawn, read = place.tile.astype(float), sample["image"].transpose(1, 2, 0)
        assert np.abs((read - drawn).reshape(10, 10, 10, 10, 3).mean((1, 3))).mean() < 2  # JPEG
    assert index.targets[:3].tolist() == [-1] * 3
    facts = json.loads((root / "ceiling.json").read_text())
    assert facts["places"] == 12
    assert facts["best_possible_oa"]["both"] == best.both


def files(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def test_seed_decides(tmp_path: Path):
    for name, seed, places in [("a", 1, 3), ("b", 1, 3), ("c", 2, 3), ("d", 1, 5)]:
        make_urfc(tmp_path / name, places=places, seed=seed)
    a, b, c, d = (files(tmp_path / name) for name in "abcd")
    assert a == b
    assert not (a.keys() & c.keys() - {"ceiling.json"}) or any(a[name] != c[name] for name in a.keys() & c.keys())
    assert all(d[name] == content for name, content in a.items() if name != "ceiling.json")


def test_only_its_own_folder_is_replaced(tmp_path: Path):
    make_urfc(tmp_path, places=4, seed=1, test_places=1)
    make_urfc(tmp_path, places=2, seed=1)
    assert len(files(tmp_path)) == 2 * 2 + 1
    (tmp_path / "notes.txt").write_text("mine")
    before = files(tmp_path)
    with pytest.raises(DataError, match=r"holds 'notes\.txt'"):
        make_urfc(tmp_path, places=3, seed=1)
    assert files(tmp_path) == before


def test_real_data_is_never_replaced(tmp_path: Path):
    (tmp_path / "train_image").mkdir()
    with pytest.raises(DataError, match="holds 'train_image'"):
        make_urfc(tmp_path, places=3, seed=1)
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(DataError, match="this is a file"):
        make_urfc(file, places=3, seed=1)


def test_stopped_half_way(tmp_path: Path):
    """What was there stays until all is drawn, and the next call starts over."""
    make_urfc(tmp_path, places=3, seed=1)
    before = files(tmp_path)

    def stop(done: int, total: int) -> None:
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make_urfc(tmp_path, places=3, seed=2, progress=stop)
    assert {name: data for name, data in files(tmp_path).items() if not name.startswith(".")} == before
    assert len(URFC(root=tmp_path, cache=tmp_path.parent / "cache").index()) == 3
    make_urfc(tmp_path, places=5, seed=2)
    assert len(files(tmp_path)) == 2 * 5 + 1


@pytest.mark.parametrize(("places", "test_places"), [(0, 0), (-1, 0), (3, -1)])
def test_no_places(tmp_path: Path, places: int, test_places: int):
    with pytest.raises(RequestError, match="cannot be made"):
        make_urfc(tmp_path / "none", places=places, test_places=test_places, seed=0)
    assert not (tmp_path / "none").exists()


def test_a_name_for_each_class():
    assert len(CLASS_COUNTS) == len(CLASS_NAMES["en"]) == len(CLASS_NAMES["zh"]) == len(SCENES_OF) == len(RHYTHMS_OF)
