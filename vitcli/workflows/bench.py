"""Measurement of a model on this machine: speed in training and inference, latency, memory, and other libraries."""

import statistics
from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import asdict, dataclass, replace
from functools import partial
from importlib.metadata import version
from itertools import product
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from vitcli.core.errors import RunError, TrainingError, UsageError, check_choice
from vitcli.core.events import Emit, Note, TaskProgress, Warned, ignore
from vitcli.core.model_config import ModelConfig
from vitcli.core.preprocessing import Size
from vitcli.core.run_search import newest_finished
from vitcli.engine.alternation import Ratio, ratio
from vitcli.engine.autocast import Precision
from vitcli.engine.benchmark import (
    Latency,
    Measured,
    Step,
    measure_in_turn,
    our_inference,
    our_training,
    usual_inference,
    usual_training,
)
from vitcli.engine.compiling import Forward, compiled
from vitcli.engine.device import choose_device, computes_in, describe
from vitcli.engine.hardware import hardware, library_versions, matmul_peak
from vitcli.engine.micro_batches import MicroBatches
from vitcli.engine.timing import Work
from vitcli.models.counterparts import build_counterpart, check_libraries, more_parameters
from vitcli.models.flops import count_flops
from vitcli.models.layers import resampling
from vitcli.models.registry import MODELS, changed_sizes, listed_config
from vitcli.models.vit import VisionTransformer
from vitcli.trained.loading import read_model
from vitcli.trained.model_names import chosen_run, is_architecture
from vitcli.trained.precision import mixed_here

OURS = "vit"
"""The name of this library in the rows."""
_WORKS: tuple[Work, ...] = ("training", "inference")
_PRECISIONS = ("float32", "bfloat16", "float16")
_USUAL, _ON_CPU, _ON_GPU = "vit-nano-patch4", (1, 16), (1, 64, 256)
"""The model if there is no run, and the batch sizes if none are given."""
_PASSES = {"training": 3, "inference": 1}
"""The cost in forward passes: a backward pass costs as much as two of them."""


@dataclass(frozen=True, kw_only=True, slots=True)
class BenchRow:
    """One measurement: a library's model in one kind of work, precision and batch size."""

    library: str
    """vit, or the library that it is compared with."""
    work: Work
    """training: forward, backward, clipped gradients and AdamW; inference: from images on the device to logits."""
    precision: str
    """float32, bfloat16 or float16."""
    batch_size: int
    """Number of images in a batch."""
    images_per_second: float | None
    """Images per second at the median of the rounds' mean seconds of a batch; None: see ``error``."""
    slowest: float | None
    """Images per second of the slowest round."""
    fastest: float | None
    """Images per second of the fastest round."""
    latency: Latency | None
    """Seconds of single calls; None: training, or see ``error``."""
    peak_memory: int | None
    """Bytes of tensors by which the memory peak of a CUDA device rose with the model, its batch and its steps; None: not
    known, as on a CPU, or out of memory."""
    of_peak: float | None
    """Share of ``peaks``: images per second times ``flops``, times 3 in training; None: there is no peak. All libraries
    are counted with the same ``flops``, although ours leaves out tokens of the last block that nothing reads."""
    ratio: Ratio | None
    """Speed of vit divided by the speed of this library, above 1: vit is faster; None: this is vit, or see ``error``."""
    error: str
    """The reason why nothing was measured: out of memory; empty: it was measured."""


@dataclass(frozen=True, kw_only=True, slots=True)
class BenchResult:
    """The report of ``vit bench``."""

    model: str
    """Name of the architecture."""
    changed_sizes: str
    """The sizes that differ from those of the name, such as ``depth 2``; empty: none does."""
    parameters: int
    """Number of parameters."""
    image_size: Size
    """Height and width of the images."""
    channels: int
    """Number of channels of the images."""
    classes: int
    device: str
    compiled: bool
    """True if the training steps were compiled."""
    flops: int
    """Floating-point operations of a forward pass per image, of the whole model: matrix products and convolutions."""
    peaks: Mapping[str, float]
    """Operations per second of a large matrix product on this device, by precision: the faster of a measurement before
    all others and one after them. A precision that the device emulates has no peak."""
    rounds: int
    """Number of rounds of each measurement."""
    seconds: float
    """Seconds that each measurement was given, without warm-up."""
    hardware: Mapping[str, Any]
    """The system, the processor, its cores, torch's threads, memory in bytes, and GPUs."""
    versions: Mapping[str, str]
    """Versions of the libraries that were used."""
    rows: tuple[BenchRow, ...]
    """The measurements."""


