"""AdamW without a schedule or a fixed number of epochs (Defazio et al. 2024, "The Road Less Scheduled").

Steps move the ``base`` weights (z in the paper). Their running mean, ``average`` (x), is validated and saved; it has
the effect of a falling learning rate. Gradients are taken at a point between the two (y), where the model is while it
trains.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from vitcli.engine.eager import EagerOptimizer


class ScheduleFreeAdamW(EagerOptimizer):
    """AdamW with an average in place of momentum and schedule.

    The average weights each base by the square of the highest rate so far, so that a warm-up has little weight.
    Parameters hold the average at first and after ``eval``, and the point in between after ``train``. This point is
    computed again from the state, so switching back and forth does not change a bit.

    Args:
        params: parameters, or groups of them.
        lr: the learning rate.
        betas: the average's share in the point at which gradients are taken; the decay of their mean square.
        eps: added to the root of the mean square.
        weight_decay: the decoupled weight decay, of the weights at which gradients are taken.
    """

    def __init__(
        self,
        params: Any,
        *,
        lr: float = 0.0025,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay})
        self._holds_average = True

    @torch.no_grad()
    def train(self) -> None:
        """Switch the parameters to the weights at which gradients are taken."""
        if self._holds_average:
            for group in self.param_groups:
                self._move_between([weight for weight in group["params"] if weight in self.state], group["betas"][0])
        self._holds_average = False

    @torch.no_grad()
    def eval(self) -> None:
        """Switch the parameters to the average."""
        for weight, state in self.state.items():
            weight.copy_(state["average"])
        self._holds_average = True

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the state that ``state_dict`` returned; the parameters must hold the average."""
        super().load_state_dict(state_dict)
        self._holds_average = True

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Update every parameter that has a gradient; ``train`` must come before the gradients are computed."""
        assert closure is None
        assert not self._holds_average
        for group in self.param_groups:
            weights = [weight for weight in group["params"] if weight.grad is not None]
            if not weights:
                continue
            lr, (beta1, beta2) = group["lr"], group["betas"]
            shares = [self._begin_step(weight, lr) for weight in weights]
            squares, bases, averages = (self._all(name, weights) for name in ("exp_avg_sq", "base", "average"))
            gradients = [weight.grad for weight in weights if weight.grad is not None]
            torch._foreach_mul_(squares, beta2)
            torch._foreach_addcmul_(squares, gradients, gradients, value=1 - beta2)
            corrections = [1 - beta2**step for step in self._all("step", weights)]
            roots = torch._foreach_div(squares, corrections)  # noqa: SLF001 - foreach has no other name
            torch._foreach_sqrt_(roots)
            torch._foreach_add_(roots, group["eps"])
            torch._foreach_div_(gradients, roots)  # in place, to save memory
            torch._foreach_add_(gradients, weights, alpha=group["weight_decay"])
            torch._foreach_add_(bases, gradients, alpha=-lr)
            for share in sorted(set(shares)):  # mostly one; torch 2.11 takes no list of shares for a sharded model
                chosen = [number for number, each in enumerate(shares) if each == share]
                torch._foreach_lerp_([averages[at] for at in chosen], [bases[at] for at in chosen], share)
            self._move_between(weights, beta1)

    def _begin_step(self, weight: Tensor, lr: float) -> float:
        """Count a step of one parameter, and return the share of its new base in the average."""
        state = self.state[weight]
        if not state:
            state |= {"base": weight.clone(), "average": weight.clone(), "exp_avg_sq": torch.zeros_like(weight)}
            state |= {"step": 0, "highest_lr": lr, "bases": 0.0}
        highest_lr = max(state["highest_lr"], lr)
        ratio = state["highest_lr"] / highest_lr if highest_lr else 1.0  # a layer's rate may be too small for a number
        bases = state["bases"] * ratio**2 + 1  # in units of the new one
        state |= {"step": state["step"] + 1, "highest_lr": highest_lr, "bases": bases}
        return float(1 / bases)

    def _move_between(self, weights: list[Tensor], beta1: float) -> None:
        if weights:
            torch._foreach_lerp_(weights, self._all("average", weights), 1)  # copies, also if sharded
            torch._foreach_lerp_(weights, self._all("base", weights), 1 - beta1)

    def _all(self, name: str, weights: list[Tensor]) -> list[Any]:
        return [self.state[weight][name] for weight in weights]
