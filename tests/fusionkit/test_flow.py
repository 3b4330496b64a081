"""Features and batches: masks, pooling, maps."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fusionkit.flow import Batch, Features, FeatureSpec, InputSpec, Task


def batch_of(n: int) -> Batch:
    return Batch(
        inputs={"a": torch.arange(n * 3.0).reshape(n, 3), "b": torch.arange(n * 8).reshape(n, 4, 2)},
        present={"a": torch.ones(n, dtype=torch.bool), "b": torch.arange(n) % 2 == 0},
        target=torch.arange(n),
        index=torch.arange(n) + 100,
        valid={"b": torch.arange(n * 4).reshape(n, 4) % 3 == 0},
    )


def test_pooled_is_the_mean_of_the_real_tokens_of_present_samples() -> None:
    random = np.random.default_rng(0)
    tokens = random.normal(size=(5, 7, 3)).astype(np.float32)
    mask = random.random((5, 7)) < 0.6
    mask[:, 2] = True
    present = np.array([True, False, True, True, False])
    features = Features(torch.from_numpy(tokens), mask=torch.from_numpy(mask), present=torch.from_numpy(present))
    for row in range(5):
        expected = tokens[row][mask[row]].mean(0) if present[row] else np.zeros(3)
        np.testing.assert_allclose(features.pooled[row].numpy(), expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(features.token_mask.numpy(), mask & present[:, None])
    np.testing.assert_allclose(Features(torch.from_numpy(tokens)).pooled.numpy(), tokens.mean(1), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("content", [float("nan"), float("inf"), -1e38])
def test_what_is_masked_has_no_part_in_pooling_or_gradients(content: float) -> None:
    tokens = torch.ones(2, 3, 2, requires_grad=True)
    dirty = tokens.clone()
    dirty.data[0, 1], dirty.data[1] = content, content
    mask = torch.tensor([[True, False, True], [True, True, True]])
    pooled = Features(dirty, mask=mask, present=torch.tensor([True, False])).pooled
    assert pooled.tolist() == [[1, 1], [0, 0]]
    pooled.sum().backward()
    assert tokens.grad is not None
    assert torch.isfinite(tokens.grad).all()
    assert tokens.grad[0, 1].tolist() == [0, 0]
    assert tokens.grad[1].abs().sum() == 0


def test_pooling_counts_many_tokens_in_16_bits() -> None:
    # bfloat16 cannot count to 300 by ones: it stays at 256.
    tokens = torch.ones(1, 300, 1, dtype=torch.bfloat16)
    pooled = Features(tokens, mask=torch.ones(1, 300, dtype=torch.bool)).pooled
    assert pooled.item() == pytest.approx(1, rel=1 / 128)


def test_map_and_tokens_are_the_same_cells_row_by_row() -> None:
    image = torch.arange(24.0).reshape(1, 2, 3, 4)
    features = Features.from_map(image)
    assert features.grid == (3, 4)
    assert features.tokens[0, 5].tolist() == image[0, :, 1, 1].tolist()
    assert torch.equal(features.map, image)
    assert features.map.data_ptr() == image.data_ptr()
    with pytest.raises(ValueError, match="no map"):
        _ = Features(features.tokens).map


def test_a_mask_follows_a_map_to_its_new_grid() -> None:
    mask = torch.zeros(1, 4, 4, dtype=torch.bool)
    mask[0, 0, 1] = mask[0, 3, 3] = True
    features = Features(torch.zeros(1, 16, 2), (4, 4), mask.flatten(1), torch.tensor([True]))
    after = features.with_map(torch.zeros(1, 5, 2, 2))
    assert after.grid == (2, 2)
    assert after.mask is not None
    assert after.mask.tolist() == [[True, False, False, True]]
    assert after.present is features.present


def test_a_changed_number_of_tokens_never_leaves_a_mask_behind() -> None:
    features = Features(torch.zeros(2, 4, 3), (2, 2), present=torch.tensor([True, False]))
    same = features.with_tokens(torch.zeros(2, 4, 9))
    assert same.grid == (2, 2)
    fewer = features.with_tokens(torch.zeros(2, 2, 9))
    assert fewer.grid is None
    assert fewer.present is features.present
    masked = Features(torch.zeros(2, 4, 3), mask=torch.ones(2, 4, dtype=torch.bool))
    assert masked.with_tokens(torch.zeros(2, 4, 1)).mask is masked.mask
    with pytest.raises(ValueError, match="makes 2 tokens of 4 and leaves their mask behind"):
        masked.with_tokens(torch.zeros(2, 2, 3))


def test_map_changes_every_tensor_of_a_batch() -> None:
    batch = batch_of(6)
    part = batch.map(lambda tensor: tensor[2:5])
    assert len(part) == 3
    assert part.index.tolist() == [102, 103, 104]
    assert part.target.tolist() == [2, 3, 4]
    for name in ("a", "b"):
        assert torch.equal(part.inputs[name], batch.inputs[name][2:5])
        assert torch.equal(part.present[name], batch.present[name][2:5])
    assert torch.equal(part.valid["b"], batch.valid["b"][2:5])
    assert len(batch) == 6


@pytest.mark.parametrize(
    ("shape", "axis", "channels", "text"),
    [((7,), 0, 7, "7"), ((12, 5), 1, 5, "12 x 5"), ((3, 8, 9), 0, 3, "3 x 8 x 9")],
)
def test_channels_are_first_in_maps_and_last_elsewhere(
    shape: tuple[int, ...], axis: int, channels: int, text: str
) -> None:
    spec = InputSpec(shape)
    assert (spec.channel_axis, spec.channels, str(spec)) == (axis, channels, text)


def test_specs_of_features_and_width_of_the_logits() -> None:
    assert FeatureSpec.of(Features.from_map(torch.zeros(1, 3, 4, 5))) == FeatureSpec(3, 20, (4, 5))
    assert Task("classification", ("x", "y", "z"), (1, 1, 1)).outputs == 3
