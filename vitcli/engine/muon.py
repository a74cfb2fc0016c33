"""Muon (Jordan 2024): momentum SGD that replaces each matrix's update by the nearest semi-orthogonal matrix.

The algorithm is that of ``torch.optim.Muon`` (a test compares the two), but matrices of one shape are orthogonalised as
one batch, and in bfloat16 on CUDA only. A CPU computes in the precision of the matrices, at least float32: with ``--amp
off``, a seed then gives the same result with and without bfloat16 support, and a step is as fast
(``benchmarks/muon.py``).
"""

import math
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from vitcli.engine.device import has_bfloat16
from vitcli.engine.eager import EagerOptimizer
from vitcli.engine.sharding import is_sharded, part_of, whole

_COEFFICIENTS = (3.4445, -4.7750, 2.0315)
_ITERATIONS = 5
_EPS = 1e-7


def orthogonalise(matrices: Tensor) -> Tensor:
    """Move singular values towards 1 by five Newton-Schulz iterations; singular vectors do not change.

    Args:
        matrices: a batch of matrices, (M, rows, columns).

    Returns:
        A tensor of the same shape and type; the singular values end up between about 0.7 and 1.2.
    """
    is_fast = matrices.is_cuda and has_bfloat16(matrices.device)
    precision = torch.bfloat16 if is_fast else torch.promote_types(matrices.dtype, torch.float32)
    return newton_schulz(matrices.to(precision)).to(matrices.dtype)


def newton_schulz(matrices: Tensor) -> Tensor:
    """Orthogonalise matrices in their own precision.

    Every iteration multiplies X by a polynomial p of its Gram matrix G = X X^T; the next Gram matrix is then p G p. For
    long matrices, the polynomials are multiplied together first, and X is multiplied only once: half the work at 4 to
    1. In bfloat16 the Gram matrix would lose the small singular values, so each iteration computes it from X.
    """
    is_tall = matrices.shape[-2] > matrices.shape[-1]
    x = matrices.mT if is_tall else matrices  # (M, short, long)
    x = x / x.norm(dim=(-2, -1), keepdim=True).clamp(min=_EPS)
    a, b, c = _COEFFICIENTS
    if x.dtype == torch.bfloat16 or x.shape[-1] < 2 * x.shape[-2]:
        for _ in range(_ITERATIONS):
            gram = x @ x.mT
            x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    else:
        gram = x @ x.mT
        product = polynomial = _polynomial(gram)
        for _ in range(1, _ITERATIONS):
            gram = polynomial @ gram @ polynomial
            polynomial = _polynomial(gram)
            product = polynomial @ product
        x = product @ x
    return x.mT if is_tall else x


def _polynomial(gram: Tensor) -> Tensor:
    """Compute a I + b G + c G^2."""
    a, b, c = _COEFFICIENTS
    polynomial = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
    polynomial.diagonal(dim1=-2, dim2=-1).add_(a)
    return polynomial


class Muon(EagerOptimizer):
    """Muon with Nesterov momentum and decoupled weight decay, for matrices only.

    Args:
        params: matrices, or groups of them.
        lr: the learning rate; the steps of tall matrices are sqrt(rows / columns) times as large.
        momentum: the decay of the gradient's running mean.
        weight_decay: the weight decay, decoupled as in AdamW.
    """

    def __init__(self, params: Any, *, lr: float = 0.02, momentum: float = 0.95, weight_decay: float = 0.0) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Update every matrix that has a gradient."""
        assert closure is None
        for group in self.param_groups:
            by_shape: dict[tuple[torch.Size, int], list[Tensor]] = defaultdict(list)
            for number, matrix in enumerate(group["params"]):
                if matrix.grad is not None:  # a device has memory for one whole sharded matrix, not for all
                    by_shape[matrix.shape, number if is_sharded(matrix) else 0].append(matrix)
            for ((rows, columns), _), matrices in by_shape.items():
                directions = self._directions(matrices, group["momentum"])
                found = orthogonalise(torch.stack([whole(direction) for direction in directions])).unbind()
                updates = [part_of(update, like=matrix) for update, matrix in zip(found, matrices, strict=True)]
                if group["weight_decay"]:
                    torch._foreach_mul_(matrices, 1 - group["lr"] * group["weight_decay"])
                rate = group["lr"] * math.sqrt(max(1, rows / columns))
                torch._foreach_add_(matrices, updates, alpha=-rate)

    def _directions(self, matrices: list[Tensor], momentum: float) -> list[Tensor]:
        """Return the Nesterov momentum of each matrix: its gradient, moved towards the running mean."""
        gradients = [matrix.grad for matrix in matrices if matrix.grad is not None]
        for matrix in matrices:
            if "momentum_buffer" not in self.state[matrix]:
                self.state[matrix]["momentum_buffer"] = torch.zeros_like(matrix)
        means = [self.state[matrix]["momentum_buffer"] for matrix in matrices]
        torch._foreach_lerp_(means, gradients, 1 - momentum)
        return [torch.lerp(gradient, mean, momentum) for gradient, mean in zip(gradients, means, strict=True)]
