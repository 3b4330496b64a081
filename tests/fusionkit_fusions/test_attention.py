"""What the fusions that attend share."""

import pytest
import torch
from fusionkit_fusions.attention import SPREAD, Attention, Layer, Tokenizers, Tokens, together
from torch import nn

from fusionkit.errors import RequestError


def reference(attention: Attention) -> nn.MultiheadAttention:
    """torch's own attention with the same weights."""
    dim = attention.out.in_features
    other = nn.MultiheadAttention(dim, attention.heads, batch_first=True)
    with torch.no_grad():
        other.in_proj_weight.copy_(torch.cat([attention.query.weight, attention.key_value.weight]))
        other.in_proj_bias.copy_(torch.cat([attention.query.bias, attention.key_value.bias]))
        other.out_proj.load_state_dict(attention.out.state_dict())
    return other


@pytest.mark.parametrize("masked", [False, True])
def test_attends_as_torch_does(masked):
    attention = Attention(12, 3, 0.0)
    x, context = torch.randn(4, 5, 12), torch.randn(4, 7, 12)
    mask = torch.arange(7) < torch.tensor([[7], [1], [3], [6]]) if masked else None
    expected, weights = reference(attention)(
        x, context, context, key_padding_mask=None if mask is None else ~mask, average_attn_weights=False
    )
    torch.testing.assert_close(attention(x, Tokens(context, mask)), expected)
    out, seen = attention.with_weights(x, Tokens(context, mask))
    torch.testing.assert_close(out, expected)
    torch.testing.assert_close(seen, weights)


def test_without_a_real_key_the_result_is_zero():
    attention = Attention(8, 2, 0.0)
    mask = torch.tensor([[True, False], [False, False]])
    out, weights = attention.with_weights(torch.randn(2, 3, 8), Tokens(torch.randn(2, 2, 8), mask))
    assert not out[1].any()
    assert not weights[1].any()
    assert out[0].any()
    assert not attention(torch.randn(2, 3, 8), Tokens(torch.randn(2, 2, 8), mask))[1].any()


def test_weights_are_dropped_in_training_alone():
    attention = Attention(8, 2, 0.9)
    x = torch.randn(2, 3, 8)
    context = Tokens(torch.randn(2, 6, 8))
    torch.testing.assert_close(attention.eval()(x, context), attention(x, context))
    attention.train()
    assert not torch.allclose(attention(x, context), attention(x, context))


def test_heads_divide_the_width():
    with pytest.raises(RequestError, match="3 heads do not divide a width of 8"):
        Attention(8, 3, 0.0)


def test_a_layer_is_two_residual_steps():
    layer = Layer(8, 2, 0.0, cross=True)
    x, context = torch.randn(2, 3, 8), torch.randn(2, 5, 8)
    normed = layer.context_norm(context)
    between = x + reference(layer.attention)(layer.norm(x), normed, normed)[0]
    torch.testing.assert_close(layer(Tokens(x), Tokens(context)).value, between + layer.feed_forward(between))


def test_a_vector_becomes_several_tokens(shapes, features):
    inputs, given = shapes(4), features(shapes(4))
    made = Tokenizers(inputs, 8)(given)
    assert made["vector"].value.shape == (5, SPREAD, 8)
    assert made["vector"].mask.shape == (5, SPREAD)
    assert made["hsi"].value.shape == (5, 9, 8)
    assert torch.equal(made["text"].mask, given["text"].mask)


def test_sequences_in_a_row():
    one, two = torch.randn(2, 3, 4), torch.randn(2, 1, 4)
    assert together([Tokens(one), Tokens(two)]).mask is None
    mask = torch.tensor([[True], [False]])
    joined = together([Tokens(one), Tokens(two, mask)])
    assert torch.equal(joined.value, torch.cat([one, two], 1))
    assert joined.mask.tolist() == [[True] * 4, [True, True, True, False]]
