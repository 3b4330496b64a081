"""What every fusion has to keep, rule by rule. Each check takes a `Subject` and raises a `Fault`."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor, nn

from fusionkit.contract import Fusion
from fusionkit.errors import ShapeError
from fusionkit.flow import Features, FeatureSpec, Output
from fusionkit.model import whole
from fusionkit.options import options_model
from fusionkit.testing.fault import Fault
from fusionkit.testing.registered import unregistered
from fusionkit.testing.subjects import WIDTH, Subject, absent, build

ROWS = torch.tensor([False, True, False, True, True])
"""The samples that lack a modality where one is absent."""
_DROPOUT = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout, nn.FeatureAlphaDropout)


def samples_are_independent(subject: Subject) -> None:
    """In evaluation, a sample's prediction depends on that sample alone."""
    values = subject.values()
    first = subject.run(values)
    others = subject.values(seed=1)
    moved = {
        name: replace(value, value=torch.cat([value.value[:1], 3 * others[name].value[1:]]))
        for name, value in values.items()
    }
    if not _alike(_head(subject.run(moved), 1), _head(first, 1)):
        raise Fault(
            "samples_are_independent",
            "sample 1 changes sample 0's prediction; attention over tensors [B, D] attends across the batch: "
            "give it tokens [B, N, D] (batch_first)",
        )


def every_parameter_learns(subject: Subject) -> None:
    """Every parameter is used."""
    unused = [name for name, gradient in _gradients(subject).items() if gradient is None]
    if unused:
        raise Fault("every_parameter_learns", f"no gradient reaches {_listed(unused)}: the forward pass never uses it")


def no_query_is_dead(subject: Subject) -> None:
    """No parameter's gradient is zero whatever the input."""
    gradients = {name: g.abs().max() for name, g in _gradients(subject).items() if g is not None}
    greatest = max((value.item() for value in gradients.values()), default=0.0)
    dead = [name for name, value in gradients.items() if not value > 1e-7 * greatest]
    if dead:
        raise Fault(
            "no_query_is_dead",
            f"the gradient of {_listed(dead)} is always zero; a softmax over a single key passes none to its query: "
            "attend over token sequences, not over one pooled token",
        )


def every_modality_counts(subject: Subject) -> None:
    """Every modality moves every sample's prediction."""
    values, others = subject.values(), subject.values(seed=2)
    base = subject.run(values).logits
    for name in values:
        moved = subject.run(values | {name: replace(values[name], value=3 * others[name].value)}).logits
        if not ((moved - base).abs().amax(1) > 1e-6).all():
            raise Fault("every_modality_counts", f"another {name} leaves the prediction as it was")


def evaluation_is_deterministic(subject: Subject) -> None:
    """In evaluation, the same input gives the same prediction."""
    values = subject.values()
    torch.manual_seed(10)
    first = subject.run(values).logits
    torch.manual_seed(11)
    if not torch.equal(subject.run(values).logits, first):
        raise Fault("evaluation_is_deterministic", "two calls with the same input differ; what is drawn at random?")


