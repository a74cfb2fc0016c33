"""Optimisers that are never compiled.

The methods of torch's optimisers are decorated for torch.compile, and the first call of each imports torch._dynamo, for
seconds in which training seems to hang. What they decorate is used here; a version of torch that decorates nothing, or
something else, is as good.
"""

from inspect import unwrap

import torch
from torch.optim import SGD, Adam, AdamW, Optimizer


class EagerOptimizer(Optimizer):
    """A torch optimiser without decorators for torch.compile; a subclass that takes ``step`` from torch unwraps it too."""

    add_param_group = unwrap(Optimizer.add_param_group)
    state_dict = unwrap(Optimizer.state_dict)
    load_state_dict = unwrap(Optimizer.load_state_dict)
    zero_grad = unwrap(Optimizer.zero_grad)


class EagerAdamW(EagerOptimizer, AdamW):
    """AdamW."""

    step = torch.no_grad()(unwrap(AdamW.step))


class EagerAdam(EagerOptimizer, Adam):
    """Adam."""

    step = torch.no_grad()(unwrap(Adam.step))


class EagerSGD(EagerOptimizer, SGD):
    """SGD."""

    step = torch.no_grad()(unwrap(SGD.step))
