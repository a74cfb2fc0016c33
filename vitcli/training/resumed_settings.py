"""The settings of a run that is resumed, or trained again; nothing here needs torch.

A resumed run keeps its settings; only paths, how it computes, what it stores and how long it trains may change.
"""

import json
import shlex
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from vitcli.core.config import TrainConfig
from vitcli.core.config_files import Settings, configure, settings_of
from vitcli.core.devices import parse_device
from vitcli.core.errors import RunError, UsageError
from vitcli.core.events import Emit, Note, ignore
from vitcli.core.files import expanded, flat
from vitcli.core.groups import one_of, whole_group
from vitcli.core.run_search import all_runs, find_run, members_with, output_dir_option
from vitcli.core.runs import Run
from vitcli.data.locks import is_worked_in
from vitcli.data.registry import find_dataset
from vitcli.data.store import data_dir, located
from vitcli.trained.model_names import is_in, lasting_name, members_called
from vitcli.training.loggers import require_loggers
from vitcli.training.stated_settings import KINDS_OF_WEIGHTS, class_weights_of, stated_again

DERIVED = ("resolved_model", "preprocessing")
"""Keys of ``config.json`` that are not settings."""
FREE = frozenset(
    {
        *("data.name", "data.dir", "data.labels", "data.label_map", "data.cache", "data.workers", "teacher.name"),
        *(
            "run.device",
            "run.devices",
            "run.shard",
            "run.output_dir",
            "run.offline",
            "run.save_every",
            "run.save_steps",
            "run.grad_checkpointing",
            "run.compile",
        ),
        *("run.tensorboard", "run.wandb", "run.log_steps", "optim.grad_accum_steps"),
    }
)
"""Settings that may change when a run is resumed: paths (fingerprints tell whether data and teacher are the same), how
to compute, and what is logged and stored. ``data.name`` may change only if it is the path of a folder."""
LENGTH = frozenset({"optim.epochs", "optim.patience"})
"""Settings of the length of training, which may change when a run is resumed."""


def stored_settings(run: Run) -> TrainConfig:
    """Load the settings of a run; raise RunError if an early version without training states made it."""
    content = run.config
    if any(name not in content for name in DERIVED):
        raise RunError(
            f"run {run.name} was made by an earlier version, which stored no training state",
            hint=f"vit train --init-from {shlex.quote(str(run.path))} starts a new run from its weights",
        )
    try:
        return configure({name: table for name, table in content.items() if name not in DERIVED})
    except (UsageError, AttributeError, TypeError) as error:
        raise RunError(f"{run.path / 'config.json'} is broken: {error}") from None


def settings_by_name(run: Run) -> dict[str, Any]:
    """Return the settings of a run by ``SECTION.KEY``, with the types of JSON; of an early version, as it stored them.

    Raises:
        RunError: ``config.json`` is missing or broken.
    """
    own = {name: table for name, table in run.config.items() if name not in DERIVED and isinstance(table, dict)}
    with suppress(RunError):
        own = settings_of(stored_settings(run))
    named: dict[str, Any] = flat(json.loads(json.dumps(own)))
    return named


def all_settings(run: Run) -> dict[str, Any]:
    """Return the settings of a run as ``settings_by_name`` does, and every setting of its architecture."""
    resolved = run.config.get("resolved_model", {})
    return {**{f"model.{key}": value for key, value in resolved.items()}, **settings_by_name(run)}


def resumed_settings(run: Run, layers: Sequence[Settings], *, length_too: bool = True) -> TrainConfig:
    """Merge the settings of a run with the given layers, which may change only some of them.

    Args:
        run: the run to resume.
        layers: the given settings.
        length_too: whether the length of training may change.

    Raises:
        RunError: a setting is given that may not change.
    """
    stored = stored_settings(run)
    asked = configure(settings_of(stored), *layers)
    require_loggers(asked.run)
    folder = run.path.parent.parent if run.is_member else run.path.parent
    pretrained = asked.run.pretrained and not stored.run.init_from  # --pretrained chose these weights
    init_from = asked.run.init_from
    if init_from != stored.run.init_from:
        init_from = lasting_name(init_from, folder)
    data: Settings = {"data": {**located(asked.data), "dir": str(data_dir(asked.data.dir).resolve())}}
    asked = configure(
        settings_of(asked),
        data,
        {"run": {"output_dir": str(folder), "pretrained": pretrained, "init_from": init_from}},
        {
            "teacher": {"name": lasting_name(asked.teacher.name, folder)},
            "optim": {"class_weights": class_weights_of(asked)},
        },
    )
    replace(asked, run=replace(asked.run, overwrite=False)).check_together()  # a given overwrite is refused below
    before = settings_of(stored)
    may_change = FREE | LENGTH if length_too else FREE
    may_change -= set() if stored.teacher.name else {"teacher.name"}
    weights = stored.optim.class_weights, asked.optim.class_weights
    may_change |= set() if {"", *KINDS_OF_WEIGHTS} & {*weights} else {"optim.class_weights"}  # a file may move
    may_change -= {"data.name"} if find_dataset(asked.data.name) else set()
    changed = [
        f"{section}.{key} = {value!r} (was {before[section].get(key)!r})"
        for section, table in settings_of(asked).items()
        for key, value in table.items()
        if value != before[section].get(key) and f"{section}.{key}" not in may_change
    ]
    if changed:
        path = shlex.quote(str(run.path))
        raise RunError(
            f"run {run.name} resumes with its own settings, but other ones are given: {', '.join(changed)}",
            hint=f"leave them out, or start a new run: --from-run {path} trains a new one with them,"
            f" --init-from {path} starts from its weights",
        )
    return asked


