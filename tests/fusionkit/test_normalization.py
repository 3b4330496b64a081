import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA

from fusionkit.flow import InputSpec
from fusionkit.normalization import RIDGE, Standardize, Statistics, Whiten


def correlated(shape: tuple[int, ...], axis: int) -> np.ndarray:
    """Values whose channels share most of what they say."""
    random = np.random.default_rng(0)
    values = random.normal(size=shape) + 3 * random.normal(size=shape).mean(axis, keepdims=True) + 10
    return np.moveaxis(np.moveaxis(values, axis, -1) * np.arange(1, shape[axis] + 1), -1, axis)


def statistics(values: np.ndarray, axis: int) -> Statistics:
    channels = np.moveaxis(values, axis, 0).reshape(values.shape[axis], -1)
    covariance = np.atleast_2d(np.cov(channels, bias=True))
    return Statistics(
        tuple(channels.mean(1).tolist()), tuple(channels.std(1).tolist()), tuple(map(tuple, covariance.tolist()))
    )


@pytest.mark.parametrize(("shape", "axis"), [((200, 5), 1), ((40, 6, 5), 2), ((30, 5, 4, 3), 1)])
def test_whitening_is_pca_of_the_standardised_channels(shape, axis):
    values = correlated(shape, axis)
    whiten = Whiten(InputSpec(shape[1:]), statistics(values, axis))
    channels = np.moveaxis(values, axis, -1).reshape(-1, shape[axis])
    pca = PCA().fit((channels - channels.mean(0)) / channels.std(0))
    variances = pca.explained_variance_ * (len(channels) - 1) / len(channels)
    expected = pca.transform((channels - channels.mean(0)) / channels.std(0)) / np.sqrt(variances + RIDGE)
    found = whiten(torch.from_numpy(values)).movedim(axis, -1).reshape(-1, shape[axis]).numpy()
    signs = np.sign((found * expected).sum(0))
    np.testing.assert_allclose(found * signs, expected, atol=2e-3)


def test_whitening_keeps_full_precision_under_autocast():
    values = correlated((50, 8), 1)
    whiten = Whiten(InputSpec((8,)), statistics(values, 1))
    plain = whiten(torch.from_numpy(values))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(whiten(torch.from_numpy(values)), plain)


def test_a_constant_channel_becomes_no_nan():
    values = correlated((50, 3), 1)
    values[:, 1] = 7
    whiten = Whiten(InputSpec((3,)), statistics(values, 1))
    assert torch.isfinite(whiten(torch.from_numpy(values))).all()


def test_whitening_travels_with_the_weights():
    values = correlated((50, 4), 1)
    whiten, fresh = Whiten(InputSpec((4,)), statistics(values, 1)), Whiten(InputSpec((4,)), None)
    fresh.load_state_dict(whiten.state_dict())
    assert torch.equal(fresh(torch.from_numpy(values)), whiten(torch.from_numpy(values)))


def test_whitening_without_a_covariance_is_refused():
    with pytest.raises(ValueError, match="covariance"):
        Whiten(InputSpec((2,)), Statistics((0.0, 0.0), (1.0, 1.0)))


def test_without_statistics_nothing_is_changed():
    values = torch.rand(3, 4)
    assert torch.equal(Standardize(InputSpec((4,)), None)(values), values)
    assert torch.equal(Whiten(InputSpec((4,)), None)(values), values)
