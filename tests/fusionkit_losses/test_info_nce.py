"""InfoNCE, against reference tensors, loops in NumPy, and itself in one process."""

from __future__ import annotations

import math
import subprocess
import sys
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import torch
from fusionkit_losses.info_nce import InfoNCE
from torch import nn

from fusionkit.errors import RequestError
from fusionkit.flow import Batch, Output, Task
from fusionkit.optimization import make_optimizer
from fusionkit.options import options_model
from fusionkit.sections import Train
from fusionkit.testing import LossSuite

TASK = Task("classification", ("oak", "pine", "maple"), (3, 3, 3))
ORACLE = torch.load(Path(__file__).parents[1] / "oracles" / "losses_and_fusion.pt", weights_only=True)["clip_loss"]
TARGET = [0, 1, 1, 2, 0, 1, 2]
GROUP = [4, 4, 5, 6, 7, 5, 5]
PRESENT = {
    "image": [1, 1, 1, 1, 0, 1, 1],
    "text": [1, 1, 1, 0, 1, 1, 1],
    "lidar": [1, 0, 1, 1, 1, 1, 1],
}


class TestInfoNCE(LossSuite):
    component = InfoNCE


class TestSupervisedInfoNCE(LossSuite):
    component = InfoNCE
    options = {"supervised": True}


def vectors(names: tuple[str, ...] = ("image", "text"), size: int = 7, width: int = 5) -> Output:
    generator = torch.Generator().manual_seed(0)

    def random() -> torch.Tensor:
        return torch.randn(size, width, generator=generator, dtype=torch.float64).requires_grad_()

    return Output(random(), random(), {name: random() for name in names})


def batch(names, target=TARGET, group=None, present=PRESENT) -> Batch:
    size = len(target)
    masks = {name: torch.tensor(present[name][:size]).bool() for name in names}
    numbers = None if group is None else torch.tensor(group)
    return Batch({}, masks, torch.tensor(target), torch.arange(size), group=numbers)


def fitted(output: Output, task: Task = TASK, **options) -> InfoNCE:
    torch.manual_seed(0)
    loss = InfoNCE(task, **({"dim": None} | options)).double()
    loss.fit_to(output.map(lambda tensor: tensor.to("meta")))
    return loss.double()


def by_loops(embeddings, present, weight, compared, temperature=0.07) -> float:
    """Every term written out; `weight[i][j]` and `compared[i][j]` are relations of sample i to sample j."""
    terms = []
    for pair in combinations(embeddings, 2):
        both = [i for i in range(len(weight)) if present[pair[0]][i] and present[pair[1]][i]]
        for one, other in (pair, pair[::-1]):
            rows = embeddings[one].detach().numpy()
            columns = embeddings[other].detach().numpy()
            for i in both:
                logit = {
                    j: rows[i] @ columns[j] / np.linalg.norm(rows[i]) / np.linalg.norm(columns[j]) / temperature
                    for j in both
                    if compared[i][j]
                }
                total = math.log(sum(map(math.exp, logit.values())))
                own = {j: weight[i][j] for j in both if weight[i][j] > 0}
                terms.append(sum(share * (total - logit[j]) for j, share in own.items()) / sum(own.values()))
    return float(np.mean(terms))


def test_meets_the_reference_in_value_and_gradients():
    a, b = ORACLE["a"].clone().requires_grad_(), ORACLE["b"].clone().requires_grad_()
    output = Output(torch.zeros(5, 3), torch.zeros(5, 1), {"image": a, "text": b})
    loss = InfoNCE(TASK, dim=None)
    loss.fit_to(output)
    with torch.no_grad():
        loss.logit_scale.copy_(ORACLE["log_scale"])
    everybody = {name: [1] * 5 for name in ("image", "text")}
    value = loss(output, batch(("image", "text"), [0] * 5, present=everybody))
    value.backward()
    found = {"loss": value, "grad_a": a.grad, "grad_b": b.grad, "grad_log_scale": loss.logit_scale.grad}
    for name, tensor in found.items():
        torch.testing.assert_close(tensor, ORACLE[name], rtol=1e-6, atol=1e-6, msg=lambda said, name=name: name + said)


