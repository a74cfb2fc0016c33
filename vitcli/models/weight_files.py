"""Files of weights: tensors by name, of one file or of several shards; no code in them is ever run."""

import argparse
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from vitcli.core.errors import ModelError, some
from vitcli.core.memory import is_out_of_memory, out_of_memory
from vitcli.models.hub import shards_of

_WRAPPERS = ("state_dict_ema", "model_ema", "teacher", "state_dict", "model", "module")
"""Names under which training scripts store weights, the best first."""
_HARMLESS: list[Any] = [argparse.Namespace]
"""Types that a file may contain beside tensors: the arguments that DeiT's scripts store."""
_AS_TENSORS = "save it again as safetensors, or as torch.save(model.state_dict(), file)"
_UNREADABLE = {".npz": "NumPy or JAX", ".h5": "Keras", ".keras": "Keras", ".msgpack": "Flax", ".gguf": "llama.cpp"}
_SHARD = re.compile(r"-\d+-of-(\d+)\.\w+$")


def read_tensors(file: Path, notes: list[str]) -> dict[str, Tensor]:
    """Read the tensors of a file, or of all shards that an index names.

    Args:
        file: a ``.safetensors``, ``.pth``, ``.pt`` or ``.bin`` file, or an index of shards.
        notes: a note is added if the file has several models, of which one is taken.

    Raises:
        ModelError: the file does not exist, is damaged, contains code, or has no tensors by name.
    """
    return _unwrapped(_read(file), file, notes)


def _read(file: Path) -> Any:
    """Read tensors, or the dictionary that a training script saved; never run code."""
    if not file.is_file():
        raise ModelError(f"no such file: {file}", hint="`vit download` lists weights by name, `vit runs` the runs")
    if library := _UNREADABLE.get(file.suffix):
        raise ModelError(
            f"{file} is a file of {library}, and vit reads weights of PyTorch", hint="save them as safetensors"
        )
    if (shard := _SHARD.search(file.name)) and int(shard[1]) > 1:
        raise ModelError(
            f"{file} is one of {int(shard[1])} shards of a model", hint=f"name their folder: {file.parent}"
        )
    return _read_shards(file) if file.suffix == ".json" else _load(file)


def _load(file: Path) -> Any:
    """Load the content of one file."""
    try:
        if file.suffix == ".safetensors":
            return load_file(file)
        with warnings.catch_warnings(action="ignore"), torch.serialization.safe_globals(_HARMLESS):
            return torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # noqa: BLE001 - a damaged pickle can cause any error
        if "Unsupported global" in str(error) or "GLOBAL" in str(error):
            raise ModelError(
                f"{file} contains more than tensors; it was not loaded, because it could run any code", hint=_AS_TENSORS
            ) from None
        reason = f": {error}" if isinstance(error, SafetensorError | OSError) else ""
        if is_out_of_memory(error):
            reason = f": {out_of_memory(error).message}"
        exported = file.suffix == ".onnx" or ".torchscript" in file.suffixes
        hint = "name the run that it was exported from" if exported else "remove it, then download or save it again"
        raise ModelError(f"{file} is damaged or not a file of weights{reason}", hint=hint) from None


def _read_shards(index: Path) -> dict[str, Tensor]:
    """Read all shards that an index names, each of which has some of the tensors."""
    files = shards_of(index)
    if missing := [file.name for file in files if not file.is_file()]:
        raise ModelError(
            f"{len(missing)} of {len(files)} shards are missing: {some(missing)}", hint=f"{index} names them"
        )
    tensors: dict[str, Tensor] = {}
    for file in files:
        content = _load(file)
        if not isinstance(content, Mapping):
            raise ModelError(f"{file} contains no weights by name", hint=_AS_TENSORS)
        tensors |= content
    return tensors


def _unwrapped(content: Any, file: Path, notes: list[str]) -> dict[str, Tensor]:
    if isinstance(content, Mapping):
        models = [name for name, value in content.items() if isinstance(value, Mapping) and _has_tensors(value)]
        if taken := next(
            (name for name in _WRAPPERS if isinstance(content.get(name), Mapping) and content[name]), None
        ):
            if len(models) > 1:
                notes.append(f"it has {', '.join(map(repr, models))}; {taken!r} is taken")
            return _unwrapped(content[taken], file, notes)
        if tensors := {key: value for key, value in content.items() if isinstance(value, Tensor)}:
            return tensors
    raise ModelError(f"{file} contains no weights by name", hint=_AS_TENSORS)


def _has_tensors(content: Mapping[str, Any]) -> bool:
    return any(isinstance(value, Tensor) and value.ndim > 1 for value in content.values())
