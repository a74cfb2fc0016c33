"""Speed, latency and memory of training steps and of inference: of our model, and of models of other libraries."""

import math
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vitcli.core.augment_config import AugmentConfig
from vitcli.core.config import TrainConfig
from vitcli.core.errors import DeviceError, TrainingError
from vitcli.core.events import ignore
from vitcli.core.memory import is_out_of_memory
from vitcli.core.optim_config import OptimConfig
from vitcli.engine.alternation import alternate
from vitcli.engine.autocast import Precision
from vitcli.engine.compiling import Forward
from vitcli.engine.device import synchronize, watch_memory
from vitcli.engine.evaluate import in_micro_batches
from vitcli.engine.micro_batches import MicroBatches
from vitcli.engine.trial import trial_trainer

Step = Callable[[], object]
"""Function that takes one training step, or computes the logits of one batch."""
_LR = 1e-6
"""Learning rate: so low that the weights, and with them the time of a step, stay the same."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Latency:
    """Seconds from the call for a batch to its logits."""

    calls: int
    """Number of measured calls."""
    p50: float
    """Median: half of the calls took at most this long."""
    p90: float | None
    """90 % of the calls took at most this long; None: fewer than 10 calls do not tell."""
    p99: float | None
    """99 % of the calls took at most this long; None: fewer than 100 calls do not tell."""


@dataclass(kw_only=True)
class Measured:
    """The measurements of one kind of step."""

    peak_memory: int | None = None
    """Bytes by which the memory peak of a GPU rose: weights, images, activations, and in training gradients and moments;
    None: not known, as on a CPU."""
    rounds: list[float] = field(default_factory=list)
    """Mean seconds of a step in each round."""
    calls: list[float] = field(default_factory=list)
    """Seconds of each call, if calls are timed one by one; else the mean of each round."""
    error: str = ""
    """The reason why there are no times."""

    @property
    def latency(self) -> Latency:
        """The percentiles of the calls."""
        ordered = sorted(self.calls)

        def percentile(share: float) -> float | None:
            return ordered[math.ceil(share * len(ordered)) - 1] if len(ordered) * (1 - share) >= 0.999 else None

        return Latency(calls=len(ordered), p50=statistics.median(ordered), p90=percentile(0.9), p99=percentile(0.99))


def measure_in_turn(
    builds: Mapping[str, Callable[[], Step]],
    *,
    device: torch.device,
    one_by_one: bool,
    rounds: int,
    seconds: float,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, Measured]:
    """Measure the memory of each kind of step alone, then the time of all of them in turn.

    Warm-up is not counted: the first two steps of each, and a first round. What does not fit into memory is left out of
    the rounds.

    Args:
        builds: functions that put a model, a batch and the rest on the device, and return a step; by name.
        device: the device that takes the steps.
        one_by_one: wait for the device after each step, and keep the time of each; else only at the end of a round.
        rounds: the number of rounds; the order is reversed in every second one.
        seconds: the time for all rounds of each step; every round has at least one step.
        on_progress: called with the number of finished parts, and of all parts.
    """
    measured = {name: Measured() for name in builds}
    turns = _Turns(measured, device, one_by_one=one_by_one)
    total = len(builds) * (1 + 1 + rounds)
    done = iter(range(1, total + 1))

    def counted(work: Callable[[], float]) -> float:
        result = work()
        on_progress(next(done), total)
        return result

    on_progress(0, total)
    for name, build in builds.items():
        took = counted(partial(turns.first_steps, name, build))
        turns.counts[name] = max(1, round(seconds / rounds / took)) if took > 0 else 1
    by_round = alternate({name: partial(counted, partial(turns.one_round, name)) for name in builds}, rounds=rounds)
    for name in turns.steps:
        measured[name].rounds = by_round[name]
        measured[name].calls = [call for calls in turns.calls[name][1:] for call in calls]
    return measured


class _Turns:
    """The steps that fit into memory, and their times.

    Args:
        measured: receives the memory, or the error, of each kind of step.
        device: the device.
        one_by_one: time each step alone.
    """

    def __init__(self, measured: Mapping[str, Measured], device: torch.device, *, one_by_one: bool) -> None:
        self.measured = measured
        self.device = device
        self.one_by_one = one_by_one
        self.steps: dict[str, Step] = {}
        self.counts: dict[str, int] = {}
        """The number of steps in a round."""
        self.calls: dict[str, list[list[float]]] = {name: [] for name in measured}
        """Seconds of each timed stretch, by round."""

    def first_steps(self, name: str, build: Callable[[], Step]) -> float:
        """Build a step, take it twice, and return the seconds of the second time; NaN: it does not fit into memory."""

        def work() -> float:
            peak = watch_memory(self.device)
            step = build()
            _timed(step, self.device)
            took = _timed(step, self.device)
            self.measured[name].peak_memory = peak()
            self.steps[name] = step
            return took

        return self._attempt(name, work)

    def one_round(self, name: str) -> float:
        """Take the steps of a round, and return the mean seconds of a step; NaN: it did not fit into memory."""
        if name not in self.steps:
            return math.nan
        step, count = self.steps[name], self.counts[name]

        def work() -> float:
            alone = [_timed(step, self.device) for _ in range(count)] if self.one_by_one else []
            self.calls[name].append(alone or [_timed(step, self.device, count=count)])
            return statistics.fmean(self.calls[name][-1])

        return self._attempt(name, work)

    def _attempt(self, name: str, work: Callable[[], float]) -> float:
        """Do work; if memory does not suffice, note it as the error of the step, which is given up."""
        try:
            return work()
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
        # The error is gone here, and with it the stack frames that held its tensors.
        self.steps.pop(name, None)
        self.measured[name].peak_memory = None
        self.measured[name].error = f"out of memory{' beside the others' if self.steps else ''}"
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        return math.nan


def _timed(step: Step, device: torch.device, *, count: int = 1) -> float:
    """Measure the mean seconds of some steps, until the device has finished them."""
    synchronize(device)
    started = time.perf_counter()
    for _ in range(count):
        step()
    synchronize(device)
    return (time.perf_counter() - started) / count


class _OneBatch:
    """Training batches that are always the same one, on the device."""

    def __init__(self, images: Tensor, labels: Tensor) -> None:
        self.images, self.labels = images, labels
        self.num_images = self.batch_size = len(images)

    def __len__(self) -> int:
        return 1

    def epoch(self, number: int, *, start: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the batch."""
        assert number
        assert not start
        yield self.images, self.labels


