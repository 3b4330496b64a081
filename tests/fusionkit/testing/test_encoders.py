"""The suite of encoders names the defect of each faulty encoder, and no other."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from fusionkit.contract import Encoder
from fusionkit.flow import Features, InputSpec
from fusionkit.testing import EncoderSuite, Fault
from fusionkit.testing.encoders import CHECKS, EncoderSubject
from fusionkit.testing.fault import hold

STEPS = InputSpec((6, 4), ragged=True)
TEXT = InputSpec((6,), ragged=True, text=True, vocabulary=20)


class Right(Encoder):
    """Linear layers, step by step."""

    def __init__(self, spec):
        super().__init__(spec)
        self.enter = nn.Linear(spec.shape[-1], 8)
        self.stages.extend(nn.Sequential(nn.Linear(8, 8), nn.Tanh()) for _ in range(2))

    def embed(self, value, valid):
        return Features(self.enter(value), mask=valid)


class Repeats(Right):
    """Forward runs the first stage twice."""

    def forward(self, value, valid=None):
        features = self.step(0, self.step(0, self.embed(value, valid)))
        return self.finish(self.step(1, features))


class WrongGrid(Right):
    """Six tokens on a grid of four."""

    def finish(self, features):
        return replace(features, grid=(2, 2))


class AcrossTheBatch(Right):
    """Subtracts the batch's mean."""

    def finish(self, features):
        real = features.tokens.masked_fill(~features.mask.unsqueeze(-1), 0)
        return replace(features, tokens=features.tokens - real.mean(0))


class Unused(Right):
    def __init__(self, spec):
        super().__init__(spec)
        self.spare = nn.Linear(8, 8)


class Noisy(Right):
    def finish(self, features):
        return replace(features, tokens=features.tokens + torch.rand_like(features.tokens))


class InAList(Right):
    def __init__(self, spec):
        super().__init__(spec)
        self.more = [nn.Linear(8, 8)]

    def finish(self, features):
        return replace(features, tokens=self.more[0](features.tokens))


class InPlace(Right):
    def embed(self, value, valid):
        return super().embed(value.mul_(2), valid)


class ReadsPadding(Right):
    def finish(self, features):
        return replace(features, tokens=features.tokens + features.tokens.mean(1, keepdim=True))


class ReadsValues(Right):
    def finish(self, features):
        return features if features.tokens.sum().item() > -1e9 else replace(features, tokens=-features.tokens)


class Forgotten(Right):
    def __init__(self, spec):
        super().__init__(spec)
        self.register_buffer("scale", torch.rand(8) + 0.5, persistent=False)

    def finish(self, features):
        return replace(features, tokens=features.tokens * self.scale)


class DividesByDeviation(Right):
    """Scales each step by its own deviation over the features, which a step of zeros has not."""

    def embed(self, value, valid):
        return Features(self.enter(value / value.std(2, keepdim=True)), mask=valid)


def faults(kind: type[Encoder], spec: InputSpec = STEPS) -> set[str]:
    subject, found = EncoderSubject.of(kind, spec), set()
    for check in CHECKS:
        try:
            hold(check, subject)
        except Fault as fault:
            found.add(fault.check)
    return found


def test_a_right_encoder_passes():
    assert faults(Right) == set()


@pytest.mark.parametrize(
    ("faulty", "rule"),
    [
        (Repeats, "stages_make_the_whole"),
        (WrongGrid, "a_grid_holds_every_token"),
        (AcrossTheBatch, "samples_are_independent"),
        (Unused, "every_parameter_learns"),
        (DividesByDeviation, "absence_is_a_number"),
        (Noisy, "evaluation_is_deterministic"),
        (InAList, "every_tensor_is_registered"),
        (InPlace, "inputs_are_left_alone"),
        (ReadsPadding, "padding_means_nothing"),
        (ReadsValues, "shapes_are_proven_without_data"),
        (Forgotten, "weights_travel"),
    ],
    ids=lambda value: value if isinstance(value, str) else value.__name__,
)
def test_a_defect_is_named_and_no_other(faulty, rule):
    assert faults(faulty) == {rule}


class Words(Right):
    """The same for ids of tokens."""

    def __init__(self, spec):
        super().__init__(spec)
        self.enter = nn.Embedding(spec.vocabulary, 8)


class WordsAcrossTheBatch(Words):
    def finish(self, features):
        return features.with_tokens(features.tokens - features.tokens[:, :1].mean(0))


class WordsAndPadding(Words):
    def finish(self, features):
        return features.with_tokens(features.tokens - features.tokens.mean(1, keepdim=True))


def test_an_encoder_of_text_is_given_ids_of_tokens():
    assert faults(Words, TEXT) == set()
    assert faults(WordsAcrossTheBatch, TEXT) == {"samples_are_independent"}
    assert faults(WordsAndPadding, TEXT) == {"padding_means_nothing"}


class TestTextTransformer(EncoderSuite):
    component = "encoder:text_transformer"
    options = {"width": 16, "layers": 2}
    specs = (TEXT,)


class TestMLP(EncoderSuite):
    component = "encoder:mlp"
    options = {"dropout": 0.0}
    specs = (InputSpec((6,)), InputSpec((3, 4, 4)))


class TestMLPOfPlaces(EncoderSuite):
    component = "encoder:mlp"
    options = {"dropout": 0.0, "bins": 4}
    specs = (InputSpec((6,)), InputSpec((5, 3), ragged=True))
