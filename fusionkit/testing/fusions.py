"""What every fusion has to keep, rule by rule. Each check takes a `Subject` and raises a `Fault`."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor

from fusionkit.contract import Fusion
from fusionkit.errors import ShapeError
from fusionkit.flow import Features, FeatureSpec, Input, Output
from fusionkit.model import whole
from fusionkit.options import options_model
from fusionkit.testing.fault import Fault
from fusionkit.testing.gradients import gradients_of, gradients_of_all, in_training, lacking_in_turn, parts_of
from fusionkit.testing.registered import unregistered
from fusionkit.testing.subjects import Subject, absent, build, perturb

ROWS = torch.tensor([False, True, False, True, True])
"""The samples that lack a modality where one is absent."""
WIDTH = 16
"""Of modalities made alike, to be told apart by their slots alone."""


def samples_are_independent(subject: Subject) -> None:
    """In evaluation, a sample's prediction depends on that sample alone."""
    if _samples_mix(subject):
        raise Fault(
            "samples_are_independent",
            "sample 1 changes sample 0's prediction; attention over tensors [B, D] attends across the batch: "
            "give it tokens [B, N, D] (batch_first)",
        )


def every_parameter_learns(subject: Subject) -> None:
    """Every parameter is used: with everything present, where something is absent, or in training."""
    unused = [name for name, gradients in gradients_of_all(subject).items() if not gradients]
    if unused:
        raise Fault("every_parameter_learns", f"no gradient reaches {_listed(unused)}: the forward pass never uses it")


def no_query_is_dead(subject: Subject) -> None:
    """No parameter's gradient is zero whatever the input.

    A part of a weight that projects query, key and value at once is looked at by itself. What a softmax cancels, such
    as the bias of a key, is zero up to rounding in a right module: a bias has to be exactly zero to be called dead.
    """
    sizes = {
        name: max(gradient.abs().max().item() for gradient in gradients)
        for whole_name, held in gradients_of_all(subject).items()
        if held
        for name, gradients in parts_of(subject.model, whole_name, held).items()
    }
    dims = {name: parameter.dim() for name, parameter in subject.read_parameters().items()}
    greatest = max(sizes.values(), default=0.0)
    dead = [name for name, size in sizes.items() if not size > (0 if dims.get(name, 2) < 2 else 1e-6 * greatest)]
    if dead:
        raise Fault(
            "no_query_is_dead",
            f"the gradient of {_listed(dead)} is always zero; a softmax over a single key passes none to its query: "
            "attend over token sequences, not over one pooled token",
        )


def every_modality_counts(subject: Subject) -> None:
    """Every modality moves the prediction, and the fused vector where a head reads it."""
    values, others = subject.values(), subject.values(seed=2)
    base = subject.run(values)
    for name in values:
        moved = subject.run(values | {name: replace(values[name], value=3 * others[name].value)})
        if not _moved(moved.logits, base.logits):
            raise Fault("every_modality_counts", f"another {name} leaves the prediction as it was")
        if subject.model.head is not None and not _moved(moved.fused, base.fused):
            raise Fault("every_modality_counts", f"another {name} leaves the fused vector as it was")


def evaluation_is_deterministic(subject: Subject) -> None:
    """In evaluation, the same input gives the same prediction."""
    if subject.made_in_forward:
        return  # told by its own check
    if _depends_on_chance(subject):
        raise Fault(
            "evaluation_is_deterministic",
            "two calls with the same input differ; what is drawn at random, noise or a projection, in evaluation too?",
        )


def nothing_is_made_in_forward(subject: Subject) -> None:
    """No parameter comes to be in a forward pass, nor does the set of registered tensors change."""
    if subject.made_in_forward:
        raise Fault(
            "nothing_is_made_in_forward",
            f"{subject.made_in_forward} parameters come to be in forward, such as those of a new random projection: "
            "no optimiser trains them and no checkpoint keeps them; make them in __init__",
        )


