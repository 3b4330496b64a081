"""Distillation, against stored tensors and SciPy."""

from __future__ import annotations

from operator import itemgetter
from pathlib import Path

import numpy as np
import pytest
import torch
from fusionkit_losses.cross_entropy import CrossEntropy
from fusionkit_losses.deep_supervision import DeepSupervision
from fusionkit_losses.distillation import Distillation
from scipy.special import expit, rel_entr, softmax
from torch import Tensor

from fusionkit.errors import RequestError
from fusionkit.flow import Batch, Output, Task
from fusionkit.testing import LossSuite

ORACLE = Path(__file__).parents[1] / "oracles" / "losses_and_fusion.pt"
CLASSES = Task("classification", ("a", "b", "c"), (2, 2, 2))
LABELS = Task("multilabel", ("a", "b", "c"), (2, 2, 2), 6)
QUANTITIES = Task("regression", ("a", "b", "c"), samples=6, mean=(0.0,) * 3, std=(1.0,) * 3)
TASKS = pytest.mark.parametrize("task", [CLASSES, LABELS, QUANTITIES], ids=lambda task: task.kind)
RUN = "runs/teacher"
WAYS = pytest.mark.parametrize(
    "way",
    [{"direction": "main_to_branches"}, {"direction": "branches_to_main"}, {"direction": "mutual"}, {"teacher": RUN}],
    ids=lambda way: next(iter(way.values())),
)
LIDAR = [True, False, True, True, False, True]


class TestSuite(LossSuite):
    component = Distillation


class TestSuiteOfMutual(LossSuite):
    component = Distillation
    options = {"direction": "mutual", "t_squared": True}


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def output(rows: int = 6) -> Output:
    """Two branches, and an external teacher that knows the lidar alone; all of them leaves of a graph."""

    def leaf(width: int, seed: int) -> Tensor:
        return random(rows, width, seed=seed).requires_grad_()

    return Output(
        logits=leaf(3, 0),
        fused=leaf(4, 1),
        embeddings={"image": leaf(5, 2), "lidar": leaf(6, 3)},
        branch_logits={"image": leaf(3, 4), "lidar": leaf(3, 5)},
        teachers={RUN: Output(leaf(3, 6), leaf(7, 7), {"lidar": leaf(6, 8)})},
    )


def rows_of(said: Output, rows: slice) -> Output:
    part = said.map(itemgetter(rows))
    part.teachers = {name: teacher.map(itemgetter(rows)) for name, teacher in said.teachers.items()}
    return part


def batch(rows: int = 6, lidar: list[bool] | None = None) -> Batch:
    everybody = torch.ones(rows, dtype=torch.bool)
    present = {"image": everybody, "lidar": everybody if lidar is None else torch.tensor(lidar)}
    return Batch({}, present, torch.zeros(rows, dtype=torch.int64), torch.arange(rows))


def fitted(task: Task, said: Output, **options) -> Distillation:
    torch.manual_seed(0)
    loss = Distillation(task, **options)
    loss.fit_to(said)
    return loss


def divergence(task: Task, teacher: Tensor, learner: Tensor, temperature: float) -> np.ndarray:
    """KL of each sample, in SciPy."""
    one, other = (tensor.detach().double().numpy() / temperature for tensor in (teacher, learner))
    if task.kind == "regression":
        return ((one - other) ** 2).mean(1) * temperature**2
    if task.kind == "classification":
        return rel_entr(softmax(one, 1), softmax(other, 1)).sum(1)
    return (rel_entr(expit(one), expit(other)) + rel_entr(expit(-one), expit(-other))).mean(1)


