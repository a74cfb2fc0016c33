"""Facts about one run, or a group of runs: what was trained, how it ended, its files, and how to repeat it."""

import json
import shlex
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from statistics import mean
from typing import Any

from vitcli.core.config_files import configure, load_recipe, settings_of
from vitcli.core.errors import RunError, VitError
from vitcli.core.evaluation_facts import EvaluationFacts
from vitcli.core.events import Emit, Warned
from vitcli.core.files import flat
from vitcli.core.means import interval_of_mean
from vitcli.core.run_files import EvaluationFile
from vitcli.core.run_search import output_dir_option
from vitcli.core.runs import Run
from vitcli.core.stored import read_json
from vitcli.core.words import duration, interval, percent
from vitcli.models.registry import sizes_of
from vitcli.trained.run_rows import RunRow, list_rows
from vitcli.training.resumed_settings import all_settings, settings_by_name
from vitcli.training.stated_settings import names_a_model

_OF_THE_RUN = frozenset(
    {
        *(
            "data.name",
            "data.dir",
            "data.fold",
            "data.workers",
            "run.name",
            "run.nth_seed",
            "run.output_dir",
        ),
        *("run.overwrite", "run.recipe", "run.offline", "run.device", "run.devices", "run.tensorboard", "run.wandb"),
    }
)
"""Settings that say where a run is and how it is computed, or that the report names elsewhere."""

