"""The training state from which a run resumes: one ``.safetensors`` file with tensors and JSON, without pickle."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from vitcli.core.errors import RunError
from vitcli.core.events import Emit, Warned
from vitcli.core.files import replacing
from vitcli.core.stored import parse_json
from vitcli.engine.checkpoint import write_tensors

_FORMAT = "vitcli-state-1"
_BELOW = "/"
"""Separator between the names of nested dictionaries in the name of a tensor."""

State = dict[str, Any]
"""Nested dictionaries of tensors and JSON values, as returned by ``Trainer.state_dict``."""


def judged_weights(state: State) -> Mapping[str, Tensor]:
    """Return the weights that are validated and used: the average's, if it is kept as the model."""
    keeps_average = state.get("keeps_average", bool(state["average"]))  # older states had no other averages
    weights: Mapping[str, Tensor] = state["average"]["model"] if keeps_average else state["model"]
    return weights


def copied(state: Mapping[str, Any]) -> State:
    """Copy a state to the CPU, so that training may continue while the copy is written."""

    def copy(value: Any) -> Any:
        if isinstance(value, Tensor):
            return value.detach().to("cpu", copy=True, memory_format=torch.contiguous_format)
        return copied(value) if isinstance(value, Mapping) else value

    return {name: copy(value) for name, value in state.items()}


def save_state(path: Path, state: State, *, before: Path, makes_folder: bool = True) -> None:
    """Write a state; the previous state is renamed to ``before``.

    After a crash at any moment, at least one of the two files exists and is complete.
    """
    tensors: dict[str, Tensor] = {}
    rest = _without_tensors(state, tensors)
    with replacing(path, makes_folder=makes_folder) as temporary:
        write_tensors(temporary, tensors, {"format": _FORMAT, "state": json.dumps(rest, allow_nan=False)})
        if path.exists():
            path.replace(before)


def load_state(path: Path) -> State:
    """Read a state.

    Raises:
        RunError: the file is truncated, or is not a training state.
    """
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            if metadata.get("format") != _FORMAT:
                raise RunError(f"{path} is not a training state")
            state: State = parse_json(metadata["state"])
            for name in file.keys():  # noqa: SIM118 - it is not a dictionary
                *above, last = name.split(_BELOW)
                folder = state
                for each in above:
                    folder = folder[each]
                folder[last] = file.get_tensor(name).clone()  # else it would be a view of the file
    except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        raise RunError(f"{path} is truncated or not a safetensors file: {error}") from None
    return state


def newest_state(paths: Iterable[Path], emit: Emit) -> tuple[State | None, list[RunError]]:
    """Read the first of several states, the newest first, that can be read; None: there is none.

    Returns:
        The state, and the errors of those that cannot be read, of which a warning is given.
    """
    faults: list[RunError] = []
    for path in paths:
        try:
            if path.exists():
                return load_state(path), faults
        except RunError as error:
            faults.append(error)
            emit(Warned(text=f"{error.message}; the previous state is used"))
    return None, faults


def _without_tensors(state: Mapping[str, Any], tensors: dict[str, Tensor], above: str = "") -> State:
    """Copy a state without its tensors, for JSON; add these to ``tensors``."""
    rest: State = {}
    for name, value in state.items():
        if isinstance(value, Tensor):
            tensors[above + name] = value
        else:
            is_folder = isinstance(value, Mapping)
            rest[name] = _without_tensors(value, tensors, f"{above}{name}{_BELOW}") if is_folder else value
    return rest
