"""List of runs, in the order and with the properties that are asked for, and the best of them."""

import json
import shlex
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, fields
from fnmatch import fnmatchcase
from pathlib import Path
from types import NoneType
from typing import Any, get_args

from vitcli.core.config_files import configure, parse_assignments, settings_of
from vitcli.core.errors import RunError, UsageError, did_you_mean
from vitcli.core.events import Emit, Note, Warned, ignore
from vitcli.core.files import expanded, flat
from vitcli.core.fingerprints import is_same_data
from vitcli.core.model_config import ModelConfig
from vitcli.core.run_search import all_runs, members_of, runs_called
from vitcli.core.runs import Run
from vitcli.data.registry import canonical_name
from vitcli.trained.run_rows import STATUSES, RunRow, list_rows
from vitcli.training.resumed_settings import all_settings

METRICS = {
    "val_accuracy": True,
    "val_loss": False,
    "test_accuracy": True,
    "test_balanced_accuracy": True,
    "test_macro_f1": True,
    "test_loss": False,
    "seconds": False,
    "parameters": False,
}
"""Numbers by which runs are compared, and whether higher ones are better."""
_NEWEST_FIRST = frozenset({"started", "ended"})
_FIELDS: dict[str, Any] = {field.name: field.type for field in fields(RunRow)}


def list_runs(
    output_dir: Path = Path("experiments"), *, sort: str = "", filters: Sequence[str] = (), emit: Emit = ignore
) -> list[RunRow]:
    """List the runs in a folder, the newest first; a group has a row of its own before its newest run.

    Args:
        output_dir: the folder of all runs.
        sort: a field of ``RunRow``, or a setting such as ``optim.lr``: of ``METRICS``, the best come first; of times,
            the newest; others are in ascending order. Runs without a value come last. Empty: the newest first.
        filters: conditions ``KEY=VALUE`` that all have to hold. A key is a field of ``RunRow``, whose text may be a
            pattern; a setting; or ``tag``.
        emit: receives warnings about files that cannot be read.

    Raises:
        UsageError: there is no such field or setting, or a condition is not of this form.
    """
    rows = list_rows(all_runs(output_dir, emit), emit)
    for condition in filters:
        rows = _those_with(rows, condition, emit)
    return _sorted(rows, sort, emit) if sort else rows


def value_of(row: RunRow, key: str, emit: Emit = ignore) -> Any:
    """Return a field of a row, or a setting of its run, with the types of JSON; None: there is no value."""
    if "." not in key:
        return getattr(row, key)
    try:
        return all_settings(runs_called(str(row.path), Path())[1][0]).get(key)
    except RunError as error:
        emit(Warned(text=f"without its settings: {error.message}"))
        return None


def _those_with(rows: Sequence[RunRow], condition: str, emit: Emit) -> list[RunRow]:
    """Return the rows for which a condition holds."""
    key, equals, text = (part.strip() for part in condition.partition("="))
    if not equals or not key:
        raise UsageError(
            f"--filter {condition!r} is not of the form KEY=VALUE", hint="for example --filter dataset=digits"
        )
    if key in {"tag", "tags"}:
        return [row for row in rows if text in row.tags]
    if "." in key:
        known = flat(json.loads(json.dumps(settings_of(configure(parse_assignments([condition]))))))
        if key not in known:
            raise UsageError(f"--filter {key!r} is not a setting", hint=did_you_mean(key, known))
        asked = known[key]
        return [row for row in rows if value_of(row, key, emit) == asked]
    _check_field(key, "--filter")
    _check_value(key, text)
    return [row for row in rows if _fits(getattr(row, key), text)]


def _check_value(key: str, text: str) -> None:
    """Raise UsageError if no run can have this value: a status that does not exist, or text for a number."""
    asked, kind = f"--filter {key}={text}", _FIELDS[key]
    kinds = {kind, *get_args(kind)}
    words = ["none"] if NoneType in kinds else []
    if key == "status":
        if not any(fnmatchcase(each, text) for each in STATUSES):
            hint = did_you_mean(text, STATUSES, otherwise=f"one of {', '.join(STATUSES)}")
            raise UsageError(f"{asked}: there is no such status", hint=hint)
    elif bool in kinds:
        words += ["yes", "true", "no", "false"]
        if text.lower() not in words:
            raise UsageError(f"{asked} is not one of {', '.join(words)}", hint=f"--filter {key}=yes")
    elif kinds & {int, float} and text.lower() not in words:
        try:
            float(text)
        except ValueError:
            or_none = ", or none for runs without one" if words else ""
            raise UsageError(f"{asked} is not a number", hint=f"give a number{or_none}") from None


def _fits(value: Any, text: str) -> bool:
    """Tell whether a value is the one that was typed: ``none`` for no value, ``yes`` or ``true`` for true."""
    if value is None:
        return text.lower() == "none"
    if isinstance(value, bool):
        return value == (text.lower() in {"yes", "true"}) and text.lower() in {"yes", "true", "no", "false"}
    if isinstance(value, int | float):
        try:
            return float(text) == value
        except ValueError:
            return False
    return fnmatchcase(str(value), text)


