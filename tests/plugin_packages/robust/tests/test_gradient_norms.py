"""What is noted of gradients, and told of them in the report."""

from types import SimpleNamespace

import pytest
import torch
from fusionkit_robust.gradient_norms import GradientNorms
from fusionkit_robust.section import section


@pytest.fixture
def fit(tmp_path):
    model = torch.nn.Linear(2, 1)
    return SimpleNamespace(name="fusion", step=0, model=model, run_folder=tmp_path, is_first=True)


def train(callback, fit, norms):
    """Steps of an epoch in which the gradient is as long as told."""
    for norm in norms:
        fit.model.weight.grad, fit.model.bias.grad = torch.tensor([[0.6 * norm, 0.0]]), torch.tensor([-0.8 * norm])
        fit.step += 1
        callback.on_step_end(fit, {})
    callback.on_epoch_end(fit)


def lines(fit):
    return (fit.run_folder / "gradient_norms" / "fusion.csv").read_text().splitlines()


def test_a_row_a_step(fit):
    callback = GradientNorms()
    callback.on_fit_start(fit)
    train(callback, fit, [5.0, 10.0])
    head, *rows = lines(fit)
    assert head == "step,norm"
    assert [float(row.partition(",")[2]) for row in rows] == pytest.approx([5, 10])


def test_each_model_has_its_own(fit):
    callback = GradientNorms()
    for fit.name in ("baseline", "fusion"):
        fit.step = 0
        callback.on_fit_start(fit)
        train(callback, fit, [5.0])
    assert len(lines(fit)) == 2


def test_a_resumed_run_goes_on_behind_its_last_checkpoint(fit):
    callback = GradientNorms()
    callback.on_fit_start(fit)
    train(callback, fit, [5.0, 10.0, 20.0])
    fit.step, again = 2, GradientNorms()
    again.on_fit_start(fit)
    train(again, fit, [40.0])
    assert [line.partition(",")[0] for line in lines(fit)] == ["step", "1", "2", "3"]
    assert float(lines(fit)[-1].partition(",")[2]) == pytest.approx(40)


def test_one_process_writes(fit):
    fit.is_first = False
    callback = GradientNorms()
    callback.on_fit_start(fit)
    train(callback, fit, [5.0])
    assert not list(fit.run_folder.iterdir())


def test_the_section(fit):
    assert section(fit.run_folder) == []
    callback = GradientNorms()
    callback.on_fit_start(fit)
    train(callback, fit, [5.0, 20.0, 10.0])
    assert section(fit.run_folder) == [("Gradient norms", "fusion: median 10, greatest 20 in step 2 of 3")]