_NOT_COMPARED = frozenset(
    {
        "data.dir",
        "data.fold",
        "run.nth_seed",
        "run.name",
        "run.output_dir",
        "run.overwrite",
        "run.offline",
        "run.pretrained",
    }
)
"""Settings that say where a run is, and not what was trained."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ChangedSetting:
    """A setting whose value is not the usual one."""

    setting: str
    """The setting, ``SECTION.KEY``."""
    value: Any
    """Its value."""
    usual: Any
    """The value of the recipe, or else the default; None: the setting has no usual value."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DifferentSetting:
    """A setting that is not the same in all runs."""

    setting: str
    """The setting, ``SECTION.KEY``."""
    values: tuple[Any, ...]
    """Its value in each run; None: the run has no such setting."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Evaluation:
    """A stored evaluation."""

    name: str
    """The split, after the name of the data set if it is not the run's own."""
    images: int | None
    """None: not known, because an earlier version stored it."""
    top1: float
    top1_interval: tuple[float, float] | None
    """Its 95 % interval; None: not known, as the next three."""
    balanced_accuracy: float | None
    """Mean recall of the classes that have images."""
    macro_f1: float | None
    loss: float | None
    """The mean negative logarithm of the true class's probability."""
    held_out: bool | None
    """False if the images were scored in training; None: not known."""
    is_outdated: bool
    """True if another epoch is kept now than the one that was evaluated."""
    command: str
    """The command that stores it again."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RunReport:
    """Facts about a run, or about a group and its runs; None: not known, or not yet."""

    row: RunRow
    """The facts and scores that the list of runs has."""
    runs: tuple[RunRow, ...]
    """The runs of a group; empty: a single run."""
    test_accuracy_mean: float | None
    """The mean over the test accuracies of the runs of a group; None: not all were evaluated, or a single run."""
    test_accuracy_interval: tuple[float, float] | None
    """Its 95 % interval, for several seeds that do not all agree."""
    classes: int | None
    """Number of classes."""
    images: Mapping[str, int]
    """Number of images by split."""
    parameters: int | None
    """Number of parameters."""
    init_from: str
    """The weights that training started from; empty: none."""
    teacher: str
    """The model that it learned from; empty: none."""
    usual: str
    """The source of the usual settings: ``recipe NAME`` or ``defaults``."""
    settings: tuple[ChangedSetting, ...]
    """The settings that differ from these."""
    planned_epochs: int | None
    """Epochs of one run as they were asked for."""
    best: Mapping[str, Any] | None
    """The record of the kept epoch."""
    keeps_last: bool
    """True if every run keeps its last epoch, so that no validation image chooses one."""
    device: str | None
    hardware: Mapping[str, Any]
    """Facts about the machine that it began on."""
    versions: Mapping[str, str]
    """Versions of Python and of libraries."""
    git_commit: str | None
    """The commit of the folder that the command was typed in."""
    evaluations: tuple[Evaluation, ...]
    """The stored evaluations."""
    files: Mapping[str, int]
    """The files in the folder, in bytes; of a group, without those of its runs."""
    command: str
    """The command that was typed."""
    repeat: str
    """The command that trains with the same settings again."""

    def in_words(self) -> dict[str, str]:
        """Describe a run by name and value: what was trained, on what, how well, and how to repeat it."""
        row, best = self.row, self.best
        images = ", ".join(f"{count:,} {use}" for use, count in self.images.items())
        classes = f"{self.classes:,} classes" if self.classes else ""
        parameters = f"{self.parameters:,} parameters" if self.parameters else ""
        starts = {"starts from": self.init_from, "teacher": self.teacher}
        resumed = f", resumed {row.resumed} times" if row.resumed > 1 else ", resumed once" if row.resumed else ""
        hardware = self.hardware
        machine = [hardware.get("cpu"), hardware.get("cores") and f"{hardware['cores']} cores"]
        machine += [gpu["name"] for gpu in hardware.get("gpus", ())]
        versions = ", ".join(f"{name} {value}" for name, value in self.versions.items())
        planned = self.planned_epochs or row.epochs
        which = "kept epoch" if self.keeps_last else "best epoch"
        scores = {which: f"{row.best_epoch} of {row.epochs}"} if row.best_epoch else {}
        if row.val_accuracy is not None:
            loss = "" if row.val_loss is None else f", loss {row.val_loss:.4f}"
            scores["validation"] = f"{row.accuracy_in_words}{interval(row.val_accuracy_interval)}{loss}"
        if self.test_accuracy_mean is not None:
            scores["test"] = (
                f"{percent(self.test_accuracy_mean)}{interval(self.test_accuracy_interval)}, mean of the runs"
            )
        return {
            "run": row.name,
            "folder": str(row.path),
            **({"tags": ", ".join(row.tags)} if row.tags else {}),
            "status": row.status_in_words
            + (f", after {row.epochs:,} of {planned:,} epochs" if best is not None else ""),
            "data": ": ".join(filter(None, (row.dataset, "; ".join(filter(None, (classes, images)))))),
            "model": ", ".join(filter(None, (row.model_in_words, parameters))),
            "recipe": row.recipe or "none",
            **{name: value for name, value in starts.items() if value},
            **scores,
            "time": ("" if row.seconds is None else f"{duration(row.seconds)} on {self.device}, ")
            + f"started {row.started[:16].replace('T', ' ')} UTC{resumed}",
            "machine": ", ".join(str(each) for each in machine if each) or "not known",
            "versions": versions,
            **({"commit": self.git_commit} if self.git_commit else {}),
            "command": self.command,
            "repeat": self.repeat,
        }


def report_of(folder: Path, runs: Sequence[Run], *, name: str, output_dir: Path, emit: Emit) -> RunReport:
    """Collect the facts about a run or a group.

    Args:
        folder: its folder.
        runs: the run, or the runs of the group.
        name: the name or the path that was given.
        output_dir: the folder of all runs.
        emit: receives warnings about files that cannot be read.
    """
    rows = list_rows(runs, emit)
    row, first = rows[0], runs[0]
    is_group = len(rows) > len(runs)
    info, metrics = first.info, dict[str, Any]()
    config: Mapping[str, Any] = {}
    keeps_last = False
    try:
        config, metrics, keeps_last = first.config, first.metrics, all(run.keeps_last for run in runs)
    except RunError as error:  # what is readable is shown all the same
        emit(Warned(text=error.message))
    usual, changed = _changed_settings(first, config, emit)
    asked = config.get("run", {})
    best = None if is_group else metrics.get("best")
    tested = [each.test_accuracy for each in rows[1:] if each.test_accuracy is not None] if is_group else []
    all_tested = bool(tested) and len(tested) == len(runs)
    called = row.name if folder.parent.resolve() == output_dir.resolve() or row.name == name else str(folder)
    return RunReport(
        row=row,
        runs=tuple(rows[1:]) if is_group else (),
        test_accuracy_mean=mean(tested) if all_tested else None,
        test_accuracy_interval=interval_of_mean(tested) if all_tested and row.seeds else None,
        classes=info.get("classes"),
        images=info.get("images", {}),
        parameters=info.get("parameters"),
        init_from=asked.get("init_from", ""),
        teacher=config.get("teacher", {}).get("name", ""),
        usual=usual,
        settings=changed,
        planned_epochs=config.get("optim", {}).get("epochs"),
        best=best,
        keeps_last=keeps_last,
        device=info.get("device"),
        hardware=info.get("hardware") or {},
        versions=info.get("versions", {}),
        git_commit=info.get("git_commit"),
        evaluations=tuple(_evaluations(folder, first if metrics and not is_group else None, emit)),
        files={
            path.relative_to(folder).as_posix(): path.stat().st_size
            for path in sorted(folder.rglob("*"))
            if path.is_file()
            and not path.name.startswith(".")
            and not (is_group and any(path.is_relative_to(run.path) for run in runs))
        },
        command=shlex.join(map(str, info.get("command", ()))),
        repeat=f"vit train --from-run {shlex.quote(called)}{output_dir_option(output_dir)}",
    )


def _changed_settings(run: Run, config: Mapping[str, Any], emit: Emit) -> tuple[str, tuple[ChangedSetting, ...]]:
    """Return the source of the usual settings, and the settings of a run that differ from them."""
    recipe = run.info["recipe"]
    layers: Sequence[Mapping[str, Any]] = []
    with suppress(VitError):  # another version had this recipe, or its file is gone or broken
        layers = [load_recipe(recipe)] if recipe else []
    if recipe and not layers:
        emit(Warned(text=f"there is no recipe {recipe!r} now, so settings are compared with the defaults"))
    configured = configure(*layers)
    usual = flat(json.loads(json.dumps(settings_of(configured))))
    if images := run.info.get("images"):
        usual["optim.epochs"] = configured.optim.epochs_for(images["train"])
    own = settings_by_name(run) if config else {}
    hidden = _OF_THE_RUN if names_a_model(layers) else {*_OF_THE_RUN, "model.name"}
    implied, replaced = (  # by the names of the model: settings that nothing else sets
        {f"model.{key}": value for key, value in sizes_of(name).items() if usual.get(f"model.{key}") is None}
        for name in (own.get("model.name") or run.info["model"], usual["model.name"])
    )
    return f"recipe {recipe}" if layers else "defaults", tuple(
        ChangedSetting(setting=name, value=value, usual=replaced.get(name, usual.get(name)))
        for name, value in own.items()
        if name not in hidden and value != implied.get(name, usual.get(name))
    )


def _evaluations(folder: Path, run: Run | None, emit: Emit) -> list[Evaluation]:
    """Read the stored evaluations of a run, or of a group (None); warn about those that cannot be read."""
    found = []
    for path in sorted((folder / "evaluations").glob("*.json")):
        try:
            stored = read_json(path, EvaluationFile)
        except (OSError, ValueError) as error:
            emit(Warned(text=f"{path} cannot be read: {error}"))
            continue
        ends = stored.get("intervals", {}).get("top1")
        found.append(
            Evaluation(
                name=path.stem,
                images=stored.get("images"),
                top1=stored["top1"],
                top1_interval=(ends[0], ends[1]) if ends else None,
                balanced_accuracy=stored.get("balanced_accuracy"),
                macro_f1=stored.get("macro_f1"),
                loss=stored.get("loss"),
                held_out=stored.get("held_out"),
                is_outdated=run is not None and run.is_outdated(stored),
                command=EvaluationFacts(stem=path.stem, facts=stored).command(folder, str(folder)),
            )
        )
    return found


def different_settings(runs: Sequence[Run]) -> list[DifferentSetting]:
    """List the settings that are not the same in all runs; those of the architecture also where a name stands for them."""
    known = [all_settings(run) for run in runs]
    names = dict.fromkeys(name for settings in known for name in settings if name not in _NOT_COMPARED)
    rows = [DifferentSetting(setting=name, values=tuple(each.get(name) for each in known)) for name in names]
    return [row for row in rows if any(one != other for one, other in pairwise(row.values))]
