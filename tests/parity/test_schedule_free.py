"""Schedule-free AdamW against that of its authors, warm-up included."""

import pytest
import torch
from schedulefree import AdamWScheduleFree
from torch import nn

from vitcli.core.optim_config import OptimConfig
from vitcli.engine.optim import Optimizers
from vitcli.engine.schedule import learning_rate_factor
from vitcli.engine.schedule_free import ScheduleFreeAdamW

STEPS = 20
GROUPS = [{"lr": 0.05, "weight_decay": 0.3}, {"lr": 0.02, "weight_decay": 0.0}]
SHAPES = [(3, 4), (5,)], [(2, 2, 2)]


def groups_of(dtype):
    draws = torch.Generator().manual_seed(0)
    return [
        {"params": [nn.Parameter(torch.randn(shape, generator=draws).to(dtype)) for shape in shapes], **options}
        for shapes, options in zip(SHAPES, GROUPS, strict=True)
    ]


def parameters_of(groups):
    return [parameter for group in groups for parameter in group["params"]]


def take_gradients(parameters, step):
    """Of a bowl whose middle is elsewhere in every step, where the parameters are now."""
    draws = torch.Generator().manual_seed(step + 1)
    for parameter in parameters:
        parameter.grad = parameter.detach() - torch.randn(parameter.shape, generator=draws).to(parameter.dtype)


@pytest.mark.parametrize("betas", [(0.9, 0.999), (0.5, 0.9)])
@pytest.mark.parametrize("warmup", [0, 1, 7])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-6), (torch.float64, 1e-12)], ids=str)
def test_weights_that_learn_and_weights_that_are_judged_are_its_authors(dtype, tolerance, warmup, betas):
    ours, theirs = groups_of(dtype), groups_of(dtype)
    optimizers = Optimizers([ScheduleFreeAdamW(ours, betas=betas)])
    reference = AdamWScheduleFree(theirs, betas=betas, warmup_steps=warmup + 1)
    factor = learning_rate_factor(OptimConfig(epochs=STEPS, schedule="constant", warmup_epochs=warmup), 1)
    for step in range(STEPS):
        optimizers.set_factor(factor(step))
        for each, groups in ((optimizers, ours), (reference, theirs)):
            each.train()
            take_gradients(parameters_of(groups), step)
        optimizers.step(torch.amp.GradScaler("cpu", enabled=False), clip_grad=0)
        reference.step()
        for where in ("learn", "are judged"):
            for found, expected in zip(parameters_of(ours), parameters_of(theirs), strict=True):
                torch.testing.assert_close(found, expected, atol=tolerance, rtol=0, msg=f"{where}, step {step}")
            for each in (optimizers, reference):
                each.eval()
