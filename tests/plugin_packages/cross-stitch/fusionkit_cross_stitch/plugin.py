"""What fusionkit is told of this package."""

from collections.abc import Iterable

from fusionkit import Component, hookimpl

PLUGIN_API = 1


@hookimpl
def fusionkit_components() -> Iterable[Component]:
    yield Component(
        "fusion",
        "cross_stitch",
        "fusionkit_cross_stitch.cross_stitch:CrossStitch",
        "cross-stitch units: learned mixtures of all modalities between the stages of the encoders",
    )