def check_resumed(name: str, layers: Sequence[Settings]) -> None:
    """Check that a run exists, has begun, and can be resumed with the given settings.

    Raises:
        RunError, UsageError, DeviceError: as ``resume``.
    """
    output_dir = output_dir_of(layers)
    run, is_group = run_called(name or newest_unfinished(layers), output_dir)
    parse_device(resumed_settings(run, layers, length_too=not is_group).run.device)


def check_repeated(name: str, layers: Sequence[Settings]) -> None:
    """Check that a run to train again exists, and so does everything that the given settings name.

    Raises:
        RunError, UsageError, DataError, ModelError, DeviceError: as ``from_run``.
    """
    _, stored = run_to_repeat(name, output_dir_of(layers))
    stated_again(stored, layers)


def output_dir_of(layers: Sequence[Settings]) -> Path:
    """Return the folder of all runs."""
    return expanded(configure(*layers).run.output_dir)


def newest_unfinished(layers: Sequence[Settings], emit: Emit = ignore) -> str:
    """Find the run that was worked on last, if it is not finished and no process trains it; say which it is.

    Runs on the given data come first; if there are none, those data may be the ones of another run, in another place.

    Returns:
        The path of the run; of a fold or a seed, the path of its group.

    Raises:
        RunError: there is no such run.
    """
    output_dir, data = output_dir_of(layers), configure(*layers).data
    where = output_dir_option(output_dir)
    unfinished = [
        run
        for run in all_runs(output_dir, emit)
        if run.status != "finished" and has_begun(run) and not is_worked_in(run.path)
    ]
    if not unfinished:
        raise RunError(
            f"no unfinished run in {output_dir}",
            hint=f"`vit runs{where}` lists the runs; `vit train --resume RUN --epochs NUMBER{where}` trains a finished one longer",
        )
    name = located(data)["name"] if data.name else ""
    on_given = [run for run in unfinished if name and run.config.get("data", {}).get("name") == name]
    run = max(on_given or unfinished, key=lambda run: max([run.info["started"], *run.info.get("resumed", ())]))
    how = "killed" if run.status == "running" else run.status
    newest = f"the newest unfinished run{' on these data' if on_given else ''} is {run.name} ({how})"
    if not members_with(run):
        emit(Note(text=newest))
        return str(run.path)
    alone = f"`vit train --resume {shlex.quote(run.name)}{where}` resumes this {'fold' if run.group == 'cross-validation' else 'run'} alone"
    emit(Note(text=f"{newest}: its {run.group} is resumed; {alone}"))
    return str(run.path.parent)


def run_called(name: str, output_dir: Path) -> tuple[Run, bool]:
    """Find a run that has begun by its name or path; of a group, its first run that has begun.

    Returns:
        The run, and whether the name is that of a group.

    Raises:
        RunError: there is no such run, or its training never began.
    """
    members = members_called(name, output_dir)
    run = next(filter(has_begun, members), members[0]) if members else find_run(name, output_dir)
    if not has_begun(run):
        raise never_begun(run.path.parent.name if members else run.name)
    return run, bool(members)


def has_begun(run: Run) -> bool:
    """Tell whether the training of a run has begun: then its held-out images are stored, just after the run is made."""
    return run.split is not None


def never_begun(name: str) -> RunError:
    """Make the error for a run whose training never began, so it cannot be resumed."""
    return RunError(
        f"run {name} ended before training began",
        hint=f"type its command again, with --name {shlex.quote(name)} --overwrite",
    )


def run_to_repeat(name: str, output_dir: Path) -> tuple[Run, TrainConfig]:
    """Find a run to train again, and its settings without name and paths; of a group, use one of its runs.

    Raises:
        RunError: there is no such run, or it ended before its settings were stored.
    """
    members = members_called(name, output_dir)
    run = next(filter(has_begun, members), None) if members else find_run(name, output_dir)
    if run is None or not has_begun(run):
        raise RunError(f"run {name} ended before its settings were stored", hint="type its command again")
    stored = stored_settings(run)
    stored = whole_group(stored) if members else one_of(stored)
    folder = run.path.parent.parent if run.is_member else run.path.parent

    return run, in_another_folder(stored, folder, output_dir)


def in_another_folder(config: TrainConfig, before: Path, output_dir: Path) -> TrainConfig:
    """Return the configuration for a run in another folder, without a name.

    The names of runs and pretrainings of the folder ``before`` become paths, because the new folder may not contain them.
    """

    def found(name: str) -> str:
        return str(before / name) if is_in(before, name) else name

    own = replace(
        config.run, name="", overwrite=False, output_dir=str(output_dir), init_from=found(config.run.init_from)
    )
    return replace(config, run=own, teacher=replace(config.teacher, name=found(config.teacher.name)))
