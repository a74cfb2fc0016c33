"""Optimisers in which every parameter has its own learning rate and weight decay."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from vitcli.core.errors import TrainingError
from vitcli.core.optim_config import OptimConfig
from vitcli.engine.eager import EagerAdam, EagerAdamW, EagerSGD
from vitcli.engine.muon import Muon
from vitcli.engine.schedule_free import ScheduleFreeAdamW
from vitcli.engine.sharding import is_sharded, part_of, whole


class Trainable(Protocol):
    """The interface of a model that can be optimised."""

    @property
    def no_decay(self) -> frozenset[str]:
        """Names of parameters with more than one dimension that get no weight decay."""

    def layer_of(self, name: str) -> int:
        """Return the layer of a parameter: 0 for the embedding, 1..depth for the blocks, depth + 1 for the rest."""

    def is_head(self, name: str) -> bool:
        """Tell whether a parameter belongs to the classifier, which may have its own learning rate."""

    def named_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        """Return all names and parameters."""


class Optimizers:
    """One or two torch optimisers that step together; each group has ``factor`` times its peak learning rate."""

    def __init__(self, optimizers: Iterable[Optimizer]) -> None:
        self.all = list(optimizers)
        for group in self.groups:
            group["peak_lr"] = group["lr"]

    @property
    def groups(self) -> list[dict[str, Any]]:
        """All groups of parameters; a torch optimiser makes new groups when its state is loaded."""
        return [group for optimizer in self.all for group in optimizer.param_groups]

    @property
    def parameters(self) -> list[Tensor]:
        """All trained parameters."""
        return [parameter for group in self.groups for parameter in group["params"]]

    def set_factor(self, factor: float) -> None:
        """Set every learning rate to ``factor`` times its peak."""
        for group in self.groups:
            group["lr"] = factor * group["peak_lr"]

    def train(self) -> None:
        """Switch schedule-free optimisers to training: parameters hold the weights at which gradients are taken."""
        for optimizer in self.all:
            if isinstance(optimizer, ScheduleFreeAdamW):
                optimizer.train()

    def eval(self) -> None:
        """Switch schedule-free optimisers to evaluation: parameters hold the weights that are validated and saved."""
        for optimizer in self.all:
            if isinstance(optimizer, ScheduleFreeAdamW):
                optimizer.eval()

    def zero_grad(self) -> None:
        """Delete the gradients."""
        for optimizer in self.all:
            optimizer.zero_grad(set_to_none=True)

    def step(self, scaler: torch.amp.GradScaler, *, clip_grad: float) -> Tensor:
        """Unscale and clip the gradients, then step; if float16 gradients overflowed, no optimiser steps.

        Returns:
            The norm of the gradients before clipping, ().
        """
        for optimizer in self.all:
            scaler.unscale_(optimizer)
        gradients = [each.grad for each in self.parameters if each.grad is not None]
        norm = whole(nn.utils.get_total_norm(gradients, foreach=True))
        if clip_grad:
            nn.utils.clip_grads_with_norm_(self.parameters, clip_grad, norm, foreach=True)
        if not (scaler.is_enabled() and not norm.isfinite()):
            for optimizer in self.all:
                optimizer.step()
        scaler.update()
        return norm

    def state_dict(self) -> dict[str, Any]:
        """Return the moments of each parameter, by optimiser and by number of the parameter.

        Learning rates and decays are not included: they come from the configuration.
        """
        return {
            str(index): {str(number): values for number, values in optimizer.state_dict()["state"].items()}
            for index, optimizer in enumerate(self.all)
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore the state that ``state_dict`` returned; all its tensors must be whole, also for a sharded model."""
        for index, optimizer in enumerate(self.all):
            parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
            values = {
                int(number): {
                    name: part_of(value, like=parameters[int(number)]) if isinstance(value, Tensor) else value
                    for name, value in each.items()
                }
                for number, each in state[str(index)].items()
            }
            optimizer.load_state_dict({"state": values, "param_groups": optimizer.state_dict()["param_groups"]})


_Groups = dict[tuple[float, float], list[nn.Parameter]]
"""Parameters by (factor on the learning rate, weight decay)."""


def build_optimizers(model: Trainable, config: OptimConfig) -> Optimizers:
    """Build the optimisers of a configuration for the parameters that require gradients.

    Vectors (norms, biases, scales) and the parameters in the model's ``no_decay`` get no weight decay, unless
    ``decay_all`` is set. With layer decay
    d, a layer k steps below the top has d^k times the learning rate (Clark et al. 2020, ELECTRA).

    Raises:
        TrainingError: there is no parameter to train, or no matrix for muon.
    """
    trained = [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]
    if not trained:
        raise TrainingError("no parameter is left to train")
    top = max(model.layer_of(name) for name, _ in model.named_parameters())
    matrices: _Groups = defaultdict(list)
    rest: _Groups = defaultdict(list)
    for name, parameter in trained:
        layer = model.layer_of(name)
        decays = config.decay_all or (parameter.ndim > 1 and name not in model.no_decay)
        decay = config.weight_decay if decays else 0.0
        is_block_matrix = parameter.ndim == 2 and 0 < layer < top
        target = matrices if config.optimizer == "muon" and is_block_matrix else rest
        is_head = config.head_lr and model.is_head(name)
        factor = config.head_lr / config.lr_of_rest if is_head else config.layer_decay ** (top - layer)
        target[factor, decay].append(parameter)

    if config.optimizer == "muon":
        if not matrices:
            raise TrainingError("muon trains the matrices of the blocks, but all blocks are frozen", hint="--opt adamw")
        adamw = EagerAdamW(_param_groups(rest, config.lr_of_rest), betas=config.betas, fused=True)
        return Optimizers([Muon(_param_groups(matrices, config.peak_lr)), adamw])
    is_fused = not is_sharded(trained[0][1])  # torch has no fused SGD for shards
    build: dict[str, Callable[[list[dict[str, Any]]], Optimizer]] = {
        "adamw": lambda groups: EagerAdamW(groups, betas=config.betas, fused=True),
        "adam": lambda groups: EagerAdam(groups, betas=config.betas, fused=True),
        "sgd": lambda groups: EagerSGD(groups, momentum=config.momentum, fused=is_fused),
        "schedule-free": lambda groups: ScheduleFreeAdamW(groups, betas=config.betas),
    }
    return Optimizers([build[config.optimizer](_param_groups(rest, config.lr_of_rest))])


def _param_groups(groups: _Groups, lr: float) -> list[dict[str, Any]]:
    return [
        {"params": members, "lr": lr * factor, "weight_decay": decay} for (factor, decay), members in groups.items()
    ]
