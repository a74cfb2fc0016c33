"""The choice of the precision in which a model computes on this machine.

For ``auto``, the speed is measured once per machine, model and kind of work, and stored in the folder of data sets, so
that the same seed gives the same result. A run also records the choice, which is then used for its own checkpoints. If
nothing can be stored, only ``on`` or ``off`` makes sure that two runs are the same.
"""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import torch

from vitcli.core.measurements import measured_once
from vitcli.data.store import data_dir
from vitcli.engine.autocast import Precision
from vitcli.engine.device import fingerprint, has_bfloat16
from vitcli.engine.timing import Work, clearly_faster, mixed_dtype, seconds_per_image
from vitcli.models.vit import VisionTransformer

BLOCKS = 4
"""The number of blocks that are timed: the first ones and the last, instead of all."""
_INFERENCE_BATCH = 64
_NO_MATTER_OF_SPEED = {"name", "init_std", "patch_init_std"}
"""Fields of a model's configuration that do not influence its speed."""
_WAY = 3
"""A number for the way in which passes are computed: times that earlier versions stored under another one do not count."""


def choose_precision(
    model: VisionTransformer,
    *,
    work: Work,
    amp: str = "auto",
    dtype: str = "bfloat16",
    batch: int = _INFERENCE_BATCH,
    recorded: Mapping[str, Any] | None = None,
) -> Precision:
    """Choose a precision: as configured, else as the model's run recorded on this machine, else the faster one here.

    Args:
        model: the model, on its device.
        work: training or inference.
        amp: auto, on or off.
        dtype: the type for mixed precision, bfloat16 or float16.
        batch: the number of images per forward pass.
        recorded: ``Computing.record`` of the run; None: nothing was recorded.
    """
    device = next(model.parameters()).device
    if amp != "auto":
        return Precision(device, amp=amp, dtype=dtype)
    mixed = mixed_here(device, dtype)
    if known := recorded_here(recorded, device):
        name = known[work]
    else:
        name = clearly_faster(seconds_by_precision(model, work, mixed, batch)) if mixed else "float32"
    return Precision(device, amp="off" if name == "float32" else "on", dtype=name)


def recorded_here(recorded: Mapping[str, Any] | None, device: torch.device) -> Mapping[str, Any] | None:
    """Return the record of a run if it was made on this machine, else None."""
    return recorded if recorded and recorded.get("machine") == fingerprint(device) else None


def mixed_here(device: torch.device, asked: str) -> str | None:
    """Return the mixed precision that may be faster on a device; None: there is none, so nothing is measured."""
    return mixed_dtype(device.type, asked, has_bfloat16=has_bfloat16(device))


def seconds_by_precision(model: VisionTransformer, work: Work, dtype: str, batch: int) -> Mapping[str, float]:
    """Return the seconds per image for each precision, stored or measured, of at most ``BLOCKS`` blocks of a model."""
    config = model.config
    question = question_about(model, work) | {"precision": dtype}
    if work == "training":
        question["batch"] = batch

    def measure() -> dict[str, float]:
        return seconds_per_image(
            model,
            work=work,
            dtype=dtype,
            image_shape=(config.in_channels, *config.image_size),
            most_images=batch,
            left_out=model.blocks[BLOCKS - 1 : -1],
        )

    return measured_once(question, measure, folder=data_dir() / "measured")


def question_about(model: VisionTransformer, work: Work) -> dict[str, Any]:
    """Describe everything that the speed of a model depends on, as the question for ``measured_once``."""
    settings = {name: value for name, value in asdict(model.config).items() if name not in _NO_MATTER_OF_SPEED}
    question: dict[str, Any] = {
        "work": work,
        "machine": fingerprint(next(model.parameters()).device),
        "model": settings,
        "way": _WAY,
    }
    if work == "training":
        trained = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
        question["trained_parameters"] = trained
        if model.grad_checkpointing:
            question["grad_checkpointing"] = True
    return question
