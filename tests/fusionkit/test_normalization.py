from dataclasses import replace
from io import StringIO

import numpy as np
import pytest
import torch
from fusionkit_fakes import Toy, recipe, registry
from rich.console import Console
from sklearn.decomposition import PCA
from sklearn.preprocessing import QuantileTransformer

from fusionkit.assembly import blueprint, make_task
from fusionkit.errors import RecipeError
from fusionkit.experiment import run
from fusionkit.flow import InputSpec
from fusionkit.loading import EVALUATION, Samples
from fusionkit.normalization import QUANTILES, RIDGE, Quantile, Standardize, Statistics, Whiten
from fusionkit.progress import Progress
from fusionkit.recipe import load_recipe

pytestmark = pytest.mark.usefixtures("undrawn")


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


def ranked(values, shape):
    """The quantile scaling of these training values `[n, *shape]`."""
    held = np.quantile(values.reshape(-1, shape[-1]), np.linspace(0, 1, QUANTILES), axis=0)
    channels = (0.0,) * shape[-1]
    return Quantile(InputSpec(shape), Statistics(channels, channels, quantiles=tuple(map(tuple, held.T.tolist()))))


@pytest.mark.parametrize("shape", [(3,), (5, 3)])
def test_ranks_are_scikit_learns(shape):
    random = np.random.default_rng(0)
    size = (400, *shape[:-1])
    columns = [random.exponential(size=size), random.integers(0, 4, size), np.full(size, 7)]
    values = np.stack(columns, -1).astype(np.float32)
    flat = values.reshape(-1, 3)
    transformer = QuantileTransformer(n_quantiles=QUANTILES, subsample=None).fit(flat)
    asked = np.concatenate([flat, flat * 1.5 - 1, [[-9, -9, -9], [99, 99, 99]]]).astype(np.float32)
    expected = (transformer.transform(asked) - 0.5) * np.sqrt(12)
    asked = np.resize(asked, (len(asked) // 5 * 5, 3)) if len(shape) == 2 else asked
    given = torch.from_numpy(asked).reshape(-1, *shape)
    found = ranked(values, shape)(given).reshape(-1, 3).numpy()
    np.testing.assert_allclose(found[:, 0], expected[: len(found), 0], atol=2e-5)
    # At the ends scikit-learn does not average the ranks of repeated values; of a constant it says 0.
    between = (asked[:, 1] > 0) & (asked[:, 1] < 3)
    np.testing.assert_allclose(found[between, 1], expected[: len(found)][between, 1], atol=2e-5)
    ranks = np.arange(QUANTILES)[np.quantile(flat[:, 1], np.linspace(0, 1, QUANTILES)) == 0] / (QUANTILES - 1)
    assert found[asked[:, 1] <= 0, 1] == pytest.approx((ranks.mean() - 0.5) * np.sqrt(12), abs=1e-5)
    assert found[:, 2] == pytest.approx(0, abs=1e-6)


def test_ranks_of_continuous_values_are_uniform():
    values = np.random.default_rng(1).lognormal(size=(4000, 1)).astype(np.float32)
    found = ranked(values, (1,))(torch.from_numpy(values))
    assert abs(float(found.mean())) < 1e-2
    assert float(found.std()) == pytest.approx(1, abs=1e-2)
    assert float(found.abs().max()) == pytest.approx(np.sqrt(3), abs=1e-5)


def test_ranks_travel_with_the_weights():
    values = np.random.default_rng(2).normal(size=(300, 2)).astype(np.float32)
    made, fresh = ranked(values, (2,)), Quantile(InputSpec((2,)), None)
    fresh.load_state_dict(made.state_dict())
    given = torch.from_numpy(values)
    assert torch.equal(fresh(given), made(given))
    with pytest.raises(ValueError, match="ranks need the quantiles"):
        Quantile(InputSpec((2,)), Statistics((0.0, 0.0), (1.0, 1.0)))


def test_ranks_keep_full_precision_under_autocast_and_pass_gradients_on():
    values = np.random.default_rng(3).exponential(size=(500, 2)).astype(np.float32)
    scale = ranked(values, (2,))
    given = torch.from_numpy(values).requires_grad_()
    plain = scale(given)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(scale(given), plain)
    (slope,) = torch.autograd.grad(plain[:, 0].sum(), given)
    assert (slope[:, 1] == 0).all()
    # That of the line between the two quantiles around each value.
    quantiles = np.quantile(values[:, 0].astype(np.float64), np.linspace(0, 1, QUANTILES))
    above = np.searchsorted(quantiles, values[:, 0], side="right")
    inside = (above > 0) & (above < QUANTILES) & (np.abs(quantiles[:, None] - values[:, 0]).min(0) > 1e-6)
    expected = np.sqrt(12) / (QUANTILES - 1) / np.diff(quantiles)[above[inside] - 1]
    np.testing.assert_allclose(slope[inside, 0].numpy(), expected, rtol=1e-2)
    assert inside.sum() > 300


RANKED = {name: {"encoder": "linear", "normalize": "quantile"} for name in ("vector", "steps")}


def test_ranks_of_a_run_are_of_its_train_and_answer_from_its_checkpoint(tmp_path):
    chosen = load_recipe(recipe(modalities=RANKED, train={"epochs": 1}), registry=registry())
    made = run(chosen, runs=tmp_path, progress=Progress(Console(file=StringIO())))
    weights = torch.load(made.path / "checkpoints" / "fusion" / "best.ckpt", weights_only=True)["model"]
    toy = Toy()
    train = np.flatnonzero(toy.index().split == "train").tolist()
    steps = np.linspace(0, 1, QUANTILES)
    for name, values in (
        ("vector", np.stack([toy.read(position)["vector"] for position in train])),
        ("steps", np.concatenate([toy.read(position)["steps"] for position in train])),
    ):
        expected = np.quantile(values.astype(np.float64), steps, axis=0).T
        np.testing.assert_allclose(weights[f"normalizers.{name}.quantiles"], expected, rtol=1e-6)

    inputs = {name: toy.inputs()[name] for name in RANKED}
    model = blueprint(chosen, inputs, make_task(chosen, ("a", "b", "c"))).restore().eval()
    model.load_state_dict(weights)
    positions = [list(toy.index().ids).index(id) for id in made.predictions.ids]
    batch = Samples(toy, toy.index().targets, inputs).__getitems__([(EVALUATION, position) for position in positions])
    with torch.no_grad():
        answers = model(batch).logits.softmax(1)
        np.testing.assert_allclose(answers, made.predictions.answers, atol=1e-6)
        # The middle rank stands where nothing is.
        absent = replace(batch, present=batch.present | {"vector": torch.zeros(len(batch), dtype=torch.bool)})
        batch.inputs["vector"].fill_(torch.nan)
        prepared = model.prepare(absent)["vector"].value
        assert (prepared == 0).all()


def test_ranks_of_a_map_are_refused_before_a_sample_is_read(tmp_path):
    chosen = recipe(data={"source": "unreadable"}, modalities=RANKED | {"image": RANKED["vector"]})
    message = "recipe: modalities.image.normalize: quantile is for vectors and sequences; image is 2 x 6 x 6"
    with pytest.raises(RecipeError, match=message):
        run(load_recipe(chosen, registry=registry()), runs=tmp_path, progress=Progress(Console(file=StringIO())))
    assert not list(tmp_path.iterdir())
