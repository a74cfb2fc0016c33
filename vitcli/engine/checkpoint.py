"""Checkpoints: one self-contained ``.safetensors`` file, written atomically and read without pickle.

Its metadata contains, as JSON: the model's configuration, the class names, the preprocessing, and the provenance.
"""

import json
import os
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from unicodedata import normalize

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from vitcli.core.errors import ModelError, UsageError
from vitcli.core.files import replacing
from vitcli.core.model_config import ModelConfig
from vitcli.core.preprocessing import Geometry, Preprocessing

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


def save_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint atomically: a crash at any moment leaves the previous file intact."""
    metadata = {
        "format": _FORMAT,
        "model": json.dumps(asdict(checkpoint.model)),
        "classes": json.dumps(checkpoint.classes),
        "preprocessing": json.dumps(asdict(checkpoint.preprocessing)),
        "provenance": json.dumps(checkpoint.provenance),
    }
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in checkpoint.weights.items()}
    with replacing(path) as temporary:
        write_tensors(temporary, tensors, metadata)


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> None:
    """Write a ``.safetensors`` file.

    Raises:
        OSError: the disk is full or refuses the file; safetensors reports this only as text.
    """
    try:
        save_file(dict(tensors), path, metadata=dict(metadata or {}))
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
    except (SafetensorError, OSError) as error:
        raise ModelError(f"{path} is truncated or not a safetensors file: {error}") from None
    if metadata.get("format") != _FORMAT:
        raise ModelError(f"{path} is not a checkpoint of vit", hint="`vit train` writes them")
    try:
        model = model_config_from(json.loads(metadata["model"]))
        return Checkpoint(
            model=model,
            classes=tuple(normalize("NFC", name) for name in json.loads(metadata["classes"])),
            preprocessing=preprocessing_from(json.loads(metadata["preprocessing"])),
            provenance=json.loads(metadata["provenance"]),
            weights=weights,
        )
    except (IndexError, KeyError, TypeError, ValueError, UsageError) as error:
        raise ModelError(f"the metadata of {path} cannot be read: {error}") from None


def model_config_from(fields: Mapping[str, Any]) -> ModelConfig:
    """Build a ModelConfig from its fields, as ``asdict`` and JSON stored them."""
    sizes = {name: tuple(fields[name]) for name in ("image_size", "patch_size")}
    return ModelConfig(**{**fields, **sizes})


def preprocessing_from(fields: Mapping[str, Any]) -> Preprocessing:
    """Build a Preprocessing from its fields, as ``asdict`` and JSON stored them."""
    geometry = fields["geometry"]
    pairs = {name: tuple(geometry[name]) for name in ("size", "value_range") if geometry.get(name)}
    return Preprocessing(
        geometry=Geometry(**{**geometry, **pairs}),
        image_size=(fields["image_size"][0], fields["image_size"][1]),
        mean=tuple(fields["mean"]),
        std=tuple(fields["std"]),
    )
