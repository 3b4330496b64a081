"""The built-in augmentations."""

from __future__ import annotations

from collections.abc import Iterator

from fusionkit import Component, hookimpl

PLUGIN_API = 1
HERE = "fusionkit_augmentations"


@hookimpl
def fusionkit_components() -> Iterator[Component]:
    yield Component("augmentation", "dihedral", f"{HERE}.dihedral:Dihedral", "flips and quarter turns of maps")
    yield Component("augmentation", "crop", f"{HERE}.crop:Crop", "one random window of the ground, of all maps alike")
    yield Component("augmentation", "noise", f"{HERE}.noise:Noise", "Gaussian noise relative to each channel's spread")
    yield Component("augmentation", "scale", f"{HERE}.scale:Scale", "one random factor: brightness, illumination")
    yield Component(
        "augmentation", "rand_augment", f"{HERE}.rand_augment:RandAugment", "colours of RGB images (RandAugment)"
    )
    yield Component("augmentation", "band_dropout", f"{HERE}.band_dropout:BandDropout", "interpolate over random bands")
    yield Component("augmentation", "time_shift", f"{HERE}.time_shift:TimeShift", "roll visits along hours or weeks")
    yield Component(
        "augmentation",
        "modality_dropout",
        f"{HERE}.modality_dropout:ModalityDropout",
        "drop whole modalities (ModDrop)",
    )
    yield Component(
        "augmentation", "synonyms", f"{HERE}.synonyms:Synonyms", "replace words by synonyms: WordNet or a table"
    )
    yield Component(
        "augmentation",
        "paraphrases",
        f"{HERE}.paraphrases:Paraphrases",
        "replace texts by paraphrases: a table, or translation there and back by local models",
    )
    yield Component("augmentation", "mixup", f"{HERE}.mixup:MixUp", "mix samples of a batch in pairs")
    yield Component("augmentation", "cutmix", f"{HERE}.cutmix:CutMix", "paste boxes of other samples of the batch")