@pytest.mark.parametrize("names", [("image", "text"), ("image", "text", "lidar")])
def test_absent_modalities_are_left_out(names):
    output = vectors(names)
    loss, facts = fitted(output), batch(names)
    same = np.eye(7)
    expected = by_loops(output.embeddings, PRESENT, same, np.ones((7, 7)))
    assert loss(output, facts).item() == pytest.approx(expected, rel=1e-6)
    rows = {pair: sum(a and b for a, b in zip(*map(PRESENT.get, pair), strict=True)) for pair in combinations(names, 2)}
    assert float(loss.count(facts)) == sum(rows.values())


@pytest.mark.parametrize("dim", [None, 4])
def test_what_stands_in_an_absent_slot_changes_nothing(dim):
    output, facts = vectors(), batch(("image", "text"))
    loss = fitted(output, dim=dim)
    expected = loss(output, facts)
    expected.backward()
    gradients = [parameter.grad.clone() for parameter in loss.parameters()]
    for content in (torch.nan, torch.inf, 7.0):
        changed = {
            name: value.detach().masked_fill(~facts.present[name].unsqueeze(1), content).requires_grad_()
            for name, value in output.embeddings.items()
        }
        loss.zero_grad()
        value = loss(Output(output.logits, output.fused, changed), facts)
        value.backward()
        assert value.item() == expected.item()
        for parameter, gradient in zip(loss.parameters(), gradients, strict=True):
            torch.testing.assert_close(parameter.grad, gradient)
        for name, tensor in changed.items():
            torch.testing.assert_close(tensor.grad, output.embeddings[name].grad)


def test_samples_of_a_group_are_no_negatives():
    output, group = vectors(), np.array(GROUP)
    compared = (group[:, None] != group) | np.eye(7, dtype=bool)
    expected = by_loops(output.embeddings, PRESENT, np.eye(7), compared)
    value = fitted(output)(output, batch(("image", "text"), group=GROUP))
    assert value.item() == pytest.approx(expected, rel=1e-6)
    assert value.item() != pytest.approx(fitted(output)(output, batch(("image", "text"))).item(), rel=1e-3)


def test_two_captions_of_one_image_do_not_repel_each_other():
    image = torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    text = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    output = Output(torch.zeros(2, 3), torch.zeros(2, 1), {"image": image, "text": text})
    facts = batch(("image", "text"), [0, 0], group=[3, 3])
    assert fitted(output).float()(output, facts).item() == 0


@pytest.mark.parametrize("group", [None, GROUP])
def test_supervised_has_all_of_a_class_as_positives(group):
    output, target = vectors(), np.array(TARGET)
    same = target[:, None] == target
    compared = np.ones((7, 7)) if group is None else (np.array(group)[:, None] != np.array(group)) | same
    expected = by_loops(output.embeddings, PRESENT, same, compared)
    value = fitted(output, supervised=True)(output, batch(("image", "text"), group=group))
    assert value.item() == pytest.approx(expected, rel=1e-6)


def test_supervised_weighs_mixed_samples_by_the_class_mass_they_share():
    output, facts = vectors(), batch(("image", "text"))
    facts.target = torch.tensor(
        [[0.7, 0.3, 0], [0, 1, 0], [0.2, 0, 0.8], [0, 0, 1], [1, 0, 0], [0, 0.5, 0.5], [0, 1, 0]]
    )
    share = (facts.target @ facts.target.T).numpy()
    expected = by_loops(output.embeddings, PRESENT, share, np.ones((7, 7)))
    assert fitted(output, supervised=True)(output, facts).item() == pytest.approx(expected, rel=1e-6)
    plain = by_loops(output.embeddings, PRESENT, np.eye(7), np.ones((7, 7)))
    assert fitted(output)(output, facts).item() == pytest.approx(plain, rel=1e-6)


