"""Balance of a mixture of experts."""

import torch
from fusionkit_losses.moe_balance import MoEBalance

from fusionkit.flow import Batch, Output, Task


def test_is_the_fusions_penalty():
    loss = MoEBalance(Task("classification", ("a", "b"), (1, 1)))
    penalty = torch.tensor(0.25, requires_grad=True)
    output = Output(torch.zeros(3, 2), torch.zeros(3, 4), penalties={"moe_balance": penalty, "other": torch.ones(())})
    value = loss(output, Batch({}, {}, torch.zeros(3, dtype=torch.int64), torch.arange(3)))
    value.backward()
    assert value.item() == 0.25
    assert penalty.grad.item() == 1.0
    assert loss.needs_penalty == "moe_balance"
