"""Lists of models, data sets, recipes and runs; none needs torch, and each imports only what it needs itself."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from statistics import mean, stdev
from typing import TYPE_CHECKING, Any, Literal

from vitcli.core.errors import RunError
from vitcli.core.events import Emit, Warned, ignore
from vitcli.core.preprocessing import Size
from vitcli.core.run_files import EvaluationFile
from vitcli.core.run_search import all_runs
from vitcli.core.runs import FOLD, Run, evaluation_file
from vitcli.core.stored import read_json
from vitcli.data.locks import is_worked_in
from vitcli.data.registry import DATASETS, find_dataset
from vitcli.data.store import data_dir, is_present, unlisted, weights_dir
from vitcli.models.pretrained import PRETRAINED
from vitcli.models.registry import MODELS, listed_config

if TYPE_CHECKING:
    from vitcli.core.config_files import Setting


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelRow:
    """One architecture; the number of parameters depends on the input and the classes of the data."""

    name: str
    parameters: int
    """Number of parameters for ``counted_size``, ``channels`` and ``classes``."""
    image_size: Size | None
    """Height and width of the model input; None: the size of the data's images."""
    counted_size: Size
    """Height and width of the input for which parameters are counted."""
    channels: int
    """Channels of the images for which parameters are counted: 1 is grey, 3 is colour."""
    classes: int
    patch_size: Size
    """Height and width of a patch."""
    width: int
    """Length of a token's vector."""
    depth: int
    """Number of blocks."""
    heads: int
    """Number of attention heads of each block."""


def list_models() -> list[ModelRow]:
    """List every architecture of the registry."""
    rows = []
    for name, entry in MODELS.items():
        config = listed_config(name)
        rows.append(
            ModelRow(
                name=name,
                parameters=config.num_parameters,
                image_size=config.image_size if "image_size" in entry else None,
                counted_size=config.image_size,
                channels=config.in_channels,
                classes=config.num_classes,
                patch_size=config.patch_size,
                width=config.width,
                depth=config.depth,
                heads=config.num_heads,
            )
        )
    return rows


@dataclass(frozen=True, kw_only=True, slots=True)
class DatasetRow:
    """One data set, and whether it is ready for use."""

    name: str
    summary: str
    classes: int | None
    """Number of classes. Here and in the fields below, None: not known before the data set is downloaded."""
    train_images: int | None
    """Number of training images."""
    test_images: int | None
    """Number of test images; 0: there are none."""
    image_size: Size | None
    """Height and width of all images; None: images of many sizes, or not known."""
    download_mb: int | None
    """Size of the download in megabytes; 0: nothing to download, because it is bundled."""
    licence: str
    present: bool


def list_datasets(directory: str = "") -> list[DatasetRow]:
    """List every data set of the registry, and others from Kaggle that were downloaded.

    Args:
        directory: the folder of data sets; empty: ``$VIT_DATA_DIR``, else the user's cache folder.
    """
    chosen = data_dir(directory)
    others = {name: entry for name in unlisted(chosen) if (entry := find_dataset(name))}
    return [
        DatasetRow(
            name=name,
            summary=entry.summary,
            classes=entry.num_classes or None,
            train_images=entry.num_images[0] or None,
            test_images=entry.num_images[1] if entry.num_classes else None,
            image_size=entry.image_size,
            download_mb=entry.download_mb if entry.num_classes else None,
            licence=entry.licence,
            present=entry.is_bundled or is_present(name, chosen),
        )
        for name, entry in (*DATASETS.items(), *others.items())
    ]


@dataclass(frozen=True, kw_only=True, slots=True)
class DownloadRow:
    """One thing to download: a data set or pretrained weights."""

    name: str
    kind: Literal["data set", "weights"]
    """Whether it is a data set or weights."""
    summary: str
    size_mb: int | None
    """Size of the download in megabytes; 0: nothing to download, because it is bundled; None: not known."""
    licence: str
    top1: float | None
    """Published accuracy of weights on ImageNet, 0..1; None: not known, or a data set."""
    present: bool


def list_downloads(directory: str = "") -> list[DownloadRow]:
    """List every data set and all pretrained weights.

    Args:
        directory: the folder of data sets; empty: ``$VIT_DATA_DIR``, else the user's cache folder.
    """
    from vitcli.models.hub import find_weights

    datasets = [
        DownloadRow(
            name=row.name,
            kind="data set",
            summary=row.summary,
            size_mb=row.download_mb,
            licence=row.licence,
            top1=None,
            present=row.present,
        )
        for row in list_datasets(directory)
    ]
    weights = [
        DownloadRow(
            name=name,
            kind="weights",
            summary=entry.summary,
            size_mb=4 * entry.parameters,
            licence=entry.licence,
            top1=entry.top1 and entry.top1 / 100,
            present=find_weights(entry, weights_dir()) is not None,
        )
        for name, entry in PRETRAINED.items()
    ]
    return datasets + weights


@dataclass(frozen=True, kw_only=True, slots=True)
class RecipeRow:
    """One recipe, as described in its ``about`` table."""

    name: str
    summary: str
    command: str
    """The command that trains with it."""
    time: str
    """The time that training takes, in words."""
    accuracy: str
    """The accuracy that it reaches, in words."""


def list_recipes() -> list[RecipeRow]:
    """List every recipe of the package."""
    from vitcli.core.config_files import load_recipe, recipe_names

    rows = []
    for name in recipe_names():
        about = load_recipe(name)["about"]
        rows.append(RecipeRow(name=name, **{field.name: about[field.name] for field in fields(RecipeRow)[1:]}))
    return rows