def our_training(
    model: nn.Module, images: Tensor, labels: Tensor, precision: Precision, *, forward: Forward | None = None
) -> Step:
    """Return a step of the trainer with AdamW: forward, backward, clipped gradients, and the optimizer.

    A batch that does not fit into memory at once raises MemoryError; in training, it is taken in micro-batches.
    """
    config = TrainConfig(
        augment=AugmentConfig(mixup=0.0, cutmix=0.0),
        optim=OptimConfig(
            optimizer="adamw", lr=_LR, schedule="constant", warmup_epochs=0, epochs=1, batch_size=len(images)
        ),
    )
    batches = _OneBatch(images, labels)
    trainer = trial_trainer(model.train(), config, batches, precision, distillation=None, forward=forward)

    def step() -> None:
        trainer.step = 0
        trainer.take_step(images, labels)

    return partial(_at_once, trainer.micro_batches, step)


@torch.inference_mode()
def _infer(model: nn.Module, images: Tensor, precision: Precision, micro_batches: MicroBatches) -> None:
    in_micro_batches(model, images, precision, micro_batches)


def our_inference(model: nn.Module, images: Tensor, precision: Precision) -> Step:
    """Return a function that computes logits as ``vit predict`` does, from images on the device."""
    micro_batches = MicroBatches(1, emit=ignore)
    model = precision.rounded(model.eval())
    return partial(_at_once, micro_batches, partial(_infer, model, images, precision, micro_batches))


def _at_once(micro_batches: MicroBatches, step: Step) -> None:
    """Take a step; raise MemoryError if its batch does not fit into memory at once."""
    try:
        step()
    except (TrainingError, DeviceError) as error:  # not even one image, or the moments do not fit
        raise MemoryError(error.message) from error
    if micro_batches.count > 1:
        raise MemoryError("the batch does not fit into memory at once")


def usual_training(
    model: nn.Module, images: Tensor, labels: Tensor, precision: Precision, *, compiles: bool = False
) -> Step:
    """Return a training step as it is usually written for models of other libraries, with the same settings as ours."""
    usual = OptimConfig(optimizer="adamw")
    model.train()
    forward: Any = torch.compile(model, dynamic=False) if compiles else model
    parameters = list(model.parameters())
    optimizer = torch.optim.AdamW(parameters, lr=_LR, betas=usual.betas, weight_decay=usual.weight_decay, fused=True)
    scaler = precision.scaler

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        with _usual_autocast(precision):
            loss = F.cross_entropy(_logits(forward(images)), labels)
        scaler.scale(loss).backward()
        scaler.unscale_(optimizer)
        nn.utils.clip_grad_norm_(parameters, usual.clip_grad)
        scaler.step(optimizer)
        scaler.update()

    return step


def usual_inference(model: nn.Module, images: Tensor, precision: Precision) -> Step:
    """Return a function that computes logits as it is usually written for models of other libraries."""
    model.eval()

    def infer() -> None:
        with torch.inference_mode(), _usual_autocast(precision):
            _logits(model(images))

    return infer


def _usual_autocast(precision: Precision) -> Any:
    return torch.autocast(precision.device.type, dtype=precision.dtype) if precision.enabled else nullcontext()


def _logits(output: Any) -> Tensor:
    """Return the logits; transformers has them in an object."""
    logits: Tensor = getattr(output, "logits", output)
    return logits
