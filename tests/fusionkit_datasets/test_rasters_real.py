"""`rasters` on the IDTReeS set as it is distributed, against the crowns that were cut from it by others' code."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from fusionkit_datasets.rasters import Rasters


@pytest.mark.slow
def test_idtrees2020(make):
    pytest.importorskip("pyogrio")
    root = Path(os.environ.get("FUSIONKIT_DATA", "")) / "idtrees2020"
    if "FUSIONKIT_DATA" not in os.environ or not (root / "raw").is_dir():
        pytest.skip("needs idtrees2020 in FUSIONKIT_DATA")
    table = {"file": "Field/train_data.csv", "key": "indvdID"}
    data = make(
        Rasters,
        root=root / "raw",
        inputs={
            "hsi": {"file": "RemoteSensing/HSI/{scene}.tif", "scale": {"reflectance": 1e-4}},
            "chm": {"file": "RemoteSensing/CHM/*.tif"},
        },
        labels={"file": "ITC/train_*.shp", "id": "indvdID", "column": "taxonID", "table": table},
        window=8,
        min_count=15,
    )
    index = data.index()
    derived = np.load(root / "crowns.npz")
    ids = np.char.partition(np.asarray(index.ids), "#")[:, 0]
    taxa = index.columns["taxonID"]
    known = taxa != ""
    ours = Counter(zip(ids[known].tolist(), index.columns["scene"][known].tolist(), taxa[known].tolist(), strict=True))
    theirs = zip(*(derived[name].tolist() for name in ("id", "plot", "taxon")), strict=True)
    assert ours == Counter(theirs)
    assert sorted(index.class_names) == sorted(derived["classes"].tolist())
    assert index.labelled.sum() == (derived["label"] >= 0).sum() == 1064
    # One crown lies in no plot; those without a row in the table are of no taxon.
    assert Counter("taxonID" in bad.reason for _, bad in index.bad) == {True: 66, False: 1}
    of = {key: i for i, key in enumerate(zip(derived["id"].tolist(), derived["plot"].tolist(), strict=True))}
    compared = equal = 0
    for i in range(0, len(index), 20):
        sample, j = data.read(i), of.get((str(ids[i]), str(index.columns["scene"][i])))
        if j is None or isinstance(sample["chm"], np.ma.MaskedArray) or isinstance(sample["hsi"], np.ma.MaskedArray):
            continue
        bands = sample["hsi"].reshape(123, 3, 8, 8).mean(1) * 1e4
        compared += 1
        equal += np.allclose(sample["chm"], derived["chm"][j]) and np.abs(bands - derived["hsi"][j]).max() < 2
    assert compared > 10
    assert equal >= 0.9 * compared, "a middle between two pixels may be rounded otherwise"
