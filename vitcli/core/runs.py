"""Run directories: ``Run`` is one of them, and only this module knows the files inside.

run.json        schema, versions, command, seed, git state, hardware, environment, status, times, resumptions
config.json     every setting, the model in full, and the preprocessing
split.json      the images that were held out, and those that are not used
metrics.json    one record per epoch, and the best one; metrics.csv, the records as a table
checkpoints/    best.safetensors, last.safetensors, epoch-0003.safetensors; the training state for resuming,
                state.safetensors, and the earlier one, state-before.safetensors
evaluations/    attention/    figures/    exports/    cache/    tensorboard/    wandb/
"""

import glob
import json
import re
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from vitcli.core.errors import Interrupted, RunError, did_you_mean
from vitcli.core.files import write_csv, write_json
from vitcli.core.provenance import command, environment, git_state
from vitcli.core.version import __version__

Status = Literal["running", "finished", "interrupted", "failed"]
SCHEMA = 1
_REQUIRED = {"status", "started", "ended", "dataset", "model", "recipe"}


_FOLD = re.compile(r"fold-\d+")


class Run:
    """One run directory."""

    def __init__(self, path: Path) -> None:
        """Open an existing run; ``Run.create`` makes a new one.

        Args:
            path: the run directory.

        Raises:
            RunError: ``path`` is not a run, or its ``run.json`` cannot be read.
        """
        self.path = path
        self._info_file = path / "run.json"
        try:
            self.info: dict[str, Any] = json.loads(self._info_file.read_text(encoding="utf-8"))
        except (FileNotFoundError, NotADirectoryError):
            raise RunError(f"{path} is not a run: it has no run.json", hint="`vit runs` lists the runs") from None
        except ValueError as error:
            raise RunError(f"{self._info_file} is broken: {error}") from None
        if not isinstance(self.info, dict) or not self.info.keys() >= _REQUIRED:
            raise RunError(f"{self._info_file} is broken: it lacks {', '.join(sorted(_REQUIRED))}")

    @classmethod
    def create(
        cls, path: Path, *, seed: int, versions: Mapping[str, str], summary: Mapping[str, Any], overwrite: bool = False
    ) -> "Run":
        """Make a new run directory with the status ``running``.

        Args:
            path: the directory; it must not exist, unless ``overwrite`` is set and it holds a run.
            seed: the seed of the run.
            versions: versions of the main libraries, by name.
            summary: facts for lists of runs, such as data set, model and recipe.
            overwrite: replace an earlier run.

        Raises:
            RunError: ``path`` exists and may not be replaced.
        """
        check_free(path, overwrite=overwrite)
        if path.exists():
            shutil.rmtree(path)
        path.mkdir(parents=True)
        info = {
            "schema": SCHEMA,
            "status": "running",
            "started": _now(),
            "ended": None,
            "resumed": [],
            "command": command(),
            "seed": seed,
            **summary,
            **git_state(),
            "environment": environment(),
            "versions": {"vitcli": __version__, "python": sys.version.split()[0], **versions},
        }
        write_json(path / "run.json", info)
        return cls(path)

    @property
    def name(self) -> str:
        """The name of the directory; for a fold, preceded by the name of its cross-validation."""
        path = self.path.resolve()
        return f"{path.parent.name}/{path.name}" if _FOLD.fullmatch(path.name) else path.name

    @property
    def status(self) -> Status:
        """The status of the run: running, finished, interrupted or failed."""
        status: Status = self.info["status"]
        return status

    @property
    def best_checkpoint(self) -> Path:
        """The checkpoint file of the epoch with the best validation accuracy."""
        return self.checkpoint("best")

    def checkpoint(self, which: str | int) -> Path:
        """Return the file of the checkpoint ``best``, ``last`` or of an epoch (counted from 1)."""
        stem = which if isinstance(which, str) else f"epoch-{which:04d}"
        return self.path / "checkpoints" / f"{stem}.safetensors"

    @property
    def states(self) -> tuple[Path, Path]:
        """The files of the newest training state and of the one before it."""
        return self.checkpoint("state"), self.checkpoint("state-before")

    def figure(self, name: str) -> Path:
        """Return the file of a figure."""
        return figure_file(self.path, name)

    def evaluation(self, name: str) -> Path:
        """Return the file of an evaluation's results."""
        return evaluation_file(self.path, name)

    def cache(self, name: str) -> Path:
        """Return a cache file, for values that can be computed again."""
        return self.path / "cache" / f"{name}.safetensors"

    @property
    def exports(self) -> Path:
        """The folder of exported models."""
        return self.path / "exports"

    @property
    def tensorboard_dir(self) -> Path:
        """The folder of TensorBoard's event files."""
        return self.path / "tensorboard"

    @property
    def attention_dir(self) -> Path:
        """The folder of attention maps."""
        return self.path / "attention"

    @property
    def config(self) -> dict[str, Any]:
        """The settings that ``save_config`` stored."""
        return self._read("config.json")

    @property
    def metrics(self) -> dict[str, Any]:
        """The metrics that ``save_metrics`` stored; empty before the end of the first epoch."""
        return self._read("metrics.json") if (self.path / "metrics.json").exists() else {}

    @property
    def test_accuracy(self) -> float | None:
        """The accuracy that ``vit eval`` stored for the test split, 0..1; None: not evaluated yet."""
        stored = self.evaluation("test")
        if not stored.exists():
            return None
        try:
            return float(self._read(str(stored.relative_to(self.path)))["top1"])
        except (KeyError, TypeError, ValueError):
            raise RunError(f"{stored} is broken: it has no top1") from None

    def save_config(self, config: Mapping[str, Any]) -> None:
        """Store every setting of the run."""
        write_json(self.path / "config.json", config)

    @property
    def split(self) -> dict[str, Any] | None:
        """The held-out images that ``save_split`` stored; None for older runs, which have no such file."""
        return self._read("split.json") if (self.path / "split.json").exists() else None

    def save_split(self, split: Mapping[str, Any]) -> None:
        """Store the list of held-out images."""
        write_json(self.path / "split.json", {"schema": SCHEMA, **split})

    def note(self, **facts: Any) -> None:
        """Add facts about the run to its ``run.json``."""
        self.info |= facts
        write_json(self._info_file, self.info)

    def reopen(self) -> None:
        """Mark an ended or killed run as running again."""
        self.note(status="running", ended=None, resumed=[*self.info.get("resumed", ()), _now()])

    def save_metrics(self, epochs: Sequence[Mapping[str, Any]]) -> None:
        """Store the records of all epochs so far, and the best of them."""
        best = next((record for record in reversed(epochs) if record["is_best"]), None)
        write_json(self.path / "metrics.json", {"schema": SCHEMA, "best": best, "epochs": list(epochs)})
        write_csv(self.path / "metrics.csv", epochs)

    @contextmanager
    def recorded(self) -> Iterator[None]:
        """Set the run's status when the block ends: finished, interrupted or failed."""
        status: Status = "failed"
        try:
            yield
            status = "finished"
        except (Interrupted, KeyboardInterrupt):
            status = "interrupted"
            raise
        finally:
            with nullcontext() if status == "finished" else suppress(OSError):  # if the disk is full, report that error
                self.note(status=status, ended=_now())

    def _read(self, name: str) -> dict[str, Any]:
        try:
            content: dict[str, Any] = json.loads((self.path / name).read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise RunError(f"run {self.name} has no {name}: the run ended before the file was written") from None
        except ValueError as error:
            raise RunError(f"{self.path / name} is broken: {error}") from None
        return content


def check_free(path: Path, *, overwrite: bool = False) -> None:
    """Refuse a run directory that already exists, so that nothing is overwritten by accident."""
    if not path.exists() and not path.is_symlink():
        return
    if path.is_dir() and set(path.iterdir()) <= set(path.glob(".run-*.tmp.json")):
        return  # the process that made it was killed before it wrote run.json
    if not (path / "run.json").is_file():
        raise RunError(f"{path} exists and is not a run", hint="choose another name: --name NAME")
    if not overwrite:
        raise RunError(f"run {path.name!r} exists already in {path.parent}", hint="--name NAME, or --overwrite")


def check_no_run(path: Path) -> None:
    """Refuse a folder for folds that is itself a run."""
    if (path / "run.json").exists():
        raise RunError(f"{path} is a run, so it cannot hold folds", hint="choose another name: --name NAME")


def free_cross_validation(output_dir: Path, stem: str, fold: int) -> str:
    """Return the name of the newest cross-validation with this stem if it lacks this fold; empty: there is none."""
    names = [path.name for path in output_dir.glob(f"{glob.escape(stem)}-*") if folds_of(path)]
    newest = max(names, default="")
    return newest if newest and not (output_dir / newest / f"fold-{fold}").exists() else ""


def folds_of(path: Path) -> list[Run]:
    """Return the runs of a cross-validation, by number; empty if ``path`` is not a cross-validation."""
    folds = [info.parent for info in path.glob("fold-*/run.json") if _FOLD.fullmatch(info.parent.name)]
    return [Run(fold) for fold in sorted(folds, key=lambda fold: int(fold.name.removeprefix("fold-")))]


def folds_with(run: Run) -> list[Run]:
    """Return all runs of the cross-validation that a fold belongs to; empty if ``run`` is not a fold."""
    return folds_of(run.path.parent) if _FOLD.fullmatch(run.path.name) else []


def figure_file(folder: Path, name: str) -> Path:
    """Return the file of a figure of a run or a cross-validation."""
    return folder / "figures" / f"{name}.png"


def evaluation_file(folder: Path, name: str) -> Path:
    """Return the file of an evaluation's results, for a run or a cross-validation."""
    return folder / "evaluations" / f"{name}.json"


def slug(name: str) -> str:
    """Turn the name of a data set into a part of a folder name."""
    return "".join(letter if letter.isalnum() else "-" for letter in name.lower()).strip("-") or "data"


def next_name(output_dir: Path, stem: str) -> str:
    """Return ``STEM-001``, or the name with the next number after the highest existing one."""
    taken = [
        int(match[1])
        for path in (output_dir.iterdir() if output_dir.is_dir() else ())
        if (match := re.fullmatch(re.escape(stem) + r"-(\d+)", path.name))
    ]
    return f"{stem}-{max(taken, default=0) + 1:03d}"


def all_runs(output_dir: Path) -> list[Run]:
    """Return every readable run in a directory, the newest first."""
    if not output_dir.is_dir():
        return []
    runs = []
    for info_file in (*output_dir.glob("*/run.json"), *output_dir.glob("*/fold-*/run.json")):
        try:
            runs.append(Run(info_file.parent))
        except RunError:
            continue
    return sorted(runs, key=lambda run: str(run.info["started"]), reverse=True)


def newest_finished(output_dir: Path) -> Run:
    """Return the finished run that ended last.

    Raises:
        RunError: there is none.
    """
    finished = [run for run in all_runs(output_dir) if run.status == "finished"]
    if not finished:
        raise RunError(f"no finished run in {output_dir}", hint="`vit train` makes one; --model takes any checkpoint")
    return max(finished, key=lambda run: str(run.info["ended"]))


def find_run(name: str, output_dir: Path) -> Run:
    """Find a run by its name in ``output_dir`` or by its path."""
    for path in (output_dir / name, Path(name)):
        if (path / "run.json").is_file():
            return Run(path)
    hint = did_you_mean(name, [run.name for run in all_runs(output_dir)], otherwise="`vit runs` lists the runs")
    raise RunError(f"no run {name!r} in {output_dir}", hint=hint)


def run_of_checkpoint(path: Path) -> Run | None:
    """Return the run that a checkpoint file lies in; None: it is outside of runs."""
    folder = path.resolve().parent.parent
    return Run(folder) if (folder / "run.json").is_file() else None


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="microseconds")
