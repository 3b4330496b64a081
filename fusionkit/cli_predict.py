"""`fusionkit predict`: what a finished run says of new samples."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fusionkit.cli_shared import only_the_answer
from fusionkit.errors import RequestError


def predict(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="The folder of a finished run.")],
    output: Annotated[
        Path,
        typer.Option("--output", "-o", dir_okay=False, help="The table to write, .csv or .parquet; or the map, .tif."),
    ],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[KEY=VALUE | --MODALITY FILE]...",
            help="Where the new samples are, such as data.root=/new/folder; or the rasters of a scene, by modality.",
            show_default=False,
        ),
    ] = None,
    absent: Annotated[
        list[str] | None,
        typer.Option(help="A modality that the new samples do not have; may be given again.", show_default=False),
    ] = None,
    probabilities: Annotated[
        Path | None,
        typer.Option(dir_okay=False, help="Of a map: a GeoTIFF of the probability of each class.", show_default=False),
    ] = None,
    polygons: Annotated[
        Path | None,
        typer.Option(dir_okay=False, help="Of a map: ask about the polygons of this file.", show_default=False),
    ] = None,
    stride: Annotated[
        int | None,
        typer.Option(help="Of a map: pixels from window to window.", show_default="as the dataset says"),
    ] = None,
) -> None:
    """Answer new samples, labelled or not, with the model of a finished run.

    The samples are read by the dataset of the run's recipe, with changes to `data.*` on the command line. Each gets a
    row: id, prediction and the probability of every class; or the probability of every label; or the quantities. Where
    the run has folds, their models answer together. Bad samples are listed in OUTPUT.bad.csv.

    A modality that the dataset does not offer, or that `--absent` names, is absent from all samples. That is refused
    unless the run was trained with samples that lacked it, or with `augment: [modality_dropout]`.

    With the rasters of a scene, `--image scene.tif --lidar dsm.tif -o map.tif`, a map is made of it: a GeoTIFF of the
    classes with their names and colours, and a picture. A modality without a file is absent.

    The last line on standard output is the path of the table or map; all else goes to standard error.
    """
    from fusionkit import cli_mapping
    from fusionkit import predict as predicting

    files, overrides = cli_mapping.scene_files(overrides or ())
    if files or output.suffix.lower() in cli_mapping.SUFFIXES or probabilities or polygons or stride is not None:
        if overrides or absent:
            given = overrides[0] if overrides else "--absent"
            raise RequestError(f"{given} does not go with a map, which is made of the files given: --MODALITY FILE")
        with only_the_answer():
            cli_mapping.make_map(run, files, output, probabilities=probabilities, polygons=polygons, stride=stride)
        print(output)
        return
    with only_the_answer():
        predicting.predict(run, output, overrides=overrides or (), absent=absent or ())
    print(output)
