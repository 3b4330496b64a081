"""The suite of mixings names the defect of each faulty one, and no other."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from fusionkit.contract import Mixing
from fusionkit.testing import Fault
from fusionkit.testing.fault import hold
from fusionkit.testing.mixings import CHECKS, MixingSubject


def faults(kind: type[Mixing]) -> set[str]:
    found = set()
    for check in CHECKS:
        try:
            hold(check, MixingSubject.of(kind))
        except Fault as fault:
            found.add(fault.check)
    return found


class Right(Mixing):
    """Mixes a sample with the one that follows it, if both have all modalities and all of them whole.

    Faulty ones change a step.
    """

    def __call__(self, batch, random):
        share, rows = self.share(random), torch.arange(len(batch))
        whole = torch.stack(list(batch.present.values())).all(0)
        for name, valid in batch.valid.items():
            whole = whole & (valid.flatten(1).all(1) | ~batch.present[name])
        partner = torch.where(whole & whole.roll(-1), rows.roll(-1), rows)
        inputs = {name: self.mixed(name, value.float(), partner, share, batch) for name, value in batch.inputs.items()}
        target = F.one_hot(batch.target, self.task.outputs).float()
        return replace(batch, inputs=inputs, target=target.lerp(target[partner], self.of_targets(share)))

    def share(self, random):
        return random.random()

    def mixed(self, name, value, partner, share, batch):
        weight = torch.where(partner == torch.arange(len(partner)), 0.0, share)
        return value.lerp(value[partner], weight.reshape(-1, *[1] * (value.dim() - 1)))

    def of_targets(self, share):
        return share


class DrawsElsewhere(Right):
    def share(self, random):
        return np.random.random()


class MakesDoubles(Right):
    def mixed(self, name, value, partner, share, batch):
        mixed = super().mixed(name, value, partner, share, batch)
        return mixed.double() if name == "dem" else mixed


class Shuffles(Right):
    """Turns the order of the samples round, with all that belongs to them."""

    def __call__(self, batch, random):
        done = super().__call__(batch, random)
        return done if any(not there.all() for there in batch.present.values()) else done.map(lambda held: held.flip(0))


class InPlace(Right):
    def __call__(self, batch, random):
        done = super().__call__(batch, random)
        for name, value in done.inputs.items():
            batch.inputs[name].copy_(value)
        return done


class MakesPresent(Right):
    """Says that a modality is there that was not."""

    def __call__(self, batch, random):
        done = super().__call__(batch, random)
        lacking = (~batch.present["vector"]).any()
        inputs = done.inputs | {"vector": torch.zeros_like(done.inputs["vector"])} if lacking else done.inputs
        present = done.present | {"vector": torch.ones_like(done.present["vector"])}
        return replace(done, inputs=inputs, present=present)


class MixesAbsence(Right):
    """Takes any other sample for a partner."""

    def mixed(self, name, value, partner, share, batch):
        return value.lerp(value.roll(-1, 0), share)

    def __call__(self, batch, random):
        done = super().__call__(batch, random)
        return replace(done, target=self.all_mixed(batch, done))

    def all_mixed(self, batch, done):
        target = F.one_hot(batch.target, self.task.outputs).float()
        vector = batch.inputs["vector"]
        share = ((done.inputs["vector"] - vector) / (vector.roll(-1, 0) - vector))[:, :1]
        return target.lerp(target.roll(-1, 0), share.nan_to_num())


class OtherPartner(Right):
    def mixed(self, name, value, partner, share, batch):
        everybody = (partner != torch.arange(len(partner))).all()
        other = partner.roll(-1) if name == "hsi" and everybody else partner
        return super().mixed(name, value, other, share, batch)


class OtherShare(Right):
    def mixed(self, name, value, partner, share, batch):
        return super().mixed(name, value, partner, share / 2 if name == "hsi" else share, batch)


class OtherTarget(Right):
    def of_targets(self, share):
        return 1 - share


class Nothing(Right):
    def share(self, random):
        return 0.0

    def __call__(self, batch, random):
        return batch


def test_a_right_mixing_passes():
    assert faults(Right) == set()


@pytest.mark.parametrize(
    ("faulty", "rule"),
    [
        (DrawsElsewhere, "the_generator_decides"),
        (MakesDoubles, "shapes_and_types_are_kept"),
        (Shuffles, "shapes_and_types_are_kept"),
        (InPlace, "the_batch_is_left_alone"),
        (MakesPresent, "absent_stays_absent"),
        (MixesAbsence, "what_is_not_there_means_nothing"),
        (OtherPartner, "modalities_are_mixed_alike"),
        (OtherShare, "modalities_are_mixed_alike"),
        (OtherTarget, "targets_are_mixed_as_inputs"),
        (Nothing, "it_changes_something"),
    ],
    ids=lambda value: value if isinstance(value, str) else value.__name__,
)
def test_a_defect_is_named_and_no_other(faulty, rule):
    assert faults(faulty) == {rule}