def recipe_settings(name: str) -> dict[str, dict[str, "Setting"]]:
    """List all settings of a recipe by section and key, each with its source: the recipe or the default.

    Raises:
        UsageError: the recipe does not exist.
    """
    from vitcli.core.config_files import configure, load_recipe, resolved

    recipe = load_recipe(name)
    return resolved(configure(recipe), [recipe])


@dataclass(frozen=True, kw_only=True, slots=True)
class RunRow:
    """One run, or a cross-validation as a whole; accuracies are in 0..1, or None if there is none yet."""

    name: str
    path: Path
    """The folder."""
    status: str
    """running, finished, interrupted, failed or killed; of a cross-validation, unfinished until all folds are finished."""
    folds: int | None
    """The number of folds of a cross-validation; None: a single run."""
    folds_finished: int | None
    """The number of folds that are finished; None: a single run."""
    dataset: str
    model: str
    recipe: str
    epochs: int
    """The number of epochs that were trained, of all folds together."""
    best_epoch: int | None
    """The epoch that is kept; None: there is none yet, or it is a cross-validation."""
    val_accuracy: float | None
    """The accuracy of the kept epoch on the validation images; of a cross-validation, the mean of its finished folds."""
    val_accuracy_spread: float | None
    """Sample standard deviation of that accuracy over the folds; None: a single run, or one fold."""
    test_accuracy: float | None
    """Test accuracy, as ``vit eval`` found it."""
    test_held_out: bool
    """False if the test images were scored in training, so that ``test_accuracy`` is not of unseen images."""
    test_outdated: bool
    """True if the test images were evaluated before the run was trained on, so that ``test_accuracy`` is None."""
    started: str
    """Date and time of the start, ISO 8601."""
    ended: str | None
    """Date and time of the end; None: it has not ended."""
    resumed: int
    """How often the run was resumed."""
    seconds: float | None
    """Time for training, features and validation, also before the run was resumed; None: the run has not ended yet."""


def list_runs(output_dir: Path, emit: Emit = ignore) -> list[RunRow]:
    """List every run in a folder, the newest first; warn about files that cannot be read.

    A cross-validation has a row of its own before its newest fold.
    """
    runs = all_runs(output_dir, emit)
    rows = {run.path: _row(run, emit) for run in runs}
    folds: dict[Path, list[Run]] = {}
    for run in runs:
        if FOLD.fullmatch(run.path.name):
            folds.setdefault(run.path.parent, []).append(run)
    listed = []
    for run in runs:
        if together := folds.pop(run.path.parent, []):
            listed.append(_row_of_folds(together, [rows[fold.path] for fold in together], emit))
        listed.append(rows[run.path])
    return listed


def _row(run: Run, emit: Emit) -> RunRow:
    metrics, test_accuracy, test_held_out, test_outdated = {}, None, True, False
    try:
        metrics = run.metrics
        test_accuracy, test_held_out, test_outdated = run.test_accuracy, run.test_was_held_out, run.test_is_outdated
    except RunError as error:  # one broken run must not hide the others
        emit(Warned(text=f"without its figures: {error.message}"))
    best = metrics.get("best")
    return RunRow(
        name=run.name,
        path=run.path,
        status="killed" if run.status == "running" and not is_worked_in(run.path) else run.status,
        folds=None,
        folds_finished=None,
        dataset=run.info["dataset"],
        model=run.info["model"],
        recipe=run.info["recipe"],
        epochs=len(metrics.get("epochs", ())),
        best_epoch=best and best["epoch"],
        val_accuracy=best and best["val_accuracy"],
        val_accuracy_spread=None,
        test_accuracy=test_accuracy,
        test_held_out=test_held_out,
        test_outdated=test_outdated,
        started=run.info["started"],
        ended=run.info["ended"],
        resumed=len(run.info.get("resumed", ())),
        seconds=run.info.get("seconds"),
    )


def _row_of_folds(folds: Sequence[Run], rows: Sequence[RunRow], emit: Emit) -> RunRow:
    """Sum up the folds of a cross-validation, which are given the newest first."""
    folder = folds[0].path.parent
    finished = [row for row in rows if row.status == "finished"]
    scores = [row.val_accuracy for row in finished if row.val_accuracy is not None]
    count, stored = len(rows), evaluation_file(folder, "test")
    test: dict[str, Any] = {}
    try:
        count = folds[0].config["data"]["folds"]
        test = read_json(stored, EvaluationFile) if stored.exists() else {}
    except RunError as error:
        emit(Warned(text=f"without its figures: {error.message}"))
    except (OSError, ValueError) as error:
        emit(Warned(text=f"without its figures: {stored} cannot be read: {error}"))
    ends = [row.ended for row in rows if row.ended]
    return replace(
        rows[-1],
        name=folder.name,
        path=folder,
        status="finished" if len(finished) == count else "unfinished",
        folds=count,
        folds_finished=len(finished),
        epochs=sum(row.epochs for row in rows),
        best_epoch=None,
        val_accuracy=mean(scores) if scores else None,
        val_accuracy_spread=stdev(scores) if len(scores) > 1 else None,
        test_accuracy=test.get("top1"),
        test_held_out=test.get("held_out") is not False,
        test_outdated=False,
        ended=max(ends) if len(ends) == len(rows) else None,
        resumed=sum(row.resumed for row in rows),
        seconds=sum(row.seconds or 0 for row in rows) or None,
    )
