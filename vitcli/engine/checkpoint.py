"""Checkpoints: one self-contained ``.safetensors`` file, written atomically and read without pickle.

Its metadata contains, as JSON: the model's configuration, the class names, the preprocessing, the provenance, and the
calibration if there is one.
"""

import json
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, TypedDict
from unicodedata import normalize

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from vitcli.core.addresses import without_secrets
from vitcli.core.calibration import Calibration
from vitcli.core.config import DataConfig
from vitcli.core.errors import ModelError
from vitcli.core.files import replacing
from vitcli.core.model_config import ModelConfig
from vitcli.core.preprocessing import Preprocessing
from vitcli.core.stored import JsonObject, checked, parse_json

_FORMAT = "vitcli-1"


@dataclass(frozen=True, kw_only=True, slots=True)
class Checkpoint:
    """A model and everything that is needed to use it."""

    model: ModelConfig
    classes: tuple[str, ...]
    preprocessing: Preprocessing
    provenance: Mapping[str, Any]
    """The origin of the model: data set, run, epoch, validation accuracy and so on."""
    weights: Mapping[str, Tensor]
    calibration: Calibration | None = None
    """The temperature of the logits, and thresholds, from ``vit eval --calibrate``; None: not calibrated."""


def save_checkpoint(path: Path, checkpoint: Checkpoint, *, makes_folder: bool = True) -> None:
    """Write a checkpoint atomically: a crash at any moment leaves the previous file intact."""
    metadata = {
        "format": _FORMAT,
        "model": json.dumps(asdict(checkpoint.model)),
        "classes": json.dumps(checkpoint.classes),
        "preprocessing": json.dumps(asdict(checkpoint.preprocessing)),
        "provenance": json.dumps(without_secrets(dict(checkpoint.provenance))),
    }
    if checkpoint.calibration:
        metadata["calibration"] = json.dumps(asdict(checkpoint.calibration))
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in checkpoint.weights.items()}
    with replacing(path, makes_folder=makes_folder) as temporary:
        write_tensors(temporary, tensors, metadata)


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> None:
    """Write a ``.safetensors`` file.

    Raises:
        OSError: the disk is full or refuses the file; safetensors reports this only as text.
    """
    with disk_errors(path):
        save_file(dict(tensors), path, metadata=dict(metadata or {}))


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Raise OSError where safetensors reports only as text that the disk is full or refuses a file."""
    try:
        yield
    except SafetensorError as error:
        if number := re.search(r"os error (\d+)", str(error)):
            raise OSError(int(number[1]), os.strerror(int(number[1])), str(path)) from None
        raise


def is_checkpoint(path: Path) -> bool:
    """Tell whether a file looks like a checkpoint of vit.

    A damaged ``.safetensors`` file does too, so that loading it reports the damage.
    """
    if path.suffix != ".safetensors":
        return False
    try:
        with safe_open(path, framework="pt") as file:
            return (file.metadata() or {}).get("format") == _FORMAT
    except (SafetensorError, OSError):
        return True


def is_calibrated(path: Path) -> bool:
    """Tell whether a checkpoint has a calibration, without reading its weights; False if it cannot be read."""
    with suppress(SafetensorError, OSError), safe_open(path, framework="pt") as file:
        return "calibration" in (file.metadata() or {})
    return False


def load_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint.

    Raises:
        ModelError: the file does not exist, is truncated, is not a safetensors file, or is not a checkpoint of vit.
    """
    if not path.is_file():
        raise ModelError(f"no such checkpoint: {path}", hint="`vit runs` lists the runs")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is not a dictionary
    except SafetensorError as error:
        hint = "download or copy it again, after removing it; `vit runs` lists other models"
        raise ModelError(f"{path} is truncated or not a safetensors file: {error}", hint=hint) from None
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error}") from None
    if metadata.get("format") != _FORMAT:
        raise ModelError(f"{path} is not a checkpoint of vit", hint="`vit train` writes them")
    try:
        checkpoint = Checkpoint(
            model=model_config_from(parse_json(metadata["model"])),
            classes=tuple(normalize("NFC", name) for name in parse_json(metadata["classes"], list[str])),
            preprocessing=preprocessing_from(parse_json(metadata["preprocessing"])),
            provenance=parse_json(metadata["provenance"]),
            weights=weights,
            calibration=parse_json(metadata["calibration"], Calibration) if "calibration" in metadata else None,
        )
        checked(checkpoint.provenance, _Provenance)
        _check_together(checkpoint)
    except KeyError as error:
        raise ModelError(f"the metadata of {path} cannot be read: {error} is missing") from None
    except ValueError as error:
        raise ModelError(f"the metadata of {path} cannot be read: {error}") from None
    return checkpoint


def classes_in(path: Path) -> tuple[str, ...]:
    """Read the names of the classes of a checkpoint, without its weights.

    Raises:
        ModelError: the file does not exist, or is not a checkpoint of vit.
    """
    try:
        with safe_open(path, framework="pt") as file:
            classes = parse_json((file.metadata() or {})["classes"], list[str])
    except (SafetensorError, OSError, KeyError, ValueError) as error:
        raise ModelError(f"the classes of {path} cannot be read: {error}") from None
    return tuple(normalize("NFC", name) for name in classes)


def provenance_in(path: Path) -> Mapping[str, Any]:
    """Read the provenance of a checkpoint, without its weights; empty: the file is none of vit, or cannot be read."""
    with suppress(SafetensorError, OSError, KeyError, ValueError), safe_open(path, framework="pt") as file:
        return parse_json((file.metadata() or {})["provenance"], JsonObject)  # type: ignore[no-any-return]
    return {}


class _Provenance(TypedDict, total=False):
    """The entries of a provenance that are read again."""

    data: DataConfig
    fingerprint: str
    seed: int
    epoch: int | None
    amp: Literal["auto", "on", "off"]
    amp_dtype: Literal["bfloat16", "float16"]
    computed: JsonObject | None


def _check_together(checkpoint: Checkpoint) -> None:
    """Compare the parts of a checkpoint, before a model is built that would not fit the tensors."""
    model, preprocessing = checkpoint.model, checkpoint.preprocessing
    if checkpoint.calibration:
        checkpoint.calibration.check()
    if "data" in checkpoint.provenance and not {"fingerprint", "seed"} <= checkpoint.provenance.keys():
        raise ValueError("the fingerprint of its data, or the seed, is missing")
    values = sum(weight.numel() for weight in checkpoint.weights.values())
    for what, one, other in (
        ("parameters", model.num_parameters, values),
        ("classes", model.num_classes, len(checkpoint.classes)),
        ("channels", model.in_channels, preprocessing.geometry.channels),
        ("pixels of the input", model.image_size, preprocessing.image_size),
    ):
        if one != other:
            raise ValueError(f"the model has {one} {what}, and the rest of the file {other}")


def model_config_from(fields: Mapping[str, Any]) -> ModelConfig:
    """Build a ModelConfig from its fields, as ``asdict`` and JSON stored them.

    Raises:
        ValueError: a field is unknown, or has a wrong type or value.
    """
    if unknown := sorted(fields.keys() - ModelConfig.__dataclass_fields__.keys()):
        raise ValueError(f"a model has no {', '.join(unknown)} in this version of vit")
    config: ModelConfig = checked(fields, ModelConfig)
    return config


def preprocessing_from(fields: Mapping[str, Any]) -> Preprocessing:
    """Build a Preprocessing from its fields, as ``asdict`` and JSON stored them.

    Raises:
        ValueError: a field has a wrong type or value.
    """
    preprocessing: Preprocessing = checked(fields, Preprocessing)
    return preprocessing
