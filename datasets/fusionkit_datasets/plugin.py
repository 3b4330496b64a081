"""The datasets that come with fusionkit."""

from __future__ import annotations

from collections.abc import Iterator

from fusionkit import Component, hookimpl

PLUGIN_API = 1


@hookimpl
def fusionkit_components() -> Iterator[Component]:
    yield Component(
        "dataset",
        "arrays",
        "fusionkit_datasets.arrays:ArrayDataset",
        "samples in arrays: npy, npz, MATLAB, HDF5, text; one entry a modality",
    )
    yield Component(
        "dataset",
        "table",
        "fusionkit_datasets.table:Table",
        "a CSV or Parquet table with columns of file paths (images, rasters, arrays) or of values",
    )
    yield Component(
        "dataset",
        "patches",
        "fusionkit_datasets.patches:Patches",
        "windows around the labelled pixels of co-registered scenes",
    )
    yield Component(
        "dataset",
        "rasters",
        "fusionkit_datasets.rasters:Rasters",
        "ground windows of co-located rasters, each at its own resolution and CRS; labels from rasters or vector files",
    )
    yield Component(
        "dataset",
        "image_text",
        "fusionkit_datasets.image_text:ImageText",
        "images with captions: Flickr30K, COCO, RSICD, or a table; with boxes of what the text names",
    )
    yield Component(
        "dataset",
        "vqa",
        "fusionkit_datasets.vqa:VQA",
        "questions about images, as VQA 2.0 has them: a classification over the most frequent answers",
    )
    yield Component(
        "dataset",
        "torchgeo",
        "fusionkit_datasets.torchgeo:TorchGeo",
        "datasets of the package TorchGeo by their names, bands grouped into modalities",
        extra="fusionkit-geo[torchgeo]",
    )
    yield Component(
        "dataset",
        "urfc",
        "fusionkit_datasets.urfc:URFC",
        "urban region function classification: satellite tiles and visit records",
    )
