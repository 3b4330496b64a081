"""The embedded encoder of text."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from fusionkit_encoders.sequence import Sequence
from fusionkit_encoders.text_transformer import TextTransformer
from torch.nn import functional as F

from fusionkit.errors import RequestError, ShapeError
from fusionkit.flow import InputSpec
from fusionkit.options import options_model

SPEC = InputSpec((9,), ragged=True, text=True, vocabulary=30)


def small(**options):
    return TextTransformer(SPEC, **{"width": 16, "layers": 2} | options)


def test_keeps_the_contract(check_encoder):
    check_encoder(small, SPEC)


def test_padding_changes_nothing(randomised):
    """A text gives the same tokens alone as beside a longer one, whatever ids stand behind it."""
    encoder = randomised(small()).eval()
    ids = torch.randint(30, (2, 9))
    valid = torch.arange(9) < torch.tensor([[4], [9]])
    features = encoder(ids, valid)
    torch.testing.assert_close(features.tokens[:1, :4], encoder(ids[:1, :4]).tokens, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(features.pooled[0], encoder(ids[:1, :4]).tokens[0].mean(0), rtol=1e-4, atol=1e-5)
    assert torch.equal(features.mask, valid)


def test_it_is_the_transformer_of_sequences_over_embedded_tokens(randomised):
    """Against `sequence` on one-hot vectors, whose first layer is the table of embeddings."""
    encoder = randomised(small()).eval()
    reference = Sequence(InputSpec((9, 30), ragged=True), variant="transformer", width=16).eval()
    weights = encoder.state_dict()
    weights["enter.weight"], weights["enter.bias"] = weights.pop("tokens.weight").T, torch.zeros(16)
    reference.load_state_dict(weights)
    ids, valid = torch.randint(30, (3, 9)), torch.arange(9) < torch.tensor([[9], [3], [1]])
    expected = reference(F.one_hot(ids, 30).float(), valid)
    torch.testing.assert_close(encoder(ids, valid).pooled, expected.pooled)


def test_order_matters(randomised):
    encoder = randomised(small()).eval()
    ids = torch.arange(9).unsqueeze(0)
    assert not torch.allclose(encoder(ids).pooled, encoder(ids.flip(1)).pooled, atol=1e-3)


@pytest.mark.parametrize("kind", ["bpe", "word"])
def test_options_make_the_tokenizer(kind):
    options = dict(options_model(TextTransformer)(tokenizer=kind, vocabulary=300, length=6, width=8))
    tokenizer = TextTransformer.tokenizer(**options)
    tokenizer.fit(["a red roof", "a red car", "a long red river beside a long road"])
    encoder = TextTransformer(tokenizer.spec, **options).eval()
    ids = torch.from_numpy(tokenizer("a long red roof and so on and on").astype(np.int64)).unsqueeze(0)
    assert encoder(ids).tokens.shape == (1, 6, 8)


def test_what_does_not_fit_is_told():
    with pytest.raises(ShapeError, match="not 9 x 4"):
        TextTransformer(InputSpec((9, 4)))
    with pytest.raises(ShapeError, match="reads text"):  # nobody has made tokens of it
        TextTransformer(InputSpec((), text=True))
    with pytest.raises(ShapeError, match="10 cannot be split among 4 heads"):
        small(width=10)
    with pytest.raises(RequestError, match="256 bytes"):
        TextTransformer.tokenizer(vocabulary=200)