def bench(
    model: str = "",
    *,
    batch_sizes: Sequence[int] = (),
    precisions: Sequence[str] = (),
    work: Work | None = None,
    changes: Mapping[str, Any] | None = None,
    against: Sequence[str] = (),
    compiles: bool = False,
    seconds: float = 2.0,
    rounds: int = 5,
    output_dir: Path = Path("experiments"),
    device: str = "auto",
    offline: bool = False,
    emit: Emit = ignore,
) -> BenchResult:
    """Measure a model on this machine; its weights are random, because they do not influence the speed.

    Args:
        model: a name of ``vit models``, or a model as for ``load_model``; empty: the newest finished run, else a small
            model.
        batch_sizes: the numbers of images in a batch; empty: some that suit the device.
        precisions: float32, bfloat16 or float16; empty: float32, and the mixed precision of the device if it has one.
        work: training or inference; None: both.
        changes: other values for fields of the model's configuration, for example ``image_size``.
        against: libraries to compare with: timm, torchvision, transformers.
        compiles: compile the model for training.
        seconds: the time for each measurement, without warm-up.
        rounds: the number of rounds of each measurement.
        output_dir: the folder of all runs.
        device: auto, cpu, cuda, cuda:N or mps.
        offline: download nothing.
        emit: receives notes and the progress.

    Raises:
        UsageError, ModelError, RunError: the model does not exist, a library is missing or lacks a part of the
            architecture, or a number does not make sense.
        DeviceError: there is no such device, or torch.compile does not work here.
    """
    if min(*batch_sizes, rounds, 1) < 1 or not 0 < seconds < float("inf"):
        raise UsageError("batch sizes, rounds and seconds must be positive")
    if compiles and work == "inference":
        raise UsageError("models are compiled for training only", hint="leave out --compile, or --work inference")
    for name in precisions:
        check_choice("precision", name, _PRECISIONS)
    check_libraries(tuple(against))
    chosen = choose_device(device)
    config = _architecture(model, output_dir, offline=offline, emit=emit)
    config = replace(config, **(changes or {}))
    models: dict[str, nn.Module] = {OURS: VisionTransformer(config)}
    for library in against:
        models[library] = build_counterpart(library, config)
        if more := more_parameters(library, config):
            emit(Note(text=f"{library} trains {more:,} parameters more: positions that vit computes or leaves out"))
    precisions = precisions or list(filter(None, ("float32", mixed_here(chosen, "bfloat16"))))
    native = [name for name in precisions if computes_in(chosen, name)]
    if emulated := " and ".join(name for name in precisions if name not in native):
        emit(Warned(text=f"{describe(chosen)} has no instructions for {emulated}: it emulates them, slowly"))
    torch.manual_seed(0)
    for name in precisions:
        _warm_up(config, _precision(name, chosen))
    before = _peaks(chosen, native, emit)

    # Measure every combination; within each, the libraries take turns
    found: list[tuple[_Place, dict[str, Measured]]] = []
    sizes = batch_sizes or (_ON_GPU if chosen.type == "cuda" else _ON_CPU)
    for each, name, size in product((work,) if work else _WORKS, precisions, sizes):
        place = _Place(work=each, precision=name, batch_size=size, device=chosen, compiles=compiles)
        if compiles:
            torch.compiler.reset()  # torch compiles few variants of a model
        measured = measure_in_turn(
            {library: partial(place.build, models[library], library, config) for library in models},
            device=chosen,
            one_by_one=each == "inference",
            rounds=rounds,
            seconds=seconds,
            on_progress=partial(_tell, emit, f"{each} in {name}, batch {size:,}"),
        )
        found.append((place, measured))

    # Measure the peaks again, because other work on the machine may have slowed the first measurement down
    after = _peaks(chosen, native, emit)
    peaks = dict(zip(native, map(max, before, after), strict=True))
    flops = count_flops(config)
    return BenchResult(
        model=config.name,
        changed_sizes=changed_sizes(config.name, asdict(config)),
        parameters=config.num_parameters,
        image_size=config.image_size,
        channels=config.in_channels,
        classes=config.num_classes,
        device=describe(chosen),
        compiled=compiles,
        flops=flops,
        peaks=peaks,
        rounds=rounds,
        seconds=seconds,
        hardware=hardware(),
        versions={**library_versions(), **{name: version(name) for name in against}},
        rows=tuple(row for place, measured in found for row in place.rows(measured, flops, peaks)),
    )


