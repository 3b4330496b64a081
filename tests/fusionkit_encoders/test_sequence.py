"""The sequence encoder: what is padded must not count."""

import pytest
import torch
from fusionkit_encoders.sequence import Sequence, sinusoids

from fusionkit.errors import ShapeError
from fusionkit.flow import InputSpec

VARIANTS = ["gru", "transformer", "tcn"]


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("ragged", [True, False])
def test_keeps_the_contract(check_encoder, variant, ragged):
    spec = InputSpec((7, 5), ragged=ragged)
    check_encoder(lambda: Sequence(spec, variant=variant, width=16), spec)


@pytest.mark.parametrize("variant", VARIANTS)
def test_one_step_is_enough(check_encoder, variant):
    spec = InputSpec((2, 3), ragged=True)
    check_encoder(lambda: Sequence(spec, variant=variant, width=8, layers=1), spec)


@pytest.mark.parametrize("variant", VARIANTS)
def test_padding_changes_nothing(randomised, variant):
    """A sequence of five steps gives the same tokens alone as within ten, whatever stands in the other five."""
    long = randomised(Sequence(InputSpec((10, 4), ragged=True), variant=variant, width=8, layers=3)).eval()
    short = Sequence(InputSpec((5, 4)), variant=variant, width=8, layers=3).eval()
    short.load_state_dict(long.state_dict())
    value = torch.randn(2, 10, 4)
    valid = (torch.arange(10) < 5).expand(2, 10)
    expected = short(value[:, :5]).tokens
    for padding in (0.0, 100.0, torch.nan):
        padded = value.clone()
        padded[:, 5:] = padding
        features = long(padded, valid)
        torch.testing.assert_close(features.tokens[:, :5], expected, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(features.pooled, expected.mean(1), rtol=1e-4, atol=1e-5)
        assert torch.equal(features.mask, valid)


def test_gru_agrees_with_packed_sequences(randomised):
    """PyTorch's own way with ragged sequences, which cannot run on the meta device, is the reference."""
    encoder = randomised(Sequence(InputSpec((9, 4), ragged=True), variant="gru", width=8, layers=1)).eval()
    layer = encoder.stages[0]
    reference = torch.nn.GRU(8, 4, batch_first=True, bidirectional=True)
    weights = {name: p for name, p in layer.ahead.named_parameters()}
    weights |= {f"{name}_reverse": p for name, p in layer.back.named_parameters()}
    reference.load_state_dict(weights)
    lengths = torch.tensor([9, 4, 1, 6])
    valid = torch.arange(9) < lengths.unsqueeze(1)
    tokens = torch.randn(4, 9, 8)
    packed = torch.nn.utils.rnn.pack_padded_sequence(layer.norm(tokens), lengths, True, enforce_sorted=False)
    read, _ = torch.nn.utils.rnn.pad_packed_sequence(reference(packed)[0], batch_first=True)
    torch.testing.assert_close(layer(tokens, valid)[valid], (tokens + read)[valid])


@pytest.mark.parametrize("variant", ["gru", "transformer"])
def test_gaps_are_left_out(randomised, variant):
    encoder = randomised(Sequence(InputSpec((6, 4), ragged=True), variant=variant, width=8)).eval()
    value = torch.randn(1, 6, 4)
    valid = torch.tensor([[True, False, True, True, False, True]])
    other = value.masked_fill(~valid.unsqueeze(-1), 50.0)
    torch.testing.assert_close(encoder(other, valid).tokens[valid], encoder(value, valid).tokens[valid])
    if variant == "gru":  # over gaps as if they were not there
        dense = encoder(value[valid].unsqueeze(0)).tokens
        torch.testing.assert_close(encoder(value, valid).tokens[valid], dense[0])


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_sequence_without_any_step_stays_finite(randomised, variant):
    encoder = randomised(Sequence(InputSpec((4, 3), ragged=True), variant=variant, width=8))
    valid = torch.tensor([[False] * 4, [True] * 4])
    features = encoder(torch.randn(2, 4, 3), valid)
    assert features.tokens.isfinite().all()
    assert torch.equal(features.pooled[0], torch.zeros(8))
    features.pooled.sum().backward()
    assert all(p.grad.isfinite().all() for p in encoder.parameters())


@pytest.mark.parametrize("variant", VARIANTS)
def test_order_matters_and_both_directions_are_read(randomised, variant):
    encoder = randomised(Sequence(InputSpec((6, 4)), variant=variant, width=8)).eval()
    value = torch.randn(1, 6, 4)
    tokens = encoder(value).tokens
    assert not torch.allclose(encoder(value.flip(1)).tokens.flip(1), tokens, atol=1e-3)
    for changed, watched in ((0, 1), (5, 4)):
        other = value.clone()
        other[:, changed] += 1
        assert not torch.allclose(encoder(other).tokens[:, watched], tokens[:, watched])


def test_sinusoids_are_those_of_the_paper():
    table = sinusoids(50, 7)
    assert table.shape == (50, 7)
    for position, column in ((0, 0), (3, 1), (17, 4), (49, 6)):
        angle = torch.tensor(position / 10_000 ** (2 * (column // 2) / 7))
        torch.testing.assert_close(table[position, column], angle.cos() if column % 2 else angle.sin())


@pytest.mark.parametrize(
    ("spec", "options", "message"),
    [
        (InputSpec((4,)), {}, "not 4; use mlp"),
        (InputSpec((3, 4, 4)), {}, "not 3 x 4 x 4"),
        (InputSpec((4, 3)), {"width": 15}, "even width, not 15"),
        (InputSpec((4, 3)), {"variant": "transformer", "width": 10}, "10 cannot be split among 4 heads"),
        (InputSpec((4, 3)), {"variant": "tcn", "kernel": 4}, "odd, not 4"),
    ],
)
def test_what_does_not_fit_is_told(spec, options, message):
    with pytest.raises(ShapeError, match=message):
        Sequence(spec, **options)