def _sorted(rows: Sequence[RunRow], key: str, emit: Emit) -> list[RunRow]:
    if "." in key:
        known = {*flat(settings_of(configure())), *(f"model.{field.name}" for field in fields(ModelConfig))}
        if key not in known:
            raise UsageError(f"--sort {key!r} is not a setting", hint=did_you_mean(key, known))
    else:
        _check_field(key, "--sort")
    values = {row.path: value_of(row, key, emit) for row in rows}
    has_value = [row for row in rows if values[row.path] is not None]

    def place(row: RunRow) -> tuple[bool, Any]:
        value = values[row.path]
        return (False, value) if isinstance(value, int | float) else (True, str(value))

    descends = METRICS.get(key, key in _NEWEST_FIRST)
    return [*sorted(has_value, key=place, reverse=descends), *(row for row in rows if values[row.path] is None)]


def _check_field(key: str, option: str) -> None:
    if key not in _FIELDS:
        hint = did_you_mean(key, _FIELDS, otherwise=f"one of {', '.join(_FIELDS)}; or a setting such as optim.lr")
        raise UsageError(f"{option} {key!r} is not a field of the list of runs", hint=hint)


@dataclass(frozen=True, kw_only=True, slots=True)
class BestRun:
    """The best of several runs on the same data."""

    name: str
    """The name of the run or the group."""
    path: Path
    """The folder."""
    metric: str
    """The number that was compared."""
    value: float
    """Its value for this run."""
    dataset: str
    compared: int
    """The number of runs that were compared; a group counts as one."""
    without: tuple[str, ...]
    """Finished runs on the same data that have no such number, or whose test images were scored in training."""


def best_run(
    output_dir: Path = Path("experiments"), *, metric: str = "val_accuracy", data: str = "", emit: Emit = ignore
) -> BestRun:
    """Find the best finished run; folds and seeds count by the mean of their group, because the best of them is luck.

    Args:
        output_dir: the folder of all runs.
        metric: one of ``METRICS``.
        data: the data set; empty: that of the newest finished run. Runs whose data have another fingerprint than the
            newest one on this data set are left out.
        emit: receives notes.

    Raises:
        UsageError: there is no such metric.
        RunError: no finished run on these data has such a number.
    """
    if metric not in METRICS:
        raise UsageError(
            f"--metric {metric!r} is not a number of runs",
            hint=did_you_mean(metric, METRICS, otherwise=f"one of {', '.join(METRICS)}"),
        )
    rows = list_rows(all_runs(output_dir, emit), emit)
    groups = {row.path for row in rows if row.folds or row.seeds}
    finished = [row for row in rows if row.status == "finished" and row.path.parent not in groups]
    known = sorted({row.dataset for row in finished})
    called = [row for row in finished if data in {"", row.dataset} or Path(data).name == row.dataset]
    # Of runs on folders of one name, those on this very folder; it may have been moved since
    on_it = [row for row in called if expanded(data).is_dir() and _data_of(row) == canonical_name(data)]
    wanted = on_it or called
    if not wanted:
        where = f" on {data}" if data else ""
        hint = did_you_mean(data, known, otherwise=f"there are runs on {', '.join(known)}") if known else ""
        raise RunError(f"no finished run{where} in {output_dir}", hint=hint or "`vit train` makes one")
    newest = max(wanted, key=lambda row: str(row.ended))
    alike = [
        row for row in wanted if row.dataset == newest.dataset and is_same_data(row.fingerprint, newest.fingerprint)
    ]
    if other := sum(row.dataset == newest.dataset for row in wanted) - len(alike):
        emit(Note(text=f"{newest.dataset} has changed since {other} of its runs: these are left out"))
    is_test = metric.startswith("test_")
    scored = [row for row in alike if getattr(row, metric) is not None and (row.test_held_out or not is_test)]
    without = tuple(row.name for row in alike if row not in scored)
    if not scored:
        raise RunError(
            f"no finished run on {newest.dataset} in {output_dir} has a {metric} of held-out images"
            if is_test
            else f"no finished run on {newest.dataset} in {output_dir} has a {metric}",
            hint=f"`vit eval --model {shlex.quote(str(newest.path))}` evaluates one"
            if is_test
            else "`vit runs` lists the runs",
        )
    best = (max if METRICS[metric] else min)(scored, key=lambda row: getattr(row, metric))
    return BestRun(
        name=best.name,
        path=best.path,
        metric=metric,
        value=getattr(best, metric),
        dataset=newest.dataset,
        compared=len(scored),
        without=without,
    )


def _data_of(row: RunRow) -> str:
    """Return the data set or the folder that a run, or every run of a group, was trained on; empty: it cannot be read."""
    run = members_of(row.path)[0] if row.folds or row.seeds else Run(row.path)
    with suppress(RunError):  # one broken run must not hide the others
        return str(run.config.get("data", {}).get("name", ""))
    return ""
