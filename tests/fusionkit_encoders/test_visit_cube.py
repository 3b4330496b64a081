"""The encoder of visit counts."""

import numpy as np
import pytest
import torch
from fusionkit_encoders.visit_cube import VisitCube, normalize
from sklearn import preprocessing

from fusionkit.errors import RequestError, ShapeError
from fusionkit.flow import InputSpec

VISITS = InputSpec((7, 26, 24), counts=True)
EVERY = ["log1p", "min_max", "z_score", "l1", "l2"]


@pytest.mark.parametrize("variant", ["2d", "profile"])
@pytest.mark.parametrize("normalizations", ["log1p", EVERY])
def test_keeps_the_contract(check_encoder, variant, normalizations):
    check_encoder(lambda: VisitCube(VISITS, variant=variant, normalizations=normalizations, width=8), VISITS)


@pytest.mark.parametrize("variant", ["2d", "profile"])
def test_any_cube_of_counts_will_do(check_encoder, variant):
    spec = InputSpec((1, 3, 2), counts=True)
    check_encoder(lambda: VisitCube(spec, variant=variant, width=8, norm="group"), spec)


def test_shapes_of_the_two_variants():
    counts = torch.randint(0, 9, (2, 7, 26, 24)).float()
    assert VisitCube(VISITS).eval()(counts).grid == (4, 3)
    profile = VisitCube(VISITS, variant="profile").eval()(counts)
    assert profile.grid is None
    assert profile.tokens.shape == (2, 21, 128)  # 168 hours, halved three times


@pytest.mark.parametrize("how", EVERY)
def test_normalisations_agree_with_scikit_learn(how):
    counts = np.random.default_rng(0).poisson(3.0, (4, 7, 26, 24)).astype(np.float32)
    counts[1] *= 50
    flat = counts.reshape(4, -1).astype(np.float64)
    expected = {
        "log1p": np.log1p,
        "min_max": lambda x: preprocessing.minmax_scale(x, axis=1),
        "z_score": lambda x: preprocessing.scale(x, axis=1),
        # scikit-learn divides by the sum and by the root of the sum of squares; here by the means.
        "l1": lambda x: preprocessing.normalize(x, "l1") * x.shape[1],
        "l2": lambda x: preprocessing.normalize(x, "l2") * x.shape[1] ** 0.5,
    }[how](flat)
    got = normalize(torch.from_numpy(counts), how).reshape(4, -1).numpy()
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("how", EVERY)
def test_a_cube_without_visits_is_zero(how):
    empty = torch.zeros(1, 7, 26, 24)
    assert torch.equal(normalize(empty, how), empty)


def test_a_profile_has_the_hours_of_the_week_in_order():
    """A visit on weekday d at hour h stands at step 24 d + h, in the channel of its week."""
    encoder = VisitCube(VISITS, variant="profile", width=26, dropout=0.0).eval()
    encoder.stem = torch.nn.Identity()
    counts = torch.zeros(1, 7, 26, 24)
    counts[0, 2, 11, 5] = torch.e - 1
    tokens = encoder.embed(counts, None).tokens
    assert tokens.shape == (1, 168, 26)
    assert tokens.nonzero().tolist() == [[0, 2 * 24 + 5, 11]]
    torch.testing.assert_close(tokens.sum(), torch.tensor(1.0))


def test_the_week_has_no_ends(randomised):
    """Sunday's last hour is next to Monday's first: moving all visits by eight hours moves the features by one."""
    encoder = randomised(VisitCube(VISITS, variant="profile", width=8, norm="batch")).eval()
    counts = torch.rand(1, 7, 26, 24)
    later = counts.transpose(1, 2).reshape(1, 26, 168).roll(8, -1).reshape(1, 26, 7, 24).transpose(1, 2)
    torch.testing.assert_close(encoder(later).tokens, encoder(counts).tokens.roll(1, 1))


def test_what_does_not_fit_is_told():
    with pytest.raises(ShapeError, match="not 182 x 24"):
        VisitCube(InputSpec((182, 24)))
    for wrong in ([], ["l1", "l1"]):
        with pytest.raises(RequestError, match="at least one, and none twice"):
            VisitCube(VISITS, normalizations=wrong)
