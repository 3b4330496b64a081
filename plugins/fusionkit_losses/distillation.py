"""Distillation: predictions that teach predictions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float
from pydantic import NonNegativeFloat, PositiveFloat
from torch import Tensor, nn
from torch.nn import functional as F

from fusionkit.contract import Loss
from fusionkit.errors import RequestError
from fusionkit.flow import Batch, Output, Task


@dataclass(frozen=True)
class Party:
    """A prediction that teaches or learns.

    Args:
        logits: the prediction.
        features: what it was made from.
        modalities: it has nothing to say of a sample that lacks all of these; empty: it always has.
    """

    logits: Float[Tensor, "B K"]
    features: Float[Tensor, "B D"]
    modalities: tuple[str, ...] = ()

    def present(self, batch: Batch) -> Bool[Tensor, " B"]:
        if not self.modalities:
            return torch.ones(len(batch), dtype=torch.bool, device=self.logits.device)
        return torch.stack([batch.present[name] for name in self.modalities]).any(0)

    def detached(self) -> Party:
        return Party(self.logits.detach(), self.features.detach(), self.modalities)


class Distillation(Loss):
    """Each learner comes nearer to the mean of its teachers' distances; the teachers are detached.

        sum over learners l of mean over teachers t of [ D(t, l) + features * ||W f_l - f_t||_2 ]

    | | learners | teachers |
    |---|---|---|
    | main_to_branches | every branch | the main prediction |
    | branches_to_main | the main prediction | every branch |
    | mutual | the main prediction and every branch | all the others |
    | teacher: PATH | the main prediction | the main prediction of that run's model |

    Hinton et al., Distilling the Knowledge in a Neural Network, 2015 (a teacher); Zhang et al., Be Your Own Teacher,
    ICCV 2019 (main to branches); Zhang et al., Deep Mutual Learning, CVPR 2018 (mutual).

    D compares class probabilities softened at temperature T on both sides, p = softmax(logits / T):

        kl:             sum over k of p_t (log p_t - log p_l), zero where they agree
        cross_entropy:  - sum over k of p_t log p_l, larger by the teacher's entropy, with the same gradients

    Of several labels p is sigmoid(logits / T), and D the mean over labels of the same for two classes. Of a regression
    and of boxes D is the squared difference, a mean over quantities, and `temperature`, `t_squared` and `form` mean
    nothing.

    Gradients of D shrink about as 1 / T^2. Hinton multiplies by T^2, so that the weight may stay when T changes; Be
    Your Own Teacher does not, and has weight 0.3 at T = 3. So the switch changes the weight of D T^2-fold, ninefold at
    T = 3, and leaves the features' alone.

    W is a linear layer for each pair, made in `fit_to`; f is the fused vector of a main prediction, and what its head
    reads of a branch. The distance is a mean over samples, so that parts of a batch add up. Be Your Own Teacher adds
    0.03 times the norm of the whole batch's difference, which grows with the root of its size B: that is about
    0.03 sqrt(B) here, divided by the weight of this term, because `features` stands inside it.

    A sample counts for a pair where both have something to say of it: a branch whose modality it lacks neither learns
    nor teaches, nor does an external model all of whose modalities it lacks. The mean is over the teachers that do; the
    sum is divided by the number of samples, whatever they lack, so that parts of a batch add up.

    Args:
        task: what is predicted.
        direction: who teaches whom inside the network; by default main_to_branches.
        teacher: the folder of a finished run, whose model teaches instead.
        temperature: T.
        t_squared: multiply D by T^2.
        form: of D.
        features: weight of the distance between features; 0 for none.

    Raises:
        RequestError: both `direction` and `teacher` are given.
    """

    needs_branches = True

    def __init__(
        self,
        task: Task,
        *,
        direction: Literal["main_to_branches", "branches_to_main", "mutual"] | None = None,
        teacher: str | None = None,
        temperature: PositiveFloat = 3.0,
        t_squared: bool = False,
        form: Literal["kl", "cross_entropy"] = "kl",
        features: NonNegativeFloat = 0.0,
    ):
        super().__init__(task)
        if direction and teacher:
            raise RequestError("direction is about the network's own branches; leave it out beside teacher")
        self.direction, self.teacher = direction or "main_to_branches", teacher
        self.needs_branches = teacher is None
        self.temperature, self.t_squared, self.form, self.features = temperature, t_squared, form, features
        self.adapters = nn.ModuleList()

    def fit_to(self, output: Output) -> None:
        if self.features:
            self.adapters = nn.ModuleList(
                nn.Linear(learner.features.shape[1], teacher.features.shape[1], device="cpu")
                for learner, teachers in self._lessons(output)
                for teacher in teachers
            )

    def forward(self, output: Output, batch: Batch) -> Float[Tensor, ""]:
        adapters, each = iter(self.adapters), []
        for learner, teachers in self._lessons(output):
            here = torch.stack([learner.present(batch) & teacher.present(batch) for teacher in teachers])
            distances = torch.stack(
                [
                    self._distance(learner, teacher, next(adapters) if self.features else None, there)
                    for teacher, there in zip(teachers, here, strict=True)
                ]
            )
            each.append(distances.sum(0) / here.sum(0).clamp(min=1))
        return torch.stack(each).sum() / len(batch)

    def _lessons(self, output: Output) -> list[tuple[Party, list[Party]]]:
        """Every learner with its teachers."""
        main = Party(output.logits, output.fused)
        if self.teacher is not None:
            said = output.teachers[self.teacher]
            return [(main, [Party(said.logits, said.fused, tuple(said.embeddings)).detached()])]
        branches = [Party(logits, output.embeddings[name], (name,)) for name, logits in output.branch_logits.items()]
        if self.direction == "main_to_branches":
            return [(branch, [main.detached()]) for branch in branches]
        if self.direction == "branches_to_main":
            return [(main, [branch.detached() for branch in branches])]
        everyone = [main, *branches]
        return [(one, [other.detached() for other in everyone if other is not one]) for one in everyone]

    def _distance(
        self, learner: Party, teacher: Party, adapter: nn.Module | None, here: Bool[Tensor, " B"]
    ) -> Float[Tensor, " B"]:
        """Between two, of each sample; zero where it counts for nothing."""
        away = ~here.unsqueeze(1)

        def real(value: Float[Tensor, "B _"]) -> Float[Tensor, "B _"]:
            # Filled before all computation: the gradient of an infinite distance is NaN even where it is masked.
            return value.to(torch.promote_types(value.dtype, torch.float32)).masked_fill(away, 0)

        distance = self._divergence(real(learner.logits), real(teacher.logits))
        if adapter is not None:
            with torch.autocast(learner.features.device.type, enabled=False):
                apart = adapter(real(learner.features)) - real(teacher.features)
            distance = distance + self.features * torch.linalg.vector_norm(apart, dim=1)
        return distance.masked_fill(~here, 0)

    def _divergence(self, learner: Float[Tensor, "B K"], teacher: Float[Tensor, "B K"]) -> Float[Tensor, " B"]:
        """D, of each sample."""
        if self.task.kind in ("regression", "grounding"):
            return (learner - teacher).square().mean(1)
        own, taught = self._log_probabilities(learner), self._log_probabilities(teacher)
        kl = self.form == "kl"
        terms = F.kl_div(own, taught, reduction="none", log_target=True) if kl else -taught.exp() * own
        divergence = terms.sum(-1).mean(-1)
        return divergence * self.temperature**2 if self.t_squared else divergence

    def _log_probabilities(self, logits: Float[Tensor, "B K"]) -> Float[Tensor, "B questions answers"]:
        """Softened: of one question with K answers, or of K questions with two."""
        logits = logits / self.temperature
        if self.task.kind == "classification":
            return logits.log_softmax(1).unsqueeze(1)
        return torch.stack([F.logsigmoid(logits), F.logsigmoid(-logits)], -1)