def test_mixed_targets_of_one_class_each_are_the_classes():
    output, facts = vectors(), batch(("image", "text"))
    loss = fitted(output, supervised=True)
    expected = loss(output, facts).item()
    facts.target = nn.functional.one_hot(facts.target).double()
    assert loss(output, facts).item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("usable", [0, 1])
@pytest.mark.parametrize("options", [{}, {"supervised": True}, {"dim": 4}])
def test_nothing_to_compare_is_zero_with_a_graph(usable, options):
    output = vectors()
    present = {"image": [0] * 7, "text": [1] * 7} if not usable else {"image": [1] + [0] * 6, "text": [1] * 7}
    loss, facts = fitted(output, **options), batch(("image", "text"), present=present)
    value = loss(output, facts)
    value.backward()
    assert value.item() == 0
    assert float(loss.count(facts)) == usable
    tensors = [*output.embeddings.values(), *loss.parameters()]
    assert all(tensor.grad is not None and not tensor.grad.any() for tensor in tensors)


def test_a_vector_of_zeros_gets_no_gradient():
    """Where all units of a branch are dead, its direction is not defined."""
    output = vectors()
    with torch.no_grad():
        output.embeddings["image"][2] = 0
    fitted(output)(output, batch(("image", "text"))).backward()
    assert not output.embeddings["image"].grad[2].any()
    assert output.embeddings["text"].grad.abs().max() < 100


def test_modalities_are_projected_into_a_common_space():
    output = vectors()
    output.embeddings["text"] = torch.randn(7, 9, dtype=torch.float64)
    loss = fitted(output, dim=4)
    assert {name: tuple(value.shape) for name, value in loss.projections.named_parameters()} == {
        "image.weight": (4, 5),
        "text.weight": (4, 9),
    }
    projected = {name: value @ loss.projections[name].weight.T for name, value in output.embeddings.items()}
    expected = by_loops(projected, PRESENT, np.eye(7), np.ones((7, 7)))
    assert loss(output, batch(("image", "text"))).item() == pytest.approx(expected, rel=1e-6)


# The temperature


def test_the_temperature_is_kept_in_its_bounds_after_a_step():
    output, facts = vectors(), batch(("image", "text"))
    loss = fitted(output)
    assert loss.logit_scale.dim() == 0
    assert loss.logit_scale.item() == pytest.approx(math.log(1 / 0.07))
    for rate, bound in [(1e6, (0.0, math.log(100))), (-1e6, (0.0, math.log(100)))]:
        loss.zero_grad()
        loss(output, facts).backward()
        with torch.no_grad():
            loss.logit_scale -= rate * loss.logit_scale.grad
        assert not bound[0] <= loss.logit_scale.item() <= bound[1]
        loss.after_step()
        assert loss.logit_scale.item() in bound


def test_the_temperature_is_free_of_weight_decay():
    loss = fitted(vectors(), dim=4)
    objective = nn.ModuleDict({"losses": nn.ModuleDict({"info_nce": loss})})
    decay = {
        id(parameter): group["weight_decay"]
        for group in make_optimizer(objective, Train(weight_decay=0.3)).param_groups
        for parameter in group["params"]
    }
    assert decay[id(loss.logit_scale)] == 0
    assert decay[id(loss.projections["image"].weight)] == 0.3


def test_the_temperature_may_be_left_as_it_is():
    output = vectors()
    loss = fitted(output, temperature=0.5, learn_temperature=False)
    assert not loss.logit_scale.requires_grad
    assert "logit_scale" in loss.state_dict()
    expected = by_loops(output.embeddings, PRESENT, np.eye(7), np.ones((7, 7)), temperature=0.5)
    assert loss(output, batch(("image", "text"))).item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("option", [{"temperature": 0.001}, {"temperature": 2.0}, {"dim": 0}])
def test_options_out_of_bounds_are_refused(option):
    with pytest.raises(ValueError, match=next(iter(option))):
        options_model(InfoNCE)(**option)


def test_supervised_is_for_classification():
    task = Task("regression", ("height",))
    with pytest.raises(RequestError, match="regression without"):
        InfoNCE(task, supervised=True)
    InfoNCE(task)


