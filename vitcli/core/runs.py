"""Run directories: ``Run`` is one of them, and only this module knows the files inside.

run.json        schema, versions, command, seed, git state, hardware, environment, status, times, resumptions
config.json     every setting, the model in full, and the preprocessing
split.json      the images that were held out, and those that are not used
metrics.json    one record per epoch, and the best one; metrics.csv, the records as a table
checkpoints/    best.safetensors, last.safetensors, epoch-0003.safetensors; the training state for resuming,
                state.safetensors, and the earlier one, state-before.safetensors
tags.json       words of the user's own
report.html     the page of ``vit report``; README.md, its model card
evaluations/    attention/    figures/    exports/    cache/    tensorboard/    wandb/
"""

import re
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any

from vitcli.core.addresses import without_secrets
from vitcli.core.errors import Interrupted, RunError
from vitcli.core.files import write_csv, write_json
from vitcli.core.provenance import command, environment, git_state, now
from vitcli.core.run_files import ConfigFile, EvaluationFile, MetricsFile, RunFile, SplitFile, Status
from vitcli.core.run_folders import others_in
from vitcli.core.stored import JsonObject, checked, read_json
from vitcli.core.version import __version__

SCHEMA = 1
_MEMBER = re.compile(r"(fold|seed)-\d+")
"""Names of the folders of the runs of a group: the folds of a cross-validation, or runs with several seeds."""


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
            self.info: dict[str, Any] = read_json(self._info_file)
            checked(self.info, RunFile)
        except (FileNotFoundError, NotADirectoryError):
            raise RunError(f"{path} is not a run: it has no run.json", hint="`vit runs` lists the runs") from None
        except OSError as error:
            raise RunError(f"{self._info_file} cannot be read: {error.strerror}") from None
        except ValueError as error:
            raise RunError(f"{self._info_file} is not a file of vit, or is broken: {error}") from None

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
            overwrite: replace an earlier run, which is removed when the new one has begun.

        Raises:
            RunError: ``path`` exists and may not be replaced.
        """
        check_free(path, overwrite=overwrite)
        aside = None
        if path.exists():
            aside = Path(tempfile.mkdtemp(prefix=".replaced-", dir=path.parent))
            path.rename(aside / path.name)
        path.mkdir(parents=True)
        info = {
            "schema": SCHEMA,
            "status": "running",
            "started": now(),
            "ended": None,
            "resumed": [],
            "command": command(),
            "seed": seed,
            **summary,
            **git_state(),
            "environment": environment(),
            "versions": {"vitcli": __version__, "python": sys.version.split()[0], **versions},
        }
        try:
            write_json(path / "run.json", without_secrets(info))
        except BaseException:
            if aside:
                shutil.rmtree(path)
                (aside / path.name).rename(path)
                aside.rmdir()
            raise
        if aside:
            shutil.rmtree(aside)
        return cls(path)

    @property
    def name(self) -> str:
        """The name of the directory; for a fold or a seed, preceded by the name of its group."""
        path = self.path.resolve()
        return f"{path.parent.name}/{path.name}" if self.is_member else path.name

    @property
    def is_member(self) -> bool:
        """True for one fold of a cross-validation, or one of several seeds."""
        kind = _MEMBER.fullmatch(self.path.resolve().name)
        number = self.info.get("fold", 1) if kind and kind[1] == "fold" else self.info.get("nth_seed")
        return bool(kind and number)

    @property
    def group(self) -> str:
        """The kind of group that a member belongs to, in words."""
        return "cross-validation" if self.path.resolve().name.startswith("fold") else "group of seeds"

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
        return self._read("config.json", ConfigFile)

    @property
    def keeps_last(self) -> bool:
        """True if the last epoch is kept, so that no validation image chooses one."""
        return bool(self.config.get("optim", {}).get("keep") == "last")

    @property
    def metrics(self) -> dict[str, Any]:
        """The metrics that ``save_metrics`` stored; empty before the end of the first epoch."""
        return self._read("metrics.json", MetricsFile) if (self.path / "metrics.json").exists() else {}

    @property
    def test_accuracy(self) -> float | None:
        """The accuracy that ``vit eval`` stored for the test split, 0..1; None: not evaluated yet, or outdated."""
        accuracy: float | None = self.test_evaluation.get("top1")
        return None if self.test_is_outdated else accuracy

    @property
    def test_is_outdated(self) -> bool:
        """True if the stored test evaluation is of another epoch than the kept one: the run was trained on since then."""
        return self.is_outdated(self.test_evaluation)

    def is_outdated(self, evaluation: Mapping[str, Any]) -> bool:
        """Tell whether a stored evaluation of the best checkpoint is of another epoch than the kept one."""
        best, evaluated = self.metrics.get("best"), evaluation.get("epoch")
        is_of_best = evaluation.get("checkpoint", self.best_checkpoint.name) == self.best_checkpoint.name
        return bool(is_of_best and best and evaluated and best["epoch"] != evaluated)

    @property
    def test_evaluation(self) -> dict[str, Any]:
        """The numbers that ``vit eval`` stored for the test split; empty: not evaluated yet."""
        stored = self.evaluation("test")
        return self._read(str(stored.relative_to(self.path)), EvaluationFile) if stored.exists() else {}

    def save_config(self, config: Mapping[str, Any]) -> None:
        """Store every setting of the run, web addresses without their secrets."""
        write_json(self.path / "config.json", without_secrets(dict(config)))

    @property
    def fingerprint(self) -> str | None:
        """The fingerprint of the data set; None: the run is of an early version, which did not store it."""
        stored: str | None = self.info.get("fingerprint") or (self.split or {}).get("fingerprint")
        return stored

    @property
    def split(self) -> dict[str, Any] | None:
        """The held-out images that ``save_split`` stored; None for older runs, which have no such file."""
        return self._read("split.json", SplitFile) if (self.path / "split.json").exists() else None

    def save_split(self, split: Mapping[str, Any]) -> None:
        """Store the list of held-out images."""
        write_json(self.path / "split.json", {"schema": SCHEMA, **split})

    def note(self, **facts: Any) -> None:
        """Add facts about the run to its ``run.json``; raise RunError if the folder of the run is gone."""
        self.require_folder()
        self.info |= without_secrets(facts)
        write_json(self._info_file, self.info, makes_folder=False)

    def require_folder(self) -> None:
        """Raise RunError if the folder of the run was removed or renamed, so that none is made again with half a run."""
        if not self._info_file.is_file():
            raise RunError(
                f"the folder {self.path} of this run was removed or renamed while it was in use",
                hint="a run that was only renamed can be resumed by its new name: vit train --resume NAME",
            )

    def reopen(self) -> None:
        """Mark an ended or killed run as running again."""
        self.note(status="running", ended=None, resumed=[*self.info.get("resumed", ()), now()])

    def save_metrics(self, epochs: Sequence[Mapping[str, Any]]) -> None:
        """Store the records of all epochs so far, and the best of them."""
        self.require_folder()
        best = next((record for record in reversed(epochs) if record["is_best"]), None)
        write_json(
            self.path / "metrics.json", {"schema": SCHEMA, "best": best, "epochs": list(epochs)}, makes_folder=False
        )
        write_csv(self.path / "metrics.csv", epochs, makes_folder=False)

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
            # If the disk is full, or the run's folder is gone, report that error
            with nullcontext() if status == "finished" else suppress(OSError, RunError):
                self.note(status=status, ended=now())

    def _read(self, name: str, kind: Any = JsonObject) -> dict[str, Any]:
        """Read a file of the run, and check that it fits a type."""
        try:
            content: dict[str, Any] = read_json(self.path / name)
            checked(content, kind)
        except FileNotFoundError:
            raise RunError(f"run {self.name} has no {name}: the run ended before the file was written") from None
        except OSError as error:
            raise RunError(f"{self.path / name} cannot be read: {error.strerror}") from None
        except ValueError as error:
            raise RunError(f"{self.path / name} is broken: {error}") from None
        return content


def check_free(path: Path, *, overwrite: bool = False) -> None:
    """Refuse a run directory that already exists, unless it is a run of vit and may be replaced."""
    another = "choose another name: --name NAME"
    if path.is_symlink():
        raise RunError(f"{path} is a link, which is never replaced", hint=f"{another}, or remove the link")
    if not path.exists():
        return
    if path.resolve() in (here := Path.cwd().resolve(), *here.parents) or path.is_mount():
        raise RunError(f"{path} is the current folder, one above it, or a disk: it is never replaced", hint=another)
    if path.is_dir() and set(path.iterdir()) <= set(path.glob(".run-*.tmp.json")):
        return  # the process that made it was killed before it wrote run.json
    try:
        run = Run(path)
    except RunError as error:
        raise RunError(
            f"{path} exists and is not a run of vit, so it is not replaced: {error.message}", hint=another
        ) from None
    if not overwrite:
        raise RunError(f"run {run.path.name!r} exists already in {path.parent}", hint="--name NAME, or --overwrite")
    if others := others_in(path, [path]):
        raise RunError(f"{path} holds other runs too, for example {others[0]}: it is never replaced", hint=another)


def figure_file(folder: Path, name: str) -> Path:
    """Return the file of a figure of a run or a group."""
    return folder / "figures" / f"{name}.png"


def evaluation_file(folder: Path, name: str) -> Path:
    """Return the file of an evaluation's results, for a run or a group."""
    return folder / "evaluations" / f"{name}.json"


def predictions_file(folder: Path, name: str) -> Path:
    """Return the file of the predictions of an evaluation, one row for each image."""
    return folder / "evaluations" / f"{name}-predictions.csv"


def slug(name: str) -> str:
    """Turn the name of a data set into a part of a folder name, of at most 100 bytes."""
    letters = "".join(letter if letter.isalnum() else "-" for letter in name.lower()).strip("-")
    return letters.encode()[:100].decode(errors="ignore").strip("-") or "data"
