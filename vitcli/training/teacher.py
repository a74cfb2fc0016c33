"""The teacher of a distillation: a frozen model that sees the student's images with its own preprocessing."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from vitcli.core.config import TrainConfig
from vitcli.core.errors import ModelError, RunError, UsageError, some
from vitcli.core.events import Emit, Note, Warned
from vitcli.core.files import expanded
from vitcli.core.model_config import ModelConfig
from vitcli.core.preprocessing import Preprocessing
from vitcli.core.teacher_config import TeacherConfig
from vitcli.data.preprocess import InputTransform
from vitcli.engine.autocast import Precision
from vitcli.engine.device import fingerprint
from vitcli.engine.distillation import Distillation
from vitcli.models.vit import VisionTransformer
from vitcli.trained.loading import load_model
from vitcli.trained.precision import choose_precision

_LUMINANCE = (0.299, 0.587, 0.114)
"""Weights of red, green and blue in a grey image, as in Pillow."""


@dataclass(frozen=True, kw_only=True)
class Teacher:
    """A trained model to learn from, on the student's device, in evaluation mode."""

    name: str
    model: VisionTransformer
    preprocessing: Preprocessing
    order: Tensor
    """Indices of the student's classes among the teacher's classes, (K,)."""
    precision: Precision
    weights: str
    """A fingerprint of the teacher's weights."""

    @property
    def record(self) -> dict[str, Any]:
        """Facts that a run stores: resuming needs the same weights, and on the same machine keeps the precision."""
        device = self.order.device
        computed = {"inference": self.precision.name, "machine": fingerprint(device)}
        return {"name": self.name, "weights": self.weights, "computed": computed}


def distillation_by(
    teacher: Teacher | None, config: TeacherConfig, student: ModelConfig, seen: Preprocessing
) -> Distillation | None:
    """Build the distillation loss, by which a student learns from a teacher; return None if there is no teacher.

    Args:
        teacher: the model to learn from; None: there is none.
        config: the settings of the distillation.
        student: the architecture of the model that learns.
        seen: the student's preprocessing.

    Raises:
        UsageError: the head that learns from labels would learn nothing.
    """
    if teacher is None:
        return None
    if config.alpha == 1 and student.distillation == "head":
        raise UsageError(
            "alpha = 1 leaves nothing to the labels, from which one of the two heads learns",
            hint="--distillation-alpha 0.5 is usual",
        )
    kind = _kind(config, student.distillation)
    return Distillation(teacher=_Shown(teacher, seen), kind=kind, alpha=config.alpha, temperature=config.temperature)


def _kind(config: TeacherConfig, distillation: str) -> Literal["soft", "hard"]:
    """Return the kind of distillation: by default hard for a student with a head for it."""
    if config.kind == "auto":
        return "hard" if distillation == "head" else "soft"
    return config.kind


def load_teacher(
    config: TrainConfig, classes: Sequence[str], *, recorded: Mapping[str, Any] | None = None, emit: Emit
) -> Teacher | None:
    """Load the teacher that a configuration names; return None if it names none.

    Args:
        config: the complete configuration.
        classes: the class names of the data.
        recorded: ``Teacher.record`` of the resumed run; None: the run is new.
        emit: receives a note about the teacher.

    Raises:
        ModelError: the teacher does not know the same classes, or cannot be read.
        RunError: the teacher is not the one that the run began with, or there is no such run.
        UsageError, DataError: the teacher cannot be found, downloaded or read.
    """
    name = config.teacher.name
    if not name:
        return None
    output_dir = expanded(config.run.output_dir)
    loaded = load_model(name, output_dir=output_dir, device=config.run.device, offline=config.run.offline, emit=emit)
    order = _order(name, loaded.checkpoint.classes, classes)
    calibration = loaded.checkpoint.calibration
    weights = _fingerprint(loaded.checkpoint.weights) + (f"-{calibration.temperature:.6g}" if calibration else "")
    if recorded and recorded["weights"] != weights:
        raise RunError(
            f"the weights or the calibration of {name} are not those of the teacher that the run began with",
            hint=f"name the teacher's weights with --teacher; the run began with {recorded['name']}",
        )
    known = recorded["computed"] if recorded else loaded.checkpoint.provenance.get("computed")
    precision = choose_precision(
        loaded.model, work="inference", amp=config.run.amp, dtype=config.run.amp_dtype, recorded=known
    )
    emit(Note(text=f"teacher: {loaded.path}, in {precision.name}"))
    is_hard = _kind(config.teacher, config.model.changes.get("distillation", "none")) == "hard"
    if is_hard and config.teacher.kind == "auto" and config.teacher.temperature != TeacherConfig().temperature:
        why = "a model with a distillation head learns the classes that the teacher predicts, not their probabilities"
        emit(Warned(text=f"--distillation-temperature has no effect: {why} (--distillation soft)"))
    return Teacher(
        name=name,
        model=precision.rounded(loaded.model.requires_grad_(requires_grad=False)),
        preprocessing=loaded.checkpoint.preprocessing,
        order=torch.tensor(order, device=loaded.device),
        precision=precision,
        weights=weights,
    )


class _Shown:
    """The function from the student's input to the teacher's logits of the student's classes."""

    def __init__(self, teacher: Teacher, seen: Preprocessing) -> None:
        self.teacher = teacher
        device = teacher.order.device
        self._seen, self._wanted = (InputTransform(each, device) for each in (seen, teacher.preprocessing))
        self._same_colours = (seen.mean, seen.std) == (teacher.preprocessing.mean, teacher.preprocessing.std)
        self._luminance = torch.tensor(_LUMINANCE, device=device)[:, None, None]

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Tensor:
        """Compute the teacher's logits, (B, C, H, W) -> float32 (B, K)."""
        channels = len(self.teacher.preprocessing.mean)
        if not self._same_colours or images.shape[1] != channels:
            pixels = self._with_channels(self._seen.undone(images), channels)
            images = self._wanted.normalised(pixels)
        images = self._wanted.resized(images)
        with self.teacher.precision.autocast():
            logits: Tensor = self.teacher.model(images)
        return logits.float()[:, self.teacher.order]

    def _with_channels(self, pixels: Tensor, wanted: int) -> Tensor:
        channels = pixels.shape[1]
        if channels == wanted:
            return pixels
        return pixels.repeat(1, wanted, 1, 1) if channels == 1 else (pixels * self._luminance).sum(dim=1, keepdim=True)


def _order(name: str, known: Sequence[str], wanted: Sequence[str]) -> list[int]:
    """Find the index of each of the student's classes among the teacher's classes.

    Raises:
        ModelError: the two do not have the same classes.
    """
    if missing := [repr(each) for each in wanted if each not in known]:
        raise ModelError(f"teacher {name} does not know every class: {some(missing)}", hint=_same_classes(known))
    if others := [repr(each) for each in known if each not in wanted]:
        raise ModelError(
            f"teacher {name} knows more classes than the data have: {some(others)}", hint=_same_classes(known)
        )
    return [list(known).index(each) for each in wanted]


def _same_classes(known: Sequence[str]) -> str:
    return f"a teacher needs the data's classes, but has {some(known)}: vit train DATA --init-from TEACHER adapts it"


def _fingerprint(weights: Mapping[str, Tensor]) -> str:
    """Compute a fingerprint of the names and values of weights."""
    digest = hashlib.sha256()
    for name in sorted(weights):
        digest.update(name.encode())
        digest.update(weights[name].detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()[:16]
