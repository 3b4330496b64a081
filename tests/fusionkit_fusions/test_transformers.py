"""Joint transformer, Perceiver and bottleneck against their equations, written out sample by sample."""

from dataclasses import replace

import torch
from fusionkit_fusions.attention import Tokens
from fusionkit_fusions.bottleneck import Bottleneck
from fusionkit_fusions.joint_transformer import JointTransformer
from fusionkit_fusions.perceiver import Perceiver


def real(fusion, given, sample):
    """The tokens of one sample that are there, modality by modality."""
    made = fusion.tokens(given)
    return {name: held.value[sample][held.mask[sample]].unsqueeze(0) for name, held in made.items()}


def test_joint_transformer_sees_the_real_tokens_alone(shapes, features):
    given = features(shapes(4))
    given["hsi"] = replace(given["hsi"], present=torch.tensor([True, False, True, True, True]))
    fusion = JointTransformer(shapes(4), dim=16, heads=2).eval()
    fused = fusion(given)
    for sample in range(5):
        z = torch.cat([fusion.class_token, *real(fusion, given, sample).values()], 1)
        for layer in fusion.layers:
            z = layer(Tokens(z)).value
        torch.testing.assert_close(fused[sample], fusion.norm(z[0, 0]))


def test_perceiver_reads_all_tokens_into_the_latents(shapes, features):
    given = features(shapes(4))
    fusion = Perceiver(shapes(4), dim=16, heads=2, latents=3, iterations=2, depth=2).eval()
    fused = fusion(given)
    for sample in range(5):
        tokens = Tokens(torch.cat(list(real(fusion, given, sample).values()), 1))
        z = Tokens(fusion.latents.unsqueeze(0))
        for reading, thinking in zip(fusion.reading, fusion.thinking, strict=True):
            z = reading(z, tokens)
            for layer in thinking:
                z = layer(z)
        torch.testing.assert_close(fused[sample], fusion.norm(z.value[0].mean(0)))


def test_bottleneck_tokens_are_the_mean_over_those_present(shapes, features):
    given = features(shapes(3))
    given["hsi"] = replace(given["hsi"], present=torch.tensor([True, False, True, True, True]))
    fusion = Bottleneck(shapes(3), dim=16, heads=2, bottlenecks=2).eval()
    fused = fusion(given)
    for sample in range(5):
        streams = {
            name: torch.cat([fusion.class_tokens[name].unsqueeze(0), tokens], 1)
            for name, tokens in real(fusion, given, sample).items()
            if given[name].present[sample]
        }
        shared = fusion.bottleneck.unsqueeze(0)
        for layers in fusion.layers:
            copies = []
            for name, stream in streams.items():
                after = layers[name](Tokens(torch.cat([stream, shared], 1))).value
                streams[name] = after[:, :-2]
                copies.append(after[:, -2:])
            shared = torch.stack(copies).mean(0)
        expected = torch.stack([fusion.norms[name](stream[0, 0]) for name, stream in streams.items()]).mean(0)
        torch.testing.assert_close(fused[sample], expected)


def test_there_are_four_bottleneck_tokens(shapes):
    fusion = Bottleneck(shapes(2), dim=512)
    assert fusion.bottleneck.shape == (4, 512)
    assert abs(fusion.bottleneck.std().item() - 0.02) < 0.002