def _tell(emit: Emit, task: str, done: int, total: int) -> None:
    emit(TaskProgress(task=task, done=done, total=total))


def _peaks(device: torch.device, precisions: Sequence[str], emit: Emit) -> list[float]:
    """Measure the peak of the device in each precision."""
    task, peaks = "the peak of the device", list[float]()
    for done, name in enumerate(precisions):
        _tell(emit, task, done, len(precisions))
        peaks.append(matmul_peak(device, getattr(torch, name)))
    _tell(emit, task, len(precisions), len(precisions))
    return peaks


def _architecture(name: str, output_dir: Path, *, offline: bool, emit: Emit) -> ModelConfig:
    """Find the architecture to measure, and say which one it is if no name was given."""
    if not name:
        try:
            run = newest_finished(output_dir, emit)
        except RunError:
            emit(Note(text=f"model: {_USUAL}, because there is no finished run in {output_dir}"))
            return listed_config(_USUAL)
        emit(Note(text=f"model: that of the newest finished run, {run.name}"))
        name = str(run.path)
    if is_architecture(name, output_dir, MODELS):
        return listed_config(name)
    chosen = chosen_run(name, output_dir, emit)
    found = read_model(str(chosen.path) if chosen else name, output_dir=output_dir, offline=offline, emit=emit)
    return found.checkpoint.model


def _precision(name: str, device: torch.device) -> Precision:
    return Precision(device, amp="off" if name == "float32" else "on", dtype=name)


def _warm_up(config: ModelConfig, precision: Precision) -> None:
    """Take a training step of a tiny model, so that libraries are loaded before memory is measured."""
    tiny = replace(
        config, image_size=config.patch_size, width=8 * config.num_heads, depth=1, mlp_width=8, num_classes=2
    )
    images = torch.randn(2, tiny.in_channels, *tiny.image_size, device=precision.device)
    labels = torch.zeros(2, dtype=torch.int64, device=precision.device)
    our_training(VisionTransformer(tiny).to(precision.device), images, labels, precision)()


@dataclass(frozen=True, kw_only=True, slots=True)
class _Place:
    """One combination of what is measured."""

    work: Work
    precision: str
    batch_size: int
    device: torch.device
    compiles: bool

    def build(self, model: nn.Module, library: str, config: ModelConfig) -> Step:
        """Copy a model to the device, with a batch of random images, and return a step of the work."""
        model = deepcopy(model).to(self.device)
        images = torch.randn(self.batch_size, config.in_channels, *config.image_size, device=self.device)
        labels = torch.randint(max(config.num_classes, 1), (self.batch_size,), device=self.device)
        precision = _precision(self.precision, self.device)
        if self.work == "inference":
            infer = our_inference if library == OURS else usual_inference
            return infer(model, images, precision)
        if library != OURS:
            return usual_training(model, images, labels, precision, compiles=self.compiles)
        forward = self._compiled(model, images, precision) if self.compiles else None
        return our_training(model, images, labels, precision, forward=forward)

    def _compiled(self, model: nn.Module, images: Tensor, precision: Precision) -> Forward | None:
        parts = MicroBatches(1, emit=ignore, training=True)
        try:
            forward = compiled(
                model, [images], precision, micro_batches=parts, required=True, constants=[resampling], emit=ignore
            )
        except TrainingError as error:  # not even one image
            raise MemoryError(error.message) from error
        if parts.count > 1:
            raise MemoryError("the batch does not fit into memory at once")
        return forward

    def rows(self, measured: Mapping[str, Measured], flops: int, peaks: Mapping[str, float]) -> Iterator[BenchRow]:
        """Yield a row for each library."""
        ours = measured[OURS]
        peak = peaks.get(self.precision)
        share = _PASSES[self.work] * flops / peak if peak else None
        for library, each in measured.items():
            speeds = [self.batch_size / seconds for seconds in each.rounds]
            speed = None if each.error else self.batch_size / statistics.median(each.rounds)
            is_compared = library != OURS and not each.error and not ours.error
            yield BenchRow(
                library=library,
                work=self.work,
                precision=self.precision,
                batch_size=self.batch_size,
                images_per_second=speed,
                slowest=min(speeds, default=None),
                fastest=max(speeds, default=None),
                latency=each.latency if self.work == "inference" and not each.error else None,
                peak_memory=each.peak_memory,
                of_peak=None if speed is None or share is None else speed * share,
                ratio=ratio(each.rounds, ours.rounds) if is_compared else None,
                error=each.error,
            )