def every_tensor_is_registered(subject: Subject) -> None:
    """Every tensor that a fusion holds is seen by optimiser, device and checkpoint."""
    if hidden := unregistered(subject.model.fusion, subject.model):
        raise Fault(
            "every_tensor_is_registered",
            f"{_listed(hidden)} is not registered: no optimiser trains it and no checkpoint keeps it; "
            "use nn.ParameterList, nn.ModuleDict or register_buffer",
        )


def absent_slots_mean_nothing(subject: Subject) -> None:
    """What stands in the slot of an absent modality changes nothing, be it NaN."""
    values = subject.values()
    for names in [[name] for name in values] + [list(values)]:
        first: Tensor | None = None
        for content in (0.0, 7.0, torch.nan, torch.inf):
            output = subject.run(absent(values, names, ROWS, content))
            which = "every modality" if len(names) > 1 else names[0]
            if not output.logits.isfinite().all():
                raise Fault(
                    "absent_slots_mean_nothing",
                    f"the prediction is no number where {which} is absent and {content} stands in its slot; "
                    "mask it out (Features.token_mask, masked_fill) before anything multiplies it",
                )
            first = output.logits if first is None else first
            if not _alike(output.logits, first):
                raise Fault("absent_slots_mean_nothing", f"what stands in the slot of an absent {which} is read")
            gradients = gradients_of(subject, output)
            if bad := [name for name, gradient in gradients.items() if not gradient.isfinite().all()]:
                raise Fault(
                    "absent_slots_mean_nothing",
                    f"the gradient of {_listed(bad)} is no number where {which} is absent and its slot holds {content}",
                )


def absence_is_seen(subject: Subject) -> None:
    """Samples that lack a modality are predicted from the others, and those that have it as if nobody lacked it."""
    values = subject.values()
    base, mixed = subject.run(values).logits, _samples_mix(subject)  # told by its own check
    for name in values:
        lacking = subject.run(absent(values, [name], ROWS, 0.0)).logits
        if not mixed and not _alike(lacking[~ROWS], base[~ROWS]):
            raise Fault("absence_is_seen", f"an absent {name} changes the prediction of other samples")
        if len(values) > 1 and not _moved(lacking[ROWS], base[ROWS]):
            raise Fault("absence_is_seen", f"samples without {name} are predicted as if they had it")


def absent_modalities_keep_their_slots(subject: Subject) -> None:
    """The others stay where they are when a modality is absent."""
    names = list(subject.inputs)
    if len(names) != 3 or len(subject.kind.arrange(subject.values())) != 3:
        return
    spec = FeatureSpec(WIDTH, 9, (3, 3), (FeatureSpec(WIDTH, 9, (3, 3)),) * 2)
    try:
        torch.manual_seed(0)
        fusion = subject.make(dict.fromkeys(names, spec)).eval()
    except ShapeError:
        return
    perturb(fusion.parameters())
    _make_alike(fusion, names)
    u, v, w = torch.randn(3, 2, 9, WIDTH)

    def fused(*tokens: Tensor | None) -> Tensor:
        features = {}
        for name, held in zip(names, tokens, strict=True):
            present = torch.full((2,), held is not None)
            given = Features(u if held is None else held, (3, 3), present=present)
            features[name] = replace(given, stages=(given, given))
        answer = whole(fusion(features))
        return torch.cat([answer.vector, *answer.branches.values()], dim=1)

    def same(one: Tensor, other: Tensor) -> bool:
        return one.shape == other.shape and torch.allclose(one, other, atol=1e-6)

    if same(fused(None, v, w), fused(v, w, None)) and not same(fused(u, v, w), fused(v, w, u)):
        raise Fault(
            "absent_modalities_keep_their_slots",
            f"without {names[0]}, {names[1]} is read as {names[0]}; an absent modality's token belongs in its own slot",
        )


def parameters_are_initialised(subject: Subject) -> None:
    """No parameter begins as whatever stood in memory."""
    if subject.uninitialised:
        raise Fault(
            "parameters_are_initialised",
            f"{_listed(subject.uninitialised)} is never initialised; torch.empty is whatever stood in memory",
        )


