"""The captioning loss, whose value the fusion llava computes."""

from __future__ import annotations

import pytest
import torch
from fusionkit_losses.captioning import Captioning

from fusionkit.flow import Batch, Output, Task


@pytest.mark.parametrize("kind", ["classification", "retrieval"])
def test_is_the_fusions_penalty_whatever_the_task(kind):
    penalty = torch.tensor(0.25, requires_grad=True)
    output = Output(torch.zeros(3, 2), torch.zeros(3, 4), penalties={"captioning": penalty})
    batch = Batch({}, {}, torch.zeros(3, dtype=torch.int64), torch.arange(3))
    loss = Captioning(Task(kind, ("a", "b"), (1, 1)))
    loss(output, batch).backward()
    assert penalty.grad.item() == 1.0
    assert kind in loss.tasks
    assert loss.needs_penalty == "captioning"
    assert loss.count(batch) == 3
