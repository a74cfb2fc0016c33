"""One optimiser step: a batch, grown and mixed, in micro-batches that fit, to gradients and changed weights."""

from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from vitcli.core.config import OptimConfig
from vitcli.core.seeds import derived_seed
from vitcli.engine.autocast import Precision
from vitcli.engine.device import seed_draws
from vitcli.engine.distributed import Parallel
from vitcli.engine.growth import Growth
from vitcli.engine.micro_batches import MicroBatches, memory_for
from vitcli.engine.mixing import Mixing
from vitcli.engine.objective import Objective, Targets, answers
from vitcli.engine.optim import Optimizers


class Taken(NamedTuple):
    """The figures of a step; the tensors, (), stay on the device."""

    loss: Tensor
    """Summed over the batch, of all processes, before the step."""
    correct: Tensor
    """How many of its images were right."""
    grad_norm: Tensor
    """Before clipping."""


class Stepper:
    """Takes steps. Each has draws of its own, so that one that failed can be taken again.

    Args:
        forward: the model, a share of whose work each process does.
        optimizers: of its weights.
        objective: what is made small.
        precision: what is computed in.
        micro_batches: of each batch.
        mixing: MixUp and CutMix.
        growth: of images; None: they are whole.
        config: the optimisation.
        seed: of dropout and stochastic depth.
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

    def take(self, images: Tensor, labels: Tensor, *, epoch: int, step: int, factor: float, batch_images: int) -> Taken:
        """Take the step.

        Args:
            images: of this process, (B, C, H, W).
            labels: (B,).
            epoch: from 1.
            step: of the epoch, from 0.
            factor: on all learning rates.
            batch_images: of all processes.
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
        hint = "--opt sgd keeps fewer of them than --opt adamw; --devices N --shard shares them out"
        with memory_for("the moments of the optimizer", hint=hint):
            norm = self.optimizers.step(self.precision.scaler, clip_grad=self.config.clip_grad)
        loss, correct = processes.sum(loss, correct)
        return Taken(loss, correct, norm.nan_to_num(0, 0, 0))  # float16 that overflowed: nothing was changed

    def _backward(
        self, images: Tensor, targets: Targets, seed: int, divisor: float, slices: list[slice]
    ) -> tuple[Tensor, Tensor]:
        """Gradients of the batch's mean loss, gathered micro-batch by micro-batch; its summed loss, and how many are right.

        For an empty micro-batch, too, other processes wait for gradients.
        """
        seed_draws(seed, images.device)
        self.optimizers.zero_grad()
        total, correct = torch.zeros(2, device=images.device).unbind()
        for here in slices:
            taught = self._teacher(images[here]) if self._teacher else None
            with self.precision.autocast():
                logits = self.forward(images[here], is_last=here == slices[-1])
                loss = self.objective(logits, targets.at(here), taught)
            self.precision.scaler.scale(loss / divisor).backward()
            total = total + loss.detach()
            correct = correct + (answers(logits.detach()) == targets.labels[here]).sum()
        return total, correct
