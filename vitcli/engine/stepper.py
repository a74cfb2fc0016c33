"""One optimiser step: the batch is resized and mixed, and its gradients are computed in micro-batches that fit."""

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from vitcli.core.optim_config import OptimConfig
from vitcli.core.seeds import derived_seed
from vitcli.engine.autocast import Precision
from vitcli.engine.cores import Pieces, on_cores, shares_of_cores
from vitcli.engine.device import seed_draws
from vitcli.engine.distributed import Parallel
from vitcli.engine.growth import Growth
from vitcli.engine.micro_batches import MicroBatches, memory_for
from vitcli.engine.mixing import Mixing
from vitcli.engine.objective import Objective, Targets, answers
from vitcli.engine.optim import Optimizers


class Taken(NamedTuple):
    """The figures of a step; the tensors, of shape (), stay on the device."""

    loss: Tensor
    """The loss before the step, summed over the batch of all processes."""
    correct: Tensor
    """The number of correct predictions in the batch."""
    grad_norm: Tensor
    """The norm of the gradients before clipping; not finite: float16 overflowed, so the step was skipped."""


class Stepper:
    """Optimiser steps of one model. Each has its own random draws, so that a failed step can be repeated.

    Args:
        forward: the forward pass of the model, of which each process computes a share.
        optimizers: the optimisers of the weights.
        objective: the loss.
        precision: the precision to compute in.
        micro_batches: the micro-batches of each batch.
        mixing: MixUp and CutMix.
        growth: the image size of every epoch; None: the full size.
        config: the optimisation settings.
        seed: the seed of dropout and stochastic depth.
        uses_cores: divide the images of a micro-batch among the cores of a CPU; the forward pass must draw no random
            numbers, because their order among threads is by chance.
    """

    def __init__(
        self,
        forward: Parallel,
        optimizers: Optimizers,
        *,
        objective: Objective,
        precision: Precision,
        micro_batches: MicroBatches,
        mixing: Mixing,
        growth: Growth | None,
        config: OptimConfig,
        seed: int,
        uses_cores: bool = False,
    ) -> None:
        self.forward = forward
        self.optimizers = optimizers
        self.objective = objective
        self._teacher = objective.distillation.teacher if objective.distillation else None
        self.precision = precision
        self.micro_batches = micro_batches
        self.mixing = mixing
        self.growth = growth
        self.config = config
        self.seed = seed
        self.uses_cores = uses_cores

    def take(self, images: Tensor, labels: Tensor, *, epoch: int, step: int, factor: float, batch_images: int) -> Taken:
        """Take one step.

        Args:
            images: images of this process, (B, C, H, W).
            labels: their labels, (B,).
            epoch: the epoch, counted from 1.
            step: the step in the epoch, counted from 0.
            factor: the factor on all learning rates.
            batch_images: the number of images in the batch of all processes.
        """
        self.optimizers.set_factor(factor)
        self.optimizers.train()
        images = self.growth(images, epoch) if self.growth else images
        targets = Targets(labels, partners=labels)
        if self.mixing:
            images, share = self.mixing(images, epoch=epoch, step=step)
            targets = Targets(labels, partners=labels.flip(0), share=share)
        processes = self.forward.processes
        seed = derived_seed("step", self.seed, epoch, step, *([processes.rank] if processes.rank else []))
        backward = partial(self._backward, images, targets, seed, batch_images / processes.size)
        loss, correct = self.micro_batches.fitted(backward, len(images))
        hint = "--opt sgd keeps fewer of them than --opt adamw; --devices N --shard distributes them"
        with memory_for("the moments of the optimizer", hint=hint):
            norm = self.optimizers.step(self.precision.scaler, clip_grad=self.config.clip_grad)
        loss, correct = processes.sum(loss, correct)
        return Taken(loss, correct, norm)

    def _backward(
        self, images: Tensor, targets: Targets, seed: int, divisor: float, slices: list[slice]
    ) -> tuple[Tensor, Tensor]:
        """Compute gradients of the batch's mean loss by micro-batches; return its summed loss and correct predictions.

        Empty micro-batches are computed too, because other processes wait for their gradients.
        """
        seed_draws(seed, images.device)
        self.optimizers.zero_grad()
        total, correct = torch.zeros(2, device=images.device).unbind()
        for here in slices:
            batch, wanted = images[here], targets.at(here)
            shares = shares_of_cores(len(batch), batch.device, self.forward.model) if self.uses_cores else []
            if sum(map(len, shares)) < 2:
                loss, right = self._loss(batch, wanted, is_last=here == slices[-1])
                self.precision.scaler.scale(loss / divisor).backward()
                total, correct = total + loss.detach(), correct + right
            else:
                for loss, right, gradients in on_cores(partial(self._gradients, batch, wanted, divisor), shares):
                    total, correct = total + loss, correct + right
                    self._add(gradients)
        return total, correct

    def _loss(self, images: Tensor, targets: Targets, *, is_last: bool) -> tuple[Tensor, Tensor]:
        """Compute the summed loss of images, and the number of correct predictions."""
        taught = self._teacher(images) if self._teacher else None
        with self.precision.autocast():
            logits = self.forward(images, is_last=is_last)
            logits = logits.float() if logits.dtype.itemsize < 4 else logits  # losses in 16 bits would be rounded
            loss = self.objective(logits, targets, taught)
        return loss, (answers(logits.detach()) == targets.main).sum()

    def _gradients(
        self, images: Tensor, targets: Targets, divisor: float, pieces: Pieces
    ) -> tuple[Tensor, Tensor, Sequence[Tensor | None]]:
        """Compute the summed loss, the correct predictions and the gradients of the images of one core.

        Of several pieces, the gradients are added up one by one, so that memory has to hold them only twice.
        """
        total, correct = torch.zeros(2).unbind()
        gradients: list[Tensor | None] = [None] * len(self.optimizers.parameters)
        for piece in pieces:
            loss, right = self._loss(images[piece], targets.at(piece), is_last=True)
            found: list[Tensor | None] = [
                *torch.autograd.grad(loss / divisor, self.optimizers.parameters, allow_unused=True)
            ]
            total, correct = total + loss.detach(), correct + right
            if len(pieces) == 1:
                return total, correct, found
            for at, before in enumerate(gradients):
                new, found[at] = found[at], None
                if new is not None:  # a copy, because autograd may give parameters one common tensor
                    gradients[at] = new.clone() if before is None else before.add_(new)
            del new
        return total, correct, gradients

    def _add(self, gradients: Sequence[Tensor | None]) -> None:
        """Add to the gradients of all trained parameters; None: a parameter was not used.

        autograd may give parameters one common tensor, or one whose values are in another order in memory. Optimisers
        need a tensor like the parameter.
        """
        for parameter, gradient in zip(self.optimizers.parameters, gradients, strict=True):
            if gradient is not None:
                own = torch.empty_like(parameter).copy_(gradient)
                parameter.grad = own if parameter.grad is None else parameter.grad.add_(own)
