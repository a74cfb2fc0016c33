"""torch's optimisers without their decorators for torch.compile.

The first call of a decorated method imports torch._dynamo; this takes seconds, during which training seems to hang. The
classes here use the undecorated methods. They also work with a version of torch that decorates others, or none.
"""

from inspect import unwrap

import torch
from torch.optim import SGD, Adam, AdamW, Optimizer


class EagerOptimizer(Optimizer):
    """A torch optimiser without decorators for torch.compile; subclasses have to unwrap torch's ``step`` too."""

    add_param_group = unwrap(Optimizer.add_param_group)
    state_dict = unwrap(Optimizer.state_dict)
    load_state_dict = unwrap(Optimizer.load_state_dict)
    zero_grad = unwrap(Optimizer.zero_grad)


class EagerAdamW(EagerOptimizer, AdamW):
    """AdamW without decorators for torch.compile."""

    step = torch.no_grad()(unwrap(AdamW.step))


class EagerAdam(EagerOptimizer, Adam):
    """Adam without decorators for torch.compile."""

    step = torch.no_grad()(unwrap(Adam.step))


class EagerSGD(EagerOptimizer, SGD):
    """SGD without decorators for torch.compile."""

    step = torch.no_grad()(unwrap(SGD.step))