def randomness_is_per_sample(subject: Subject) -> None:
    """In training, what is drawn at random is drawn for each sample."""
    if _depends_on_chance(subject):
        return  # told by its own check
    trial = in_training(subject)
    same = {
        name: replace(
            value,
            value=value.value.expand(16, *value.value.shape[1:]).clone(),
            present=value.present.expand(16).clone(),
            valid=None if value.valid is None else value.valid.expand(16, -1).clone(),
        )
        for name, value in subject.values(size=1).items()
    }
    within, seen = False, []
    with torch.no_grad():
        for seed in range(12):
            logits = trial.run(same, seed).logits
            within = within or not torch.allclose(logits, logits[:1].expand_as(logits), atol=1e-5)
            seen.append(logits[0])
    if not within and any(not torch.allclose(logits, seen[0], atol=1e-4) for logits in seen):
        raise Fault(
            "randomness_is_per_sample",
            "what is dropped in training is drawn once for the whole batch; draw it for each sample",
        )


def training_and_test_treat_absence_alike(subject: Subject) -> None:
    """What stands for an absent modality in training, a learned token for example, does so at test too."""
    values = lacking_in_turn(subject)
    used = {}
    for name, trial in (("train", in_training(subject)), ("test", subject)):
        used[name] = {name for name, gradient in gradients_of(trial, trial.run(values)).items() if gradient.any()}
    if gone := sorted(used["train"] - used["test"]):
        raise Fault(
            "training_and_test_treat_absence_alike",
            f"where modalities are absent, {_listed(gone)} is used in training and not at test",
        )


def a_batch_of_one_is_enough(subject: Subject) -> None:
    """A single sample is predicted as in a batch; training with one does not fail."""
    values = subject.values()
    one = {
        n: replace(v, value=v.value[:1], present=v.present[:1], valid=None if v.valid is None else v.valid[:1])
        for n, v in values.items()
    }
    if not _alike(subject.run(one).logits, subject.run(values).logits[:1]) and not _samples_mix(subject):
        raise Fault("a_batch_of_one_is_enough", "a sample alone is predicted otherwise than in a batch")
    trial = replace(subject, model=copy.deepcopy(subject.model))
    trial.model.fusion.train()
    try:
        output = trial.run(one)
    except (ValueError, RuntimeError) as error:
        raise Fault("a_batch_of_one_is_enough", f"training with a single sample fails: {error}") from error
    if not output.logits.isfinite().all():
        raise Fault("a_batch_of_one_is_enough", "training with a single sample gives no number")


def weights_travel(subject: Subject) -> None:
    """A fresh model with the weights of this one predicts as this one does."""
    if unregistered(subject.model.fusion, subject.model):
        return  # told by its own check
    other = build(subject.make, subject.kind, subject.inputs, seed=1)
    other.load_state_dict(copy.deepcopy(subject.model.state_dict()))
    values = subject.values()
    if not _alike(replace(subject, model=other.eval()).run(values).logits, subject.run(values).logits):
        raise Fault(
            "weights_travel",
            "a fresh model with the same state_dict predicts otherwise; is a buffer with persistent=False random?",
        )


def presence_may_be_unsaid(subject: Subject) -> None:
    """Features that say nothing of presence are all there."""
    values = subject.values()
    unsaid = {
        name: replace(f, present=None, stages=tuple(replace(stage, present=None) for stage in f.stages))
        for name, f in subject.features(values).items()
    }
    if not _alike(subject.conclude(unsaid).logits, subject.run(values).logits):
        raise Fault("presence_may_be_unsaid", "features whose `present` is None are not read as all present")


def sixteen_bits_are_enough(subject: Subject) -> None:
    """Mixed precision gives numbers, with everything present and where something is absent."""
    for values in (subject.values(), lacking_in_turn(subject)):
        with torch.autocast("cpu", torch.bfloat16):
            logits = subject.run(values).logits
        if not logits.isfinite().all():
            raise Fault("sixteen_bits_are_enough", "the prediction is no number in bfloat16")