def test_the_oracle_with_its_gradients():
    """Be Your Own Teacher: main + sum over branches of [0.3 CE_T(branch, main) + 0.7 CE(branch)], without T^2."""
    given = torch.load(ORACLE, weights_only=True)["self_distill"]
    task = Task("classification", tuple("abcdefghi"), (1,) * 9)
    leaves = [tensor.clone().requires_grad_() for tensor in (given["main"], *given["branches"])]
    embeddings = {"image": random(4, 1), "lidar": random(4, 1)}
    said = Output(leaves[0], random(4, 1), embeddings, {"image": leaves[1], "lidar": leaves[2]})
    samples = Batch({}, batch(4).present, given["target"], torch.arange(4))
    share = given["coefficient"]
    for form in ("cross_entropy", "kl"):
        distillation = Distillation(task, temperature=given["T"], form=form)
        loss = CrossEntropy(task)(said, samples) + (1 - share) * DeepSupervision(task)(said, samples)
        loss = loss + share * distillation(said, samples)
        if form == "cross_entropy":
            torch.testing.assert_close(loss, given["loss"], rtol=0, atol=1e-6)
        for found, expected in zip(torch.autograd.grad(loss, leaves), given["grad"], strict=True):
            torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)


@TASKS
@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_every_direction_is_what_scipy_says(task, temperature):
    said, samples = output(), batch()
    main, (image, lidar) = said.logits, said.branch_logits.values()

    def apart(teacher: Tensor, learner: Tensor) -> float:
        return divergence(task, teacher, learner, temperature).mean()

    expected = {
        "main_to_branches": apart(main, image) + apart(main, lidar),
        "branches_to_main": (apart(image, main) + apart(lidar, main)) / 2,
        "mutual": (
            (apart(image, main) + apart(lidar, main))
            + (apart(main, image) + apart(lidar, image))
            + (apart(main, lidar) + apart(image, lidar))
        )
        / 2,
    }
    for direction, value in expected.items():
        found = Distillation(task, direction=direction, temperature=temperature)(said, samples)
        assert found.item() == pytest.approx(value, rel=1e-5), direction
    found = Distillation(task, teacher=RUN, temperature=temperature)(said, samples)
    assert found.item() == pytest.approx(apart(said.teachers[RUN].logits, main), rel=1e-5)


@TASKS
@pytest.mark.parametrize("features", [0.0, 0.5])
def test_teachers_get_no_gradient_and_learners_do(task, features):
    learning = {
        "main_to_branches": {"image", "lidar"},
        "branches_to_main": {"main"},
        "mutual": {"main", "image", "lidar"},
        RUN: {"main"},
    }
    for way, learners in learning.items():
        said = output()
        options = {"teacher": RUN} if way == RUN else {"direction": way}
        fitted(task, said, features=features, **options)(said, batch()).backward()
        teacher = said.teachers[RUN]
        logits = {"main": said.logits, **said.branch_logits, "external": teacher.logits}
        vectors = {"main": said.fused, **said.embeddings, "external": teacher.fused}
        assert {name for name, tensor in logits.items() if tensor.grad is not None and tensor.grad.any()} == learners
        if features:
            assert {name for name, tensor in vectors.items() if tensor.grad is not None} == learners


def test_mutual_does_not_tell_its_members_apart():
    """Main and branches in any roles give the same value, and each the gradient that it had in another's place."""
    tensors = [random(6, 3, seed=seed) for seed in range(3)]
    found = []
    for places in ((0, 1, 2), (2, 0, 1), (1, 0, 2)):
        leaves = [tensor.clone().requires_grad_() for tensor in tensors]
        main, image, lidar = (leaves[place] for place in places)
        embeddings = {"image": random(6, 1), "lidar": random(6, 1)}
        said = Output(main, random(6, 1), embeddings, {"image": image, "lidar": lidar})
        loss = Distillation(CLASSES, direction="mutual")(said, batch())
        found.append([loss.detach(), *torch.autograd.grad(loss, leaves)])
    for other in found[1:]:
        torch.testing.assert_close(other, found[0])


def test_a_member_of_mutual_has_the_gradient_of_a_learner_alone():
    """What it teaches the others tells it nothing."""
    said = output()
    mutual = torch.autograd.grad(Distillation(CLASSES, direction="mutual")(said, batch()), said.logits)[0]
    learning = Distillation(CLASSES, direction="branches_to_main")(said, batch())
    torch.testing.assert_close(mutual, torch.autograd.grad(learning, said.logits)[0])


