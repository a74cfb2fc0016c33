"""Tiny runs, stopped or whole, and all that they leave behind."""

import csv
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from safetensors import safe_open

from vitcli.core.events import EpochRecord, Event, Note, Warned
from vitcli.core.runs import Run
from vitcli.workflows.train import train

TIMINGS = {"seconds", "data_seconds", "images_per_second", "data_share", "peak_memory"}


def plain(value: Any) -> Any:
    """JSON without what a clock says."""
    if isinstance(value, dict):
        return {name: plain(item) for name, item in value.items() if name not in TIMINGS}
    return [plain(item) for item in value] if isinstance(value, list) else value


def results(folder: Path) -> Iterator[tuple[str, Any]]:
    """All that a run leaves behind, by file, to the bit."""
    for path in sorted(folder.rglob("*.safetensors")):
        with safe_open(path, framework="np") as file:
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is not a dictionary
            words = (file.metadata() or {}).items()
        tensors = {name: (array.dtype, array.shape, array.tobytes()) for name, array in arrays.items()}
        metadata = {name: plain(json.loads(word)) for name, word in words if name != "format"}
        yield path.relative_to(folder).as_posix(), (tensors, metadata)
    for path in sorted(folder.rglob("*.json")):
        if path.name != "run.json":
            yield path.relative_to(folder).as_posix(), plain(json.loads(path.read_text()))
    for path in sorted(folder.rglob("metrics.csv")):
        with path.open(newline="") as file:
            yield path.relative_to(folder).as_posix(), plain(list(csv.DictReader(file)))


TINY: dict[str, dict[str, Any]] = {
    "model": {"depth": 1, "width": 16, "num_heads": 2, "mlp_width": 32},
    "optim": {"epochs": 4, "batch_size": 8},
    "run": {"device": "cpu", "name": "run", "amp": "off"},
}


RUN = Path("experiments/run")


class Stopped(KeyboardInterrupt):
    """What ends a training at a place of the test's choice, with what was saved until then."""


class Listener:
    """Remembers events, and ends the training after an epoch."""

    def __init__(self, stop_after: int = 0) -> None:
        self.events: list[Event] = []
        self.stop_after = stop_after

    def __call__(self, event: Event) -> None:
        self.events.append(event)
        if isinstance(event, EpochRecord) and event.epoch == self.stop_after:
            raise Stopped

    def said(self, kind: type[Note | Warned]) -> str:
        return "\n".join(event.text for event in self.events if isinstance(event, kind))

    @property
    def epochs(self) -> list[int]:
        return [event.epoch for event in self.events if isinstance(event, EpochRecord)]


def stopped_run(folder: Path, *layers: dict[str, Any], after: int = 2) -> Run:
    """A run in ``experiments/run`` that was stopped after an epoch."""
    with pytest.raises(Stopped):
        train({"data": {"name": str(folder)}}, TINY, *layers, emit=Listener(after))
    return Run(RUN)


def whole_results(folder: Path, *layers: dict[str, Any]) -> dict[str, Any]:
    """Of a run that was not stopped; nothing of it stays."""
    train({"data": {"name": str(folder)}}, TINY, *layers)
    found = dict(results(Path("experiments")))
    shutil.rmtree("experiments")
    return found
