"""A search for settings on disk: what was asked for, and every trial, which Optuna chooses and ends early.

study.json      the settings, the space, the budget, and how the search ended
optuna.log      Optuna's journal, with the values of every trial
trial-0007/     the run of a trial, without checkpoints
default/        the final runs of the default settings, one for each fresh seed
final-0007/     those of a finalist
recipe.toml     the settings of the winner, if there is one; recipe-2.toml those of a later answer
"""

import os
import shlex
from collections.abc import Iterable, Mapping
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vitcli.core.config import RunConfig, TrainConfig
from vitcli.core.config_files import Settings, configure
from vitcli.core.errors import FileError, InstallError, RunError, UsageError
from vitcli.core.files import check_output_file, expanded
from vitcli.core.search_space import Dimension, Value, parse_search
from vitcli.core.usual_space import settings_in
from vitcli.training.kept_work import KeptWork
from vitcli.training.study_file import StudyFile
from vitcli.training.trials import OpenTrial, TrialRow, rows_of

if TYPE_CHECKING:
    import optuna

_JOURNAL, _NAME = "optuna.log", "vit"
_ANOTHER_NAME = "--name NAME gives the study another name"
_BEFORE_PRUNING = 5
"""Finished trials before others are compared with them."""
_FREE_EPOCHS = 1 / 3
"""Share of the epochs in which no trial is pruned, because a high learning rate looks worse at first."""


def require_optuna() -> None:
    """Raise InstallError if Optuna is not installed."""
    if find_spec("optuna") is None:
        raise InstallError("tuning needs Optuna, which is not installed", hint="uv sync --extra tune")


class Study(KeptWork[StudyFile]):
    """A search for settings, in its folder."""

    FILE, ENTRIES, KIND, MAKER, IN_USE = "study.json", StudyFile, "study", "vit tune", "searches in"
    OF_A_FINISHED_ONE = "; `vit tune --resume STUDY{where} --minutes 120` continues a finished one"

    @classmethod
    def create(cls, path: Path, stored: StudyFile, *, default: Mapping[str, Value] | None) -> "Study":
        """Make the folder of a new search.

        Args:
            path: the folder.
            stored: the entries of ``study.json``.
            default: the searched settings of the first trial, which has the default settings; None: they are outside of
                the space, so that no trial has them.

        Raises:
            RunError: another process has made it meanwhile.
        """
        path.mkdir(parents=True, exist_ok=True)
        study = cls(path, stored)
        with study.alone():
            _check_free(path)
            if default is not None:
                study.optuna_study.enqueue_trial(dict(default), user_attrs={"is_default": True})
            study.save()
        return study

    @property
    def config(self) -> TrainConfig:
        """The default settings."""
        try:
            return configure(self.stored.settings, {"run": {"output_dir": str(self.path)}})
        except UsageError as error:
            raise RunError(f"{self.path / self.FILE} is broken: {error.message}") from None

    @cached_property
    def space(self) -> list[Dimension]:
        """The searched settings."""
        return parse_search(self.stored.space)

    @cached_property
    def optuna_study(self) -> "optuna.Study":
        """Optuna's study; its journal is made if there is none."""
        import optuna
        from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock, JournalStorage

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        file = self.path / _JOURNAL
        _repair(file)
        epochs = self.config.optim.epochs
        is_fair = "optim.epochs" not in {each.setting for each in self.space}
        try:
            found: optuna.Study = optuna.create_study(
                study_name=_NAME,
                storage=JournalStorage(JournalFileBackend(str(file), lock_obj=JournalFileOpenLock(str(file)))),
                direction="maximize",
                load_if_exists=True,
                pruner=optuna.pruners.MedianPruner(
                    n_startup_trials=_BEFORE_PRUNING, n_warmup_steps=max(1, round(epochs * _FREE_EPOCHS))
                )
                if is_fair
                else optuna.pruners.NopPruner(),
            )
        except OSError:
            raise
        except Exception as error:  # noqa: BLE001 - Optuna's errors about a broken journal are of many types
            raise RunError(f"{file} is broken: {error}", hint="start a new search: vit tune") from None
        return found

    @property
    def rows(self) -> list[TrialRow]:
        """The trials that have ended, by number."""
        return rows_of(self.optuna_study.get_trials(deepcopy=False))

    @property
    def has_open_trial(self) -> bool:
        """True if a trial was begun that has not ended."""
        return any(each.state.name == "RUNNING" for each in self.optuna_study.get_trials(deepcopy=False))

    def next_trial(self) -> OpenTrial:
        """Begin a trial, or continue the one that has not ended."""
        return OpenTrial(self.optuna_study, self.space, seed=self.config.run.seed)


def study_of(run: Path) -> Path | None:
    """Return the folder of the search that the folder of a run belongs to; None: it belongs to none."""
    return next((folder for folder in (run.parent, run.parent.parent) if (folder / Study.FILE).is_file()), None)


def continue_command(study: Path) -> str:
    """Return the command that continues a search; the name is enough if it is in the usual folder."""
    is_usual = study.parent == Path(RunConfig().output_dir)
    return f"vit tune --resume {shlex.quote(study.name if is_usual else str(study))}"


def check_resumed_search(layers: Iterable[Settings], others: Mapping[str, Any]) -> None:
    """Raise UsageError if a search is to be continued with other settings than its own.

    Args:
        layers: the given settings.
        others: the given options, by name, that are no settings and may not change either.
    """
    layers = tuple(layers)
    names = [repr(layer["data"]["name"]) for layer in layers if "name" in layer.get("data", {})]
    given = [
        *names[-1:],
        *sorted(settings_in(layers) - {"run.output_dir", "data.name"}),
        *(f"--{name}" for name, value in others.items() if value),
    ]
    if given:
        raise UsageError(
            f"--resume continues a search with its own settings, but others are given: {', '.join(given)}",
            hint="leave them out; --minutes and --trials may change",
        )


def check_new(config: RunConfig) -> None:
    """Raise RunError if the name of a new search is that of an earlier one, of a run, or of any other folder or file."""
    if not config.name:
        return
    path = expanded(config.output_dir) / config.name
    _check_free(path)
    left = {".lock", _JOURNAL, f"{_JOURNAL}.lock"}  # by a process that was killed before it wrote the rest
    if path.exists() and not (path.is_dir() and {each.name for each in path.iterdir()} <= left):
        raise RunError(f"{path} exists and is not a study", hint=_ANOTHER_NAME)


def _check_free(path: Path) -> None:
    if (path / "run.json").exists():
        raise RunError(f"run {path.name!r} exists already in {path.parent}", hint=_ANOTHER_NAME)
    if (path / Study.FILE).exists():
        raise RunError(
            f"study {path.name!r} exists already in {path.parent}",
            hint=f"--name NAME gives another one; `{continue_command(path)}` continues it",
        )


def check_output(file: Path | None) -> None:
    """Raise FileError if the file for the recipe exists already, or cannot be written."""
    if not file:
        return
    if file.exists():
        raise FileError(f"{file} exists already", hint="give another name: -o FILE.toml")
    check_output_file(file)


def _repair(journal: Path) -> None:
    """Remove what a killed process left: half of a line at the end, as on a full disk, and the lock.

    No other process writes: the folder is locked, or new.
    """
    Path(f"{journal}.lock").unlink(missing_ok=True)
    if not journal.exists():
        return
    with journal.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - 2**20))
        end = file.read()
    if end and not end.endswith(b"\n"):
        os.truncate(journal, size - len(end) + end.rfind(b"\n") + 1)