def inputs_are_left_alone(subject: Subject) -> None:
    """What the fusion is given is not written to, whichever of its methods is called."""
    fusion = subject.model.fusion
    changed: list[str] = []

    def watched(method: str) -> Callable[..., Any]:
        original = getattr(fusion, method)

        def call(*arguments: Any) -> Any:
            given = list(_tensors(arguments))
            versions = [tensor._version for tensor in given]
            answer = original(*arguments)
            if versions != [tensor._version for tensor in given]:
                changed.append(method)
            return answer

        return call

    with ExitStack() as stack, torch.no_grad():
        for method in ("arrange", "exchange", "forward", "decide"):
            stack.enter_context(patch.object(fusion, method, watched(method)))
        subject.run(subject.values())
        subject.run(lacking_in_turn(subject))
    if changed:
        raise Fault(
            "inputs_are_left_alone",
            f"`{changed[0]}` changes the tensors that it is given in place; use masked_fill, not masked_fill_",
        )


def padding_means_nothing(subject: Subject) -> None:
    """What stands in padded steps changes nothing."""
    values = subject.values()
    moved = dict(values)
    for name, value in values.items():
        if value.valid is not None:
            moved[name] = replace(value, value=value.value.masked_fill(~value.valid.unsqueeze(-1), 9.0))
    if not _alike(subject.run(moved).logits, subject.run(values).logits):
        raise Fault("padding_means_nothing", "padded tokens are read; honour Features.token_mask")


CHECKS: tuple[Callable[[Subject], None], ...] = (
    samples_are_independent,
    every_parameter_learns,
    no_query_is_dead,
    every_modality_counts,
    evaluation_is_deterministic,
    nothing_is_made_in_forward,
    every_tensor_is_registered,
    absent_slots_mean_nothing,
    absence_is_seen,
    absent_modalities_keep_their_slots,
    parameters_are_initialised,
    randomness_is_per_sample,
    training_and_test_treat_absence_alike,
    a_batch_of_one_is_enough,
    weights_travel,
    presence_may_be_unsaid,
    sixteen_bits_are_enough,
    inputs_are_left_alone,
    padding_means_nothing,
)


def options_are_a_schema(kind: type[Fusion]) -> None:
    """The constructor's options are typed and named one by one, so that an unknown key of a recipe is refused."""
    try:
        options_model(kind)
    except TypeError as error:
        raise Fault("options_are_a_schema", str(error)) from error


def _head(output: Output, rows: int) -> Tensor:
    return torch.cat([output.logits[:rows], output.fused[:rows]], dim=1)


def _samples_mix(subject: Subject) -> bool:
    values, others = subject.values(), subject.values(seed=1)
    moved = {
        name: replace(value, value=torch.cat([value.value[:1], 3 * others[name].value[1:]]))
        for name, value in values.items()
    }
    return not _alike(_head(subject.run(moved), 1), _head(subject.run(values), 1))


def _alike(one: Tensor, other: Tensor) -> bool:
    return torch.allclose(one, other, rtol=1e-4, atol=1e-5)


def _depends_on_chance(subject: Subject) -> bool:
    values = subject.values()
    return not torch.equal(subject.run(values, seed=10).logits, subject.run(values, seed=11).logits)


def _moved(one: Tensor, other: Tensor) -> bool:
    """Whether any sample differs: of a maximum, one modality may win all in some."""
    return bool(((one - other).abs() > 1e-6).any())


def _make_alike(fusion: Fusion, names: list[str]) -> None:
    """Give what each modality has of its own the weights of the first one's, so that their slots alone differ."""
    state = fusion.state_dict()
    first, *others = names
    for key, tensor in state.items():
        for other in others:
            twin = state.get(".".join(other if part == first else part for part in key.split(".")))
            if first in key.split(".") and twin is not None and twin.shape == tensor.shape:
                twin.copy_(tensor)


def _tensors(held: Any) -> Iterator[Tensor]:
    """Every tensor among the arguments of a fusion's method."""
    if isinstance(held, Tensor):
        yield held
    elif isinstance(held, dict):
        yield from _tensors(tuple(held.values()))
    elif isinstance(held, tuple):
        for item in held:
            yield from _tensors(item)
    elif isinstance(held, Features | Input):
        yield from _tensors(tuple(vars(held).values()))


def _listed(names: list[str]) -> str:
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")
