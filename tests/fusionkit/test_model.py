"""The model: absence honoured from end to end, encoders in step, shapes proven before anything is built."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from fusionkit_fakes import Cat, Conv, Fixed, Flat, Linear, Plus, Share, Shorten, Stack, Talk

from fusionkit.contract import Encoder, Fusion
from fusionkit.errors import RequestError, ShapeError
from fusionkit.flow import Batch, Features, InputSpec, Task
from fusionkit.model import Alone, Blueprint, FusionModel, Standardize, Statistics, meta_batch
from fusionkit.randomness import seed_torch

IMAGE, VECTOR, STEPS = InputSpec((2, 6, 6)), InputSpec((5,)), InputSpec((4, 3), ragged=True)
TASK = Task("classification", ("a", "b", "c"), (1, 1, 1))
ALL = {"image": IMAGE, "vector": VECTOR, "steps": STEPS}


def plan(inputs: dict[str, InputSpec], fusion: type[Fusion] = Cat, **options: Any) -> Blueprint:
    encoders: dict[str, Callable[[InputSpec], Encoder]] = {"image": Conv, "vector": Linear, "steps": Linear}
    encoders |= options.pop("encoders", {})
    chosen = {name: encoders.get(name, Conv) for name in inputs}
    return Blueprint(inputs, chosen, fusion, options.pop("make_fusion", fusion), TASK, **options)


def batch_of(inputs: dict[str, InputSpec], count: int = 6, seed: int = 0) -> Batch:
    """Random values, every third sample absent in each modality (another third each), sequences cut short."""
    random = torch.Generator().manual_seed(seed)
    batch = Batch({}, {}, torch.arange(count) % 3, torch.arange(count))
    for number, (name, spec) in enumerate(inputs.items()):
        batch.inputs[name] = torch.randn(count, *spec.shape, generator=random)
        batch.present[name] = torch.arange(count) % 3 != number
        if spec.ragged:
            batch.valid[name] = torch.arange(spec.shape[0]) < 1 + torch.arange(count)[:, None] % spec.shape[0]
    return batch


# Normalisation


@pytest.mark.parametrize(("shape", "axes"), [((3, 4, 5), (0, 2, 3)), ((6, 3), (0, 1)), ((3,), (0,))])
def test_standardize_works_channel_by_channel(shape: tuple[int, ...], axes: tuple[int, ...]) -> None:
    values = np.random.default_rng(0).normal(3, 7, (50, *shape))
    statistics = Statistics(tuple(values.mean(axes)), tuple(values.std(axes)))
    found = Standardize(InputSpec(shape), statistics)(torch.from_numpy(values)).numpy()
    np.testing.assert_allclose(found.mean(axes), 0, atol=1e-5)
    np.testing.assert_allclose(found.std(axes), 1, rtol=1e-5)


def test_standardize_leaves_constants_and_counts_finite() -> None:
    found = Standardize(InputSpec((2,)), Statistics((4.0, 1.0), (0.0, 1e-60)))(torch.tensor([[4, 1], [5, 1]]))
    assert found.tolist() == [[0, 0], [1, 0]]
    assert Standardize(InputSpec((2,)), None)(torch.tensor([[7, 0]], dtype=torch.uint8)).tolist() == [[7, 0]]


def test_only_what_the_blueprint_normalises_is_normalised() -> None:
    statistics = {"image": Statistics((1.0, 2.0), (3.0, 4.0)), "vector": Statistics((9.0,) * 5, (8.0,) * 5)}
    inputs = {"image": IMAGE, "vector": VECTOR}
    model = plan(inputs, normalized=frozenset(["image"])).build(statistics)
    image, vector = model.normalizers["image"], model.normalizers["vector"]
    assert image.mean.flatten().tolist() == [1, 2]
    assert image.std.flatten().tolist() == [3, 4]
    assert vector.mean.abs().sum() == 0
    assert (vector.std == 1).all()
    assert {"normalizers.image.mean", "normalizers.image.std"} <= model.state_dict().keys()


# Absence


@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize("fusion", [Cat, Talk])
@pytest.mark.parametrize("content", [float("nan"), float("inf"), -3e38, 17.0])
def test_what_stands_in_an_absent_slot_changes_nothing(training: bool, fusion: type[Fusion], content: float) -> None:
    encoders = {"image": partial(Conv, norm=True, forgets=True), "vector": partial(Linear, depth=2, dropout=0.3)}
    statistics = {name: Statistics((0.5,) * spec.channels, (2.0,) * spec.channels) for name, spec in ALL.items()}
    model = plan(ALL, fusion, encoders=encoders, branches=True, normalized=frozenset(ALL)).build(statistics)
    model.train(training)
    clean, dirty = batch_of(ALL), batch_of(ALL)
    for name in ALL:
        dirty.inputs[name][~dirty.present[name]] = content
    dirty.valid["steps"][~dirty.present["steps"]] = False
    dirty.inputs["steps"][~dirty.valid["steps"]] = content
    answers, gradients = [], []
    for batch in (clean, dirty):
        seed_torch(0)
        model.zero_grad()
        state = {name: value.clone() for name, value in model.state_dict().items()}
        output = model(batch)
        (output.logits.square().sum() + sum(b.square().sum() for b in output.branch_logits.values())).backward()
        answers.append([output.logits, output.fused, *output.embeddings.values(), *output.branch_logits.values()])
        gradients.append([parameter.grad.clone() for parameter in model.parameters()])
        answers[-1] += [value.clone() for value in model.state_dict().values()]  # batch norms' running figures too
        model.load_state_dict(state)
    for one, other in zip(*answers, strict=True):
        assert torch.equal(one, other)
        assert torch.isfinite(one).all()
    for one, other in zip(*gradients, strict=True):
        assert torch.equal(one, other)


class Watch(Cat):
    """Notes, between the stages, which modalities say who has them."""

    def exchange(self, stage: int, features: dict[str, Features]) -> dict[str, Features]:
        self.told = [[name for name, feature in features.items() if feature.present is not None]]
        return features


def test_an_absent_modality_is_zero_when_pooled_even_where_an_encoder_forgets() -> None:
    encoders = {"image": partial(Conv, forgets=True)}
    model = plan(ALL, Watch, encoders=encoders).build({}).eval()
    output = model(batch_of(ALL))
    assert isinstance(model.fusion, Watch)
    assert model.fusion.told == [["image", "vector", "steps"]]
    for number, name in enumerate(ALL):
        absent = torch.arange(6) % 3 == number
        assert output.embeddings[name][absent].abs().sum() == 0
        assert (output.embeddings[name][~absent].abs().sum(1) > 0).all()


def test_presence_changes_the_output() -> None:
    model = plan(ALL).build({}).eval()
    batch = batch_of(ALL)
    before = model(batch).logits
    batch.present["vector"] = ~batch.present["vector"]
    assert (before != model(batch).logits).any(1).all()


def test_a_shorter_sequence_is_no_sequence_of_zeros() -> None:
    model = plan({"steps": STEPS}).build({}).eval()
    batch = batch_of({"steps": STEPS}, count=1)
    batch.present["steps"][:] = True
    batch.valid["steps"] = torch.tensor([[True, True, False, False]])
    short = model(batch)
    features = model.encoders["steps"](batch.inputs["steps"][:, :2])
    assert torch.allclose(short.embeddings["steps"], features.pooled)
    batch.valid["steps"][:] = True
    batch.inputs["steps"][:, 2:] = 0
    assert not torch.allclose(short.logits, model(batch).logits)


def test_attention_over_an_absent_sequence_is_no_division_by_zero() -> None:
    class Attend(Linear):
        def embed(self, value: torch.Tensor, valid: torch.Tensor | None) -> Features:
            entered = self.enter(value)
            scores = entered @ entered.transpose(1, 2)
            assert valid is not None
            weights = scores.masked_fill(~valid.unsqueeze(1), float("-inf")).softmax(-1)
            return Features(weights @ entered, mask=valid)

    model = plan({"image": IMAGE, "steps": STEPS}, encoders={"steps": Attend}).build({})
    batch = batch_of({"image": IMAGE, "steps": STEPS})
    batch.valid["steps"][~batch.present["steps"]] = False
    model(batch).logits.sum().backward()
    assert all(torch.isfinite(parameter.grad).all() for parameter in model.parameters())


def test_samples_do_not_see_one_another() -> None:
    model = plan(ALL, Talk).build({}).eval()
    batch = batch_of(ALL)
    together = model(batch).logits
    for row in range(len(batch)):
        alone = model(batch.map(lambda tensor, row=row: tensor[row : row + 1])).logits
        assert torch.allclose(alone[0], together[row], atol=1e-6)


# Encoders in step


def test_encoders_of_few_and_many_stages_meet_in_step() -> None:
    specs = {"image": InputSpec((2, 16, 16)), "vector": VECTOR, "steps": STEPS}
    encoders = {
        "image": partial(Conv, depth=4, dim=3),
        "vector": partial(Linear, depth=2),
        "steps": partial(Linear, depth=0),
    }
    model = plan(specs, Talk, encoders=encoders).build({})
    assert isinstance(model.fusion, Talk)
    assert model.fusion.joined == 1
    run: list[str] = []
    for name, encoder in model.encoders.items():
        for number, stage in enumerate(encoder.stages):
            stage.register_forward_hook(lambda *_, said=f"{name}{number}": run.append(said))
    model.fusion.diary.clear()
    model(batch_of(specs))
    # After step s of 4 an encoder of L stages has run ceil(s * L / 4): the vector's first stage comes with step 1.
    assert run == ["image0", "vector0", "image1", "image2", "vector1", "image3"]
    sizes = [(64, 3), (16, 3), (4, 3)]
    assert model.fusion.diary == [
        (stage, {"image": size, "vector": (1, 4), "steps": (4, 4)}) for stage, size in enumerate(sizes)
    ]


def test_the_fusion_is_told_the_shape_after_every_stage() -> None:
    _, _, specs = plan({"image": InputSpec((2, 16, 16)), "vector": VECTOR}).prove()
    image, vector = specs["image"], specs["vector"]
    assert (image.dim, image.tokens, image.grid) == (4, 16, (4, 4))
    assert [(stage.tokens, stage.grid) for stage in image.stages] == [(64, (8, 8)), (16, (4, 4))]
    assert (vector.dim, vector.tokens, vector.grid, len(vector.stages)) == (4, 1, None, 1)


def test_what_is_exchanged_reaches_the_other_modality() -> None:
    specs = {"image": IMAGE, "vector": VECTOR}
    model = plan(specs, Talk).build({}).eval()
    batch = batch_of(specs)
    for name in specs:
        batch.present[name][:] = True
    before = model(batch).embeddings["image"]
    batch.inputs["vector"] += 1
    assert not torch.allclose(before, model(batch).embeddings["image"])


def test_joined_encoders_share_their_weights() -> None:
    specs = {"one": IMAGE, "two": IMAGE}
    model = plan(specs, Share).build({})
    assert model.encoders["one"].enter is model.encoders["two"].enter
    assert sum("enter.weight" in name for name, _ in model.named_parameters()) == 1


# Early fusion


def test_early_fusion_leaves_one_encoder_that_reads_all() -> None:
    specs = {"one": IMAGE, "two": InputSpec((3, 6, 6))}
    model = plan(specs, Stack).build({}).eval()
    assert list(model.encoders) == ["one"]
    assert model.encoders["one"].spec == InputSpec((5, 6, 6))
    batch = batch_of(specs)
    batch.present["two"] = torch.tensor([True, False, False, True, True, True])
    batch.present["one"] = torch.tensor([True, True, False, False, True, True])
    before = model(batch)
    assert before.embeddings["one"][2].abs().sum() == 0  # neither is there
    assert (before.embeddings["one"][[0, 1, 3]].abs().sum(1) > 0).all()
    batch.inputs["two"][1:3] = float("nan")
    assert torch.equal(before.logits, model(batch).logits)


def test_a_sequence_arranged_into_a_vector_is_no_longer_ragged() -> None:
    class Shorter(Cat):
        @classmethod
        def arrange(cls, inputs: dict) -> dict:
            held = inputs["steps"]
            return {"steps": type(held)(held.value.mean(1), held.present)}

    model, _, specs = plan({"steps": STEPS}, Shorter).prove()
    assert model.encoders["steps"].spec == InputSpec((3,))
    assert specs["steps"].tokens == 1


# Proof and building


class Crash(Fixed):
    def __init__(self, spec: InputSpec):
        raise RequestError("no backbone is named 'resnet5'; did you mean 'resnet50'?")


class Invent(Cat):
    @classmethod
    def arrange(cls, inputs: dict) -> dict:
        return inputs | {"both": inputs["image"]}


@pytest.mark.parametrize(
    ("inputs", "fusion", "encoders", "modality", "message"),
    [
        (
            {"image": IMAGE, "vector": VECTOR},
            Cat,
            {"image": Linear},
            "image",
            "a vector or a sequence is needed, not 2 x 6",
        ),
        (
            {"image": IMAGE, "vector": VECTOR},
            Cat,
            {"vector": Conv},
            "vector",
            "encoder of vector cannot read 5: not enough",
        ),
        (
            {"image": IMAGE},
            Cat,
            {"image": Fixed},
            "image",
            "cannot read 2 x 6 x 6: Input width doesn't match model (8).",
        ),
        ({"image": IMAGE}, Cat, {"image": Crash}, "image", "no backbone is named 'resnet5'; did you mean 'resnet50'?"),
        ({"steps": STEPS}, Cat, {"steps": Shorten}, "steps", "makes 2 tokens of 4 and leaves their mask behind"),
        (
            {"image": IMAGE, "vector": VECTOR},
            Plus,
            {"vector": partial(Linear, dim=7)},
            None,
            "Plus cannot fuse image 4 tokens x 4, vector 1 tokens x 7: stack expects each tensor to be equal size",
        ),
        ({"image": IMAGE}, Flat, {}, None, "it returns [2, 4, 4] for a batch of 2, not [B, D]"),
        ({"one": IMAGE, "two": InputSpec((2, 6, 7))}, Stack, {}, None, "cannot be arranged: the maps differ in size"),
        ({"image": IMAGE}, Invent, {}, None, "it leaves ['both', 'image'], and there are encoders for ['image']"),
    ],
)
def test_what_does_not_fit_is_found_without_data_and_blamed(
    inputs: dict, fusion: type[Fusion], encoders: dict, modality: str | None, message: str
) -> None:
    with pytest.raises(ShapeError) as told:
        plan(inputs, fusion, encoders=encoders).prove()
    assert told.value.modality == modality
    assert message in str(told.value)
    assert "\n" not in str(told.value)


def test_the_proof_holds_no_memory() -> None:
    model, batch, _ = plan(ALL).prove()
    everything = [*model.parameters(), *model.buffers(), *batch.inputs.values(), batch.target]
    assert {tensor.device.type for tensor in everything} == {"meta"}
    assert len(batch) == 2
    assert meta_batch(ALL, 5).valid["steps"].shape == (5, 4)


def test_initial_weights_depend_on_the_seed_and_the_parts_name_alone() -> None:
    def weights(inputs: dict, seed: int) -> dict[str, torch.Tensor]:
        torch.manual_seed(np.random.default_rng().integers(1 << 30))
        return dict(plan(inputs, seed=seed).build({}).named_parameters())

    first, again, other = weights(ALL, 1), weights(ALL, 1), weights(ALL, 2)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["encoders.image.enter.weight"], other["encoders.image.enter.weight"])
    fewer = weights({"vector": VECTOR, "image": IMAGE}, 1)
    for name in fewer:
        if name.startswith("encoders."):
            assert torch.equal(fewer[name], first[name])


def test_a_built_model_has_the_proven_shapes_and_runs() -> None:
    blueprint = plan(ALL, Talk, branches=True)
    proven, _, _ = blueprint.prove()
    built = blueprint.build({})
    assert isinstance(built, FusionModel)
    shapes = {name: value.shape for name, value in proven.state_dict().items()}
    assert shapes == {name: value.shape for name, value in built.state_dict().items()}
    output = built(batch_of(ALL))
    assert output.logits.shape == (6, 3)
    assert {name: logits.shape for name, logits in output.branch_logits.items()} == dict.fromkeys(ALL, (6, 3))


def test_a_part_that_cannot_be_built_for_real_is_blamed_too() -> None:
    class Download(Linear):
        def __init__(self, spec: InputSpec):
            super().__init__(spec)
            if self.enter.weight.device.type != "meta":
                raise RequestError("the weights cannot be downloaded")

    with pytest.raises(ShapeError, match="the weights cannot be downloaded") as told:
        plan({"vector": VECTOR}, encoders={"vector": Download}).build({})
    assert told.value.modality == "vector"


def test_one_modality_alone_needs_no_fusion() -> None:
    model = plan({"image": IMAGE}, Alone).build({}).eval()
    output = model(batch_of({"image": IMAGE}))
    assert torch.equal(output.fused, output.embeddings["image"])
    assert not list(model.fusion.parameters())


def test_quantities_of_another_standardisation_are_said_in_this_ones() -> None:
    inputs = {"vector": InputSpec((5,))}
    tasks = [
        Task("regression", ("x", "y"), samples=9, mean=mean, std=std)
        for mean, std in [((10.0, -1.0), (2.0, 4.0)), ((7.0, 3.0), (5.0, 0.5))]
    ]
    teacher, pupil = (Blueprint(inputs, {"vector": Linear}, Cat, Cat, task).build({}) for task in tasks)
    logits = torch.tensor([[0.5, -1.0], [2.0, 0.0]])
    quantities = logits * torch.tensor([2.0, 4.0]) + torch.tensor([10.0, -1.0])
    expected = (quantities - torch.tensor([7.0, 3.0])) / torch.tensor([5.0, 0.5])
    torch.testing.assert_close(teacher.in_scale_of(pupil, logits), expected)
    # They come with the weights, whatever task the model was rebuilt for.
    rebuilt = Blueprint(inputs, {"vector": Linear}, Cat, Cat, tasks[1]).restore()
    rebuilt.load_state_dict(teacher.state_dict())
    torch.testing.assert_close(rebuilt.in_scale_of(pupil, logits), expected)
