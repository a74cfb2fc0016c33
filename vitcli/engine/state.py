"""The state of a training run, from which it resumes: one ``.safetensors`` file, tensors beside JSON, no pickle."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from vitcli.core.errors import RunError
from vitcli.core.files import replacing
from vitcli.engine.checkpoint import write_tensors

_FORMAT = "vitcli-state-1"
_BELOW = "/"
"""Between the names of dictionaries in the name of a tensor."""

State = dict[str, Any]
"""Nested dictionaries of tensors, and of what JSON holds; ``Trainer.state_dict`` makes them."""


def judged_weights(state: State) -> Mapping[str, Tensor]:
    """The weights that are validated and used: the average's, where that stands for the model."""
    keeps_average = state.get("keeps_average", bool(state["average"]))  # older states had no other averages
    weights: Mapping[str, Tensor] = state["average"]["model"] if keeps_average else state["model"]
    return weights


def copied(state: Mapping[str, Any]) -> State:
    """The state as it is now, on the CPU: training may continue while the copy is written."""

    def copy(value: Any) -> Any:
        if isinstance(value, Tensor):
            return value.detach().to("cpu", copy=True, memory_format=torch.contiguous_format)
        return copied(value) if isinstance(value, Mapping) else value

    return {name: copy(value) for name, value in state.items()}


def save_state(path: Path, state: State, *, before: Path) -> None:
    """Write a state; the one that was there becomes ``before``.

    A crash at any moment leaves a whole file of at least one of both names.
    """
    tensors: dict[str, Tensor] = {}
    rest = _without_tensors(state, tensors)
    with replacing(path) as temporary:
        write_tensors(temporary, tensors, {"format": _FORMAT, "state": json.dumps(rest, allow_nan=False)})
        if path.exists():
            path.replace(before)


def load_state(path: Path) -> State:
    """Read a state.

    Raises:
        RunError: it is truncated, or none.
    """
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            if metadata.get("format") != _FORMAT:
                raise RunError(f"{path} is not a training state")
            state: State = json.loads(metadata["state"])
            for name in file.keys():  # noqa: SIM118 - it is not a dictionary
                *above, last = name.split(_BELOW)
                folder = state
                for each in above:
                    folder = folder[each]
                folder[last] = file.get_tensor(name).clone()  # else it would be a view of the file
    except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        raise RunError(f"{path} is truncated or no safetensors file: {error}") from None
    return state


def _without_tensors(state: Mapping[str, Any], tensors: dict[str, Tensor], above: str = "") -> State:
    """Copy a state for JSON; its tensors are added to ``tensors``."""
    rest: State = {}
    for name, value in state.items():
        if isinstance(value, Tensor):
            tensors[above + name] = value
        else:
            is_folder = isinstance(value, Mapping)
            rest[name] = _without_tensors(value, tensors, f"{above}{name}{_BELOW}") if is_folder else value
    return rest