def nothing_is_made_in_forward(subject: Subject) -> None:
    """No parameter comes to be in a forward pass."""
    made: list[int] = []
    original = nn.Parameter.__new__

    def counting(cls: Any, *arguments: Any, **named: Any) -> Any:
        made.append(1)
        return original(cls, *arguments, **named)

    with patch.object(nn.Parameter, "__new__", counting):
        subject.run(subject.values())
    if made:
        raise Fault(
            "nothing_is_made_in_forward",
            f"{len(made)} parameters are made anew in every forward pass and never learn; make them in __init__",
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
            subject.model.zero_grad()
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
            subject.objective(output).backward()
            bad = [
                n for n, p in subject.read_parameters().items() if p.grad is not None and not p.grad.isfinite().all()
            ]
            if bad:
                raise Fault(
                    "absent_slots_mean_nothing",
                    f"the gradient of {_listed(bad)} is no number where {which} is absent and its slot holds {content}",
                )
    subject.model.zero_grad()


def absence_is_seen(subject: Subject) -> None:
    """Samples that lack a modality are predicted from the others, and those that have it as if nobody lacked it."""
    values = subject.values()
    base = subject.run(values).logits
    for name in values:
        lacking = subject.run(absent(values, [name], ROWS, 0.0)).logits
        if not _alike(lacking[~ROWS], base[~ROWS]):
            raise Fault("absence_is_seen", f"an absent {name} changes the prediction of other samples")
        if len(values) > 1 and ((lacking[ROWS] - base[ROWS]).abs().amax(1) < 1e-6).any():
            raise Fault("absence_is_seen", f"a sample without {name} is predicted as if it had it")


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
    with torch.no_grad():
        for parameter in fusion.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
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
    with _memory_full_of_nan():
        model = build(subject.make, subject.kind, subject.inputs)
    state = {name: value for name, value in model.fusion.state_dict().items() if value.is_floating_point()}
    if wrong := [name for name, value in state.items() if not value.isfinite().all()]:
        raise Fault(
            "parameters_are_initialised", f"{_listed(wrong)} is never initialised; torch.empty is no number yet"
        )


def randomness_is_per_sample(subject: Subject) -> None:
    """In training, what is drawn at random is drawn for each sample."""
    model = copy.deepcopy(subject.model)
    _without_dropout(model.train())
    one = subject.values(size=1)
    same = {
        name: replace(
            value,
            value=value.value.expand(16, *value.value.shape[1:]).clone(),
            present=value.present.expand(16).clone(),
            valid=None if value.valid is None else value.valid.expand(16, -1).clone(),
        )
        for name, value in one.items()
    }
    within, seen = False, []
    trial = replace(subject, model=model)
    for seed in range(12):
        torch.manual_seed(seed)
        logits = trial.run(same).logits.detach()
        within = within or not torch.allclose(logits, logits[:1].expand_as(logits), atol=1e-5)
        seen.append(logits[0])
    if not within and any(not torch.allclose(logits, seen[0], atol=1e-4) for logits in seen):
        raise Fault(
            "randomness_is_per_sample",
            "what is dropped in training is drawn once for the whole batch; draw it for each sample",
        )


def training_and_test_treat_absence_alike(subject: Subject) -> None:
    """What stands for an absent modality in training, a learned token for example, does so at test too."""
    values = subject.values()
    for name in values:
        lacking = absent(values, [name], ROWS, 0.0)
        used = {}
        for mode in (True, False):
            model = copy.deepcopy(subject.model)
            _without_dropout(model.train(mode))
            trial = replace(subject, model=model)
            trial.objective(trial.run(lacking)).backward()
            used[mode] = {n for n, p in trial.read_parameters().items() if p.grad is not None and p.grad.any()}
        if gone := sorted(used[True] - used[False]):
            raise Fault(
                "training_and_test_treat_absence_alike",
                f"where {name} is absent, {_listed(gone)} is used in training and not at test",
            )


def a_batch_of_one_is_enough(subject: Subject) -> None:
    """A single sample is predicted as in a batch; training with one does not fail."""
    values = subject.values()
    one = {
        n: replace(v, value=v.value[:1], present=v.present[:1], valid=None if v.valid is None else v.valid[:1])
        for n, v in values.items()
    }
    if not _alike(subject.run(one).logits, subject.run(values).logits[:1]):
        raise Fault("a_batch_of_one_is_enough", "a sample alone is predicted otherwise than in a batch")
    trial = replace(subject, model=copy.deepcopy(subject.model))
    trial.model.fusion.train()
    try:
        output = trial.run(one)
    except ValueError as error:
        raise Fault("a_batch_of_one_is_enough", f"training with a single sample fails: {error}") from error
    if not output.logits.isfinite().all():
        raise Fault("a_batch_of_one_is_enough", "training with a single sample gives no number")


def weights_travel(subject: Subject) -> None:
    """A fresh model with the weights of this one predicts as this one does."""
    other = build(subject.make, subject.kind, subject.inputs)
    other.load_state_dict(copy.deepcopy(subject.model.state_dict()))
    values = subject.values()
    if not _alike(replace(subject, model=other.eval()).run(values).logits, subject.run(values).logits):
        raise Fault("weights_travel", "a fresh model with the same state_dict predicts otherwise")


def sixteen_bits_are_enough(subject: Subject) -> None:
    """Mixed precision gives numbers."""
    with torch.autocast("cpu", torch.bfloat16):
        logits = subject.run(subject.values()).logits
    if not logits.isfinite().all():
        raise Fault("sixteen_bits_are_enough", "the prediction is no number in bfloat16")


def inputs_are_left_alone(subject: Subject) -> None:
    """What an encoder hands over is not written to."""
    fusion = subject.model.fusion
    features = fusion.encode(subject.model.encoders, fusion.arrange(subject.values()))
    before = {name: feature.tokens.clone() for name, feature in features.items()}
    fusion(features)
    if changed := [name for name, feature in features.items() if not torch.equal(feature.tokens, before[name])]:
        raise Fault("inputs_are_left_alone", f"the features of {_listed(changed)} are changed in place")


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


def _alike(one: Tensor, other: Tensor) -> bool:
    return torch.allclose(one, other, rtol=1e-4, atol=1e-5)


def _gradients(subject: Subject) -> dict[str, Tensor | None]:
    """Of every parameter of fusion and heads."""
    subject.model.zero_grad()
    subject.objective(subject.run(subject.values())).backward()
    found = {name: p.grad for name, p in subject.read_parameters().items()}
    subject.model.zero_grad()
    return found


def _listed(names: list[str]) -> str:
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")


def _without_dropout(model: nn.Module) -> None:
    for module in model.modules():
        if isinstance(module, _DROPOUT):
            module.p = 0.0


@contextmanager
def _memory_full_of_nan() -> Iterator[None]:
    """Within, torch.empty is NaN all over."""
    fill: Any = torch.utils.deterministic
    before = torch.are_deterministic_algorithms_enabled(), fill.fill_uninitialized_memory
    torch.use_deterministic_algorithms(True)
    fill.fill_uninitialized_memory = True
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0])
        fill.fill_uninitialized_memory = before[1]