# Several processes

SCRIPT = """
import sys
from pathlib import Path
import torch
from torch import distributed, nn
from fusionkit.flow import Batch, Output, Task
from fusionkit_losses.info_nce import InfoNCE

CUTS = {1: [(0, 9)], 2: [(0, 5), (5, 9)]}
NAMES = ("image", "text", "lidar")

class Objective(nn.Module):
    def __init__(self, options):
        super().__init__()
        torch.manual_seed(0)
        self.encoders = nn.ModuleDict({name: nn.Linear(6, 4 + i) for i, name in enumerate(NAMES)}).double()
        self.loss = InfoNCE(Task("classification", ("a", "b", "c")), dim=3, **options)
        self.loss.fit_to(self.output(torch.zeros(2, 6, dtype=torch.float64)))
        self.loss.double()

    def output(self, value):
        embeddings = {name: encoder(value) for name, encoder in self.encoders.items()}
        return Output(value, value, embeddings)

    def forward(self, value, batch):
        return self.loss(self.output(value), batch)

def part(first, last, lacking, mixed):
    generator = torch.Generator().manual_seed(1)
    value = torch.randn(9, 6, generator=generator, dtype=torch.float64)
    present = {name: torch.rand(9, generator=generator) > 0.2 for name in NAMES}
    if lacking:  # all that the second process has
        present["text"][5:] = False
    target = torch.arange(9) % 3
    if mixed:
        target = torch.rand(9, 3, generator=generator).softmax(1)
    batch = Batch({}, present, target, torch.arange(9), group=torch.tensor([0, 1, 2, 3, 4, 4, 0, 5, 6]))
    return value[first:last], batch.map(lambda tensor: tensor[first:last])

folder, world, rank = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
if world > 1:
    distributed.init_process_group("gloo", init_method=f"file://{folder / 'met'}", rank=rank, world_size=world)
answers = {}
cases = {
    "plain": ({}, False, False), "lacking": ({}, True, False),
    "supervised": ({"supervised": True}, False, False), "mixed": ({"supervised": True}, False, True),
}
for case, (options, lacking, mixed) in cases.items():
    objective = Objective(options)
    wrapped = nn.parallel.DistributedDataParallel(objective) if world > 1 else objective
    value, batch = part(*CUTS[world][rank], lacking, mixed)
    count = objective.loss.count(batch).double()
    whole = count.clone()
    if world > 1:
        distributed.all_reduce(whole)
    share = wrapped(value, batch) * count / whole
    (share * world).backward()
    loss = share.detach().clone()
    with torch.no_grad():
        alone = objective(value, batch)
    if world > 1:
        distributed.all_reduce(loss)
    gradients = {name: parameter.grad for name, parameter in objective.named_parameters()}
    answers[case] = {"loss": loss, "count": whole, "alone": alone, **gradients}
torch.save(answers, folder / f"{world}-{rank}.pt")
if world > 1:
    distributed.destroy_process_group()
"""


@pytest.mark.slow
def test_two_processes_are_one_on_the_joined_batch(tmp_path):
    """Batches of 5 and 4 samples, one of them without any pair of two modalities in one case."""
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    started = [
        subprocess.Popen([sys.executable, script, tmp_path, str(world), str(rank)], stderr=subprocess.PIPE, text=True)
        for world, rank in [(1, 0), (2, 0), (2, 1)]
    ]
    for process in started:
        _, said = process.communicate(timeout=120)
        assert process.returncode == 0, said[-3000:]
    one, first, second = (torch.load(tmp_path / f"{name}.pt") for name in ("1-0", "2-0", "2-1"))
    for case, expected in one.items():
        assert expected["loss"] > 0
        for part in (first[case], second[case]):
            assert part["alone"] != pytest.approx(float(expected["loss"]), rel=1e-3)  # without gradients, its own
            for name in expected.keys() - {"alone"}:
                torch.testing.assert_close(part[name], expected[name], rtol=1e-9, atol=1e-12, msg=f"{case}: {name}")
