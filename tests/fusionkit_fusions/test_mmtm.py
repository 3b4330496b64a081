"""Multimodal transfer module."""

from __future__ import annotations

import torch
from fusionkit_encoders.timm_stages import TransformerFeatures
from fusionkit_fakes import Conv, Linear
from fusionkit_fusions.mmtm import MMTM

from fusionkit.flow import Features, FeatureSpec, Input, InputSpec, Task
from fusionkit.model import Blueprint

MAP = FeatureSpec(6, 4, (2, 2), (FeatureSpec(4, 9, (3, 3)), FeatureSpec(6, 4, (2, 2))))
STEPS = FeatureSpec(5, 3, None, (FeatureSpec(5, 3), FeatureSpec(5, 3)))
VECTOR = FeatureSpec(3, 1, None, (FeatureSpec(3, 1),))
PRESENT = torch.tensor([True, False])


def staged(value: float = torch.nan) -> dict[str, Features]:
    """Features behind the first stage: a map that the second sample lacks, a sequence with a padded step, a vector."""
    map, steps = torch.randn(2, 9, 4), torch.randn(2, 3, 5)
    map[1] = value
    mask = torch.tensor([[True, True, True], [True, False, True]])
    return {
        "map": Features(map, (3, 3), present=PRESENT),
        "steps": Features(steps, mask=mask),
        "vector": Features.from_vector(torch.randn(2, 3)),
    }


def test_gates_are_the_papers():
    """Sample by sample and channel by channel, as the equations say."""
    fusion = MMTM({"map": MAP, "steps": STEPS, "vector": VECTOR}, ratio=2)
    (module,) = fusion.between
    features = staged()
    after = fusion.exchange(0, features)
    for sample in range(2):
        rows = [
            features["map"].tokens[sample].mean(0) if sample == 0 else torch.zeros(4),
            features["steps"].tokens[sample][features["steps"].mask[sample]].mean(0),
            features["vector"].tokens[sample, 0],
        ]
        s = torch.cat(rows)
        z = (module.squeeze.weight @ s + module.squeeze.bias).clamp(min=0)
        assert len(z) == (4 + 5 + 3) // 2
        for name, excite in module.excite.items():
            gate = 2 / (1 + torch.exp(-(excite.weight @ z + excite.bias)))
            real = after[name].token_mask
            cells = slice(None) if real is None else real[sample]
            expected = features[name].tokens[sample][cells] * gate
            torch.testing.assert_close(after[name].tokens[sample][cells], expected)


def test_an_absent_modality_spoils_no_gradient():
    fusion = MMTM({"map": MAP, "steps": STEPS, "vector": VECTOR})
    after = fusion.exchange(0, staged(torch.inf))
    sum(feature.pooled.sum() for feature in after.values()).backward()
    assert all(p.grad.isfinite().all() for p in fusion.parameters())
    assert after["map"].tokens.isfinite().all()


def test_class_tokens_travel_on():
    fusion = MMTM({"map": MAP})
    prefix = torch.randn(2, 1, 4)
    after = fusion.exchange(0, {"map": TransformerFeatures(torch.randn(2, 9, 4), (3, 3), prefix=prefix)})["map"]
    assert after.prefix is prefix
    assert after.grid == (3, 3)


def test_encoders_of_one_stage_are_gated_in_the_end():
    """Else the module would have no effect on vectors."""
    assert len(MMTM({"map": MAP, "vector": VECTOR}).between) == 1
    assert MMTM({"map": MAP, "vector": VECTOR}).behind is None
    fusion = MMTM({"vector": VECTOR, "other": VECTOR})
    assert len(fusion.between) == 0
    features = {name: Features.from_vector(torch.randn(2, 3)) for name in ("vector", "other")}
    fused = fusion(features)
    gated = fusion.behind(features)
    torch.testing.assert_close(fused.branches["other"], gated["other"].tokens[:, 0])
    torch.testing.assert_close(fused.vector, torch.cat([fused.branches["vector"], fused.branches["other"]], 1))
    moved = fusion(features | {"other": Features.from_vector(torch.randn(2, 3))})
    assert (moved.branches["vector"] != fused.branches["vector"]).any()


def test_the_scores_are_averaged_over_those_present():
    scores = {"a": torch.tensor([[1.0, 5.0], [2.0, 3.0]]), "b": torch.tensor([[3.0, -1.0], [torch.inf, 9.0]])}
    features = {"a": Features(torch.zeros(2, 1, 3)), "b": Features(torch.zeros(2, 1, 3), present=PRESENT)}
    fusion = MMTM(dict.fromkeys("ab", VECTOR))
    assert torch.equal(fusion.decide(None, scores, features), torch.tensor([[2.0, 2.0], [2.0, 3.0]]))
    nobody = {name: Features(torch.zeros(2, 1, 3), present=torch.zeros(2).bool()) for name in "ab"}
    assert torch.equal(fusion.decide(None, scores, nobody), torch.zeros(2, 2))


def test_one_branch_hears_of_the_other_between_the_stages():
    """In a whole model: the map's own prediction moves with the vector, and there is no main head."""
    inputs = {"image": InputSpec((2, 8, 8)), "vector": InputSpec((5,))}
    encoders = {"image": lambda spec: Conv(spec, depth=3), "vector": lambda spec: Linear(spec, depth=1)}
    task = Task("classification", ("x", "y", "z"), (1, 1, 1))
    model = Blueprint(inputs, encoders, MMTM, MMTM, task).build({}).eval()
    assert model.head is None
    everybody = torch.ones(4, dtype=torch.bool)
    image = Input(torch.randn(4, 2, 8, 8), everybody)

    def predicted(vector):
        given = {"image": image, "vector": Input(vector, everybody)}
        return model.conclude(model.fusion.encode(model.encoders, given))

    one, other = predicted(torch.randn(4, 5)), predicted(torch.randn(4, 5))
    assert (one.branch_logits["image"] != other.branch_logits["image"]).any(1).all()
    torch.testing.assert_close(one.logits, (one.branch_logits["image"] + one.branch_logits["vector"]) / 2)
