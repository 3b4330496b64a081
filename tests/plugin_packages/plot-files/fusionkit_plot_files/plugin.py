"""What fusionkit is told of this package."""

from collections.abc import Iterable

from fusionkit import Component, hookimpl

PLUGIN_API = 1


@hookimpl
def fusionkit_components() -> Iterable[Component]:
    package = "fusionkit_plot_files"
    yield Component("dataset", "plot_files", f"{package}.dataset:PlotFiles", "drone images and spectra in .plot files")
    yield Component("augmentation", "band_shift", f"{package}.band_shift:BandShift", "shifts spectra along their bands")
