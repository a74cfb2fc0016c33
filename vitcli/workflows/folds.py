"""Stratified cross-validation: one run per fold, side by side in one folder."""

import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import mean, pstdev

from vitcli.core.config_files import Settings, configure
from vitcli.core.events import Emit, Note, ignore
from vitcli.core.files import write_json
from vitcli.core.runs import folds_of
from vitcli.workflows.train import TrainResult, train


@dataclass(frozen=True, kw_only=True, slots=True)
class FoldsResult:
    """A finished cross-validation."""

    run: str
    path: Path
    folds: tuple[TrainResult, ...]
    val_accuracy: float
    """Mean over the folds of their best epochs, 0..1."""
    val_accuracy_spread: float
    """Standard deviation over the folds."""


def train_folds(*layers: Settings, emit: Emit = ignore) -> FoldsResult:
    """Train once for every fold, with this fold for validation.

    Args:
        layers: settings as for ``train``; ``data.folds`` says how many.
        emit: told about the progress.

    Raises:
        what ``train`` raises; folds that ended before stay.
    """
    count = configure(*layers).data.folds
    results: list[TrainResult] = []
    name = configure(*layers).run.name
    if name and configure(*layers).run.overwrite:
        _remove_folds(Path(configure(*layers).run.output_dir).expanduser() / name)
    for fold in range(1, count + 1):
        emit(Note(text=f"fold {fold} of {count}"))
        chosen: Settings = {"data": {"fold": fold}, **({"run": {"name": name}} if name else {})}
        results.append(train(*layers, chosen, emit=emit))
        name = results[0].path.parent.name
    accuracies = [result.best.val_accuracy for result in results]
    path = results[0].path.parent
    result = FoldsResult(
        run=name,
        path=path,
        folds=tuple(results),
        val_accuracy=mean(accuracies),
        val_accuracy_spread=pstdev(accuracies),
    )
    write_json(
        path / "folds.json",
        {
            "val_accuracy": result.val_accuracy,
            "val_accuracy_spread": result.val_accuracy_spread,
            "folds": [{"run": each.run, "best": asdict(each.best)} for each in results],
        },
    )
    return result


def _remove_folds(path: Path) -> None:
    """An earlier cross-validation of that name, which may have had more folds."""
    for fold in folds_of(path):
        shutil.rmtree(fold.path)
    (path / "folds.json").unlink(missing_ok=True)