def test_an_external_teacher_that_has_one_of_its_modalities_teaches():
    said = output()
    teacher = said.teachers[RUN]
    loss = Distillation(CLASSES, teacher=RUN)
    everybody = loss(said, batch())
    teacher.embeddings["image"] = random(6, 5)
    torch.testing.assert_close(loss(said, batch(lidar=LIDAR)), everybody)


@WAYS
@pytest.mark.parametrize("task", [CLASSES, LABELS], ids=lambda task: task.kind)
def test_the_switch_multiplies_by_the_square_of_the_temperature(way, task):
    plain, scaled = (
        Distillation(task, temperature=3.0, t_squared=on, **way)(output(), batch()) for on in (False, True)
    )
    torch.testing.assert_close(scaled, 9 * plain, rtol=1e-6, atol=0)


def test_the_switch_leaves_features_alone():
    said = output()
    plain, scaled = (fitted(CLASSES, said, features=0.5, t_squared=on)(said, batch()) for on in (False, True))
    logits_alone = Distillation(CLASSES)(said, batch())
    torch.testing.assert_close(scaled - plain, 8 * logits_alone)


def test_gradients_at_high_temperature_are_the_squared_error_of_centred_logits():
    """Hinton et al., eq. 4: with T^2, the gradient tends to (z_i - v_i) / K for logits of zero mean."""
    said = output()
    loss = Distillation(CLASSES, teacher=RUN, temperature=1000.0, t_squared=True)
    gradient = torch.autograd.grad(loss(said, batch()), said.logits)[0]
    z, v = (logits - logits.mean(1, keepdim=True) for logits in (said.logits, said.teachers[RUN].logits))
    torch.testing.assert_close(6 * gradient, ((z - v) / 3).detach(), rtol=0, atol=2e-3)


@TASKS
def test_agreement_costs_nothing(task):
    same = random(6, 3)
    said = Output(same, random(6, 4), {"image": random(6, 5)}, {"image": same.clone()})
    assert Distillation(task)(said, batch()).item() == pytest.approx(0, abs=1e-6)


def test_cross_entropy_is_larger_by_the_teachers_entropy():
    said = output()
    kl, ce = (Distillation(CLASSES, teacher=RUN, form=form)(said, batch()).item() for form in ("kl", "cross_entropy"))
    taught = softmax(said.teachers[RUN].logits.detach().double().numpy() / 3, 1)
    assert ce - kl == pytest.approx(-(taught * np.log(taught)).sum(1).mean(), rel=1e-5)


@TASKS
def test_pairs_count_for_the_samples_that_both_know(task):
    """By hand, with a lidar that two samples lack; the external teacher knows the lidar alone."""
    said, samples, here = output(), batch(lidar=LIDAR), np.array(LIDAR)
    main, (image, lidar) = said.logits, said.branch_logits.values()

    def apart(teacher: Tensor, learner: Tensor) -> np.ndarray:
        return divergence(task, teacher, learner, 3.0)

    both = 1 + here
    expected = {
        "main_to_branches": apart(main, image) + here * apart(main, lidar),
        "branches_to_main": (apart(image, main) + here * apart(lidar, main)) / both,
        "mutual": (apart(image, main) + here * apart(lidar, main)) / both
        + (apart(main, image) + here * apart(lidar, image)) / both
        + here * (apart(main, lidar) + apart(image, lidar)) / 2,
    }
    for direction, value in expected.items():
        found = Distillation(task, direction=direction)(said, samples)
        assert found.item() == pytest.approx(value.mean(), rel=1e-5), direction
    found = Distillation(task, teacher=RUN)(said, samples)
    assert found.item() == pytest.approx((here * apart(said.teachers[RUN].logits, main)).mean(), rel=1e-5)


@TASKS
@WAYS
@pytest.mark.parametrize("nonsense", [torch.inf, -torch.inf, torch.nan])
def test_what_stands_in_an_absent_slot_changes_nothing(task, way, nonsense):
    found = []
    for filler in (0.0, nonsense):
        said = output()
        lacking = [said.branch_logits["lidar"], said.embeddings["lidar"]]
        lacking += [said.teachers[RUN].logits, said.teachers[RUN].fused]
        with torch.no_grad():
            for tensor in lacking:
                tensor[~torch.tensor(LIDAR)] = filler
        loss = fitted(task, said, features=0.5, **way)
        value = loss(said, batch(lidar=LIDAR))
        value.backward()
        leaves = [said.logits, said.fused, *said.branch_logits.values(), *said.embeddings.values(), *loss.parameters()]
        found.append([value.detach(), *(leaf.grad for leaf in leaves if leaf.grad is not None)])
    assert found[0][0].isfinite()
    torch.testing.assert_close(found[1], found[0])


@TASKS
@WAYS
def test_parts_with_absent_modalities_add_up(task, way):
    said, samples = output(), batch(lidar=LIDAR)
    loss = fitted(task, said, features=0.5, **way)
    total = 0.0
    for rows in (slice(0, 2), slice(2, 3), slice(3, 6)):
        part = samples.map(itemgetter(rows))
        total += loss.count(part) * loss(rows_of(said, rows), part)
    torch.testing.assert_close(total / loss.count(samples), loss(said, samples))


@WAYS
def test_where_nobody_knows_anything_nothing_is_added_and_a_graph_is_left(way):
    said, samples = output(), batch(lidar=[False] * 6)
    samples.present["image"] = torch.zeros(6, dtype=torch.bool)
    value = fitted(CLASSES, said, features=0.5, **way)(said, samples)
    value.backward()
    assert value.item() == 0


def test_features_are_compared_through_a_layer_that_is_there_before_the_optimiser():
    """By hand: the mean over samples of the length of W f_branch + b - f_fused."""
    said = output()
    meta = said.map(lambda tensor: tensor.detach().to("meta"))
    torch.manual_seed(0)
    loss = Distillation(CLASSES, features=0.5)
    loss.fit_to(meta)
    assert [tuple(p.shape) for p in loss.parameters()] == [(4, 5), (4,), (4, 6), (4,)]
    assert {p.device.type for p in loss.parameters()} == {"cpu"}
    fused, expected = said.fused.detach().numpy(), 0.0
    for adapter, embedding in zip(loss.adapters, said.embeddings.values(), strict=True):
        weight, bias = adapter.weight.detach().numpy(), adapter.bias.detach().numpy()
        difference = embedding.detach().numpy() @ weight.T + bias - fused
        expected += 0.5 * np.linalg.norm(difference, axis=1).mean()
    found = loss(said, batch()) - Distillation(CLASSES)(said, batch())
    assert found.item() == pytest.approx(expected, rel=1e-5)


@WAYS
def test_features_in_sixteen_bits_do_not_overflow(way):
    """Their adaptation is computed in 32 bits under autocast too."""
    said = output()
    loss = fitted(CLASSES, said, features=0.5, **way)

    def halved(one: Output) -> Output:
        return one.map(lambda tensor: (6e4 * tensor.detach().sign()).to(torch.float16).requires_grad_())

    half = halved(said)
    half.teachers = {RUN: halved(said.teachers[RUN])}
    with torch.autocast("cpu", torch.float16):
        value = loss(half, batch())
    value.backward()
    assert value.dtype == torch.float32
    assert value.isfinite()


@pytest.mark.parametrize("task", [CLASSES, LABELS], ids=lambda task: task.kind)
@pytest.mark.parametrize("form", ["kl", "cross_entropy"])
def test_great_logits(task, form):
    said = output().map(lambda tensor: (1e4 * tensor.detach()).requires_grad_())
    value = Distillation(task, form=form, direction="mutual")(said, batch())
    assert value.isfinite()
    assert torch.autograd.grad(value, said.logits)[0].isfinite().all()


def test_what_it_asks_the_core_for():
    inside, outside = Distillation(CLASSES), Distillation(CLASSES, teacher=RUN)
    assert (inside.needs_branches, inside.teacher) == (True, None)
    assert (outside.needs_branches, outside.teacher) == (False, RUN)


def test_direction_and_teacher_exclude_each_other():
    with pytest.raises(RequestError, match="leave it out beside teacher"):
        Distillation(CLASSES, direction="mutual", teacher=RUN)
