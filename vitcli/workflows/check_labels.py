"""Search for likely label errors, near-duplicates, leaks between splits, and outliers; nothing is changed."""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vitcli.attention.registry import DEFAULT_METHOD
from vitcli.core.config import DataConfig
from vitcli.core.errors import DataError, RunError, UsageError, check_choice, counted, visible
from vitcli.core.events import Emit, Note, TaskProgress, Warned, ignore
from vitcli.core.files import check_output_folder, unused_end, with_end
from vitcli.core.fingerprints import is_same_data
from vitcli.core.notebooks import html_table
from vitcli.core.run_search import all_runs, members_with
from vitcli.core.runs import Run, slug
from vitcli.data.dataset import Dataset, open_dataset
from vitcli.data.registry import canonical_name
from vitcli.data.splits import Plan, restored_plan
from vitcli.data.store import check_dataset, data_dir, tell_of_folder, words_of
from vitcli.explaining.overlays import draw_overlays
from vitcli.judging.checked_images import CheckedImages, refuse_trained_on, usual_plan, with_features
from vitcli.judging.frozen_probe import FOLDS, cross_validated
from vitcli.judging.label_errors import find_label_errors, why_unreliable
from vitcli.judging.label_findings import Finding, Found, Kind, write_findings
from vitcli.judging.label_report import write_report
from vitcli.judging.neighbours import directions, find_outliers, first_of_group, groups_within, near_distance, nearest
from vitcli.trained.loading import LoadedModel, load_model
from vitcli.trained.model_names import members_called
from vitcli.trained.out_of_fold import OUT_OF_FOLD, by_fold, read_out_of_fold
from vitcli.training.resumed_settings import stored_settings

_WEAK = "pixels of photos say little about classes"


@dataclass(frozen=True, kw_only=True, slots=True)
class LabelCheck:
    """The findings about the labels of a data set, and the files that store them."""

    dataset: str
    images: int
    """The number of images that can be read."""
    probabilities_from: str
    """The origin of the probabilities for likely label errors."""
    features_from: str
    """The origin of the features for near-duplicates and outliers: a model, or pixels."""
    not_judged: int
    """The number of images without a probability, so that their label was not checked."""
    agreement: float | None
    """Share of the labels of the judged images that are the most probable class, 0..1; None: none was judged."""
    similarity: float
    """The cosine similarity from which images are near-duplicates."""
    neighbours_found: float
    """Share of the true nearest neighbours that the search found, measured on a sample, 0..1."""
    counts: dict[Kind, int]
    """Number of findings: images for label and outlier, groups for leak and duplicate."""
    findings: tuple[Finding, ...]
    """All findings, the worst of each kind first."""
    table: Path
    """``findings.csv``: a row for each finding."""
    page: Path
    """The web page."""
    not_on_page: dict[Kind, int]
    """Number of findings, counted in the same way, that are in the table but not on the page."""

    def __repr__(self) -> str:
        counts = ", ".join(counted(count, kind) for kind, count in self.counts.items())
        return visible(f"<LabelCheck of {self.dataset}: {self.images:,} images; {counts}>")

    def _repr_html_(self) -> str:
        rows = [(row.kind, row.path, row.label, row.suggested, f"{row.score:.3f}", row.split) for row in self.findings]
        return html_table(rows, headings=("kind", "image", "label", "suggested", "score", "split"))


def check_labels(
    *,
    dataset: str = "",
    model: str = "",
    similarity: float | None = None,
    pictures: int = 200,
    output: Path | None = None,
    output_dir: Path = Path("experiments"),
    directory: str = "",
    device: str = "auto",
    offline: bool = False,
    table: Mapping[str, str] | None = None,
    emit: Emit = ignore,
) -> LabelCheck:
    """Find likely label errors, near-duplicates, leaks between splits, and outliers; write a table and a web page.

    Labels are judged by probabilities that saw no label of the image itself. A cross-validation has them; the features
    of any other model, which must not have been trained on these images, get a logistic regression for each of five
    folds.

    Args:
        dataset: a data set or folder; empty: that of the cross-validation.
        model: a cross-validation, or a run or weights that were not trained on these images; empty: the newest
            cross-validation on these data, else the pixels are the features.
        similarity: the cosine similarity from which images are near-duplicates; None: chosen by the data.
        pictures: the number of images on the web page, at most.
        output: the folder of the results; None: ``check-labels/DATASET`` in the folder of all runs.
        output_dir: the folder of all runs.
        directory: the folder of data sets; empty: as in training.
        device: auto, cpu, cuda, cuda:N or mps.
        offline: download nothing.
        table: settings of DataConfig for reading the data: ``labels``, ``image_column``, ``label_column``,
            ``label_map`` and ``on_bad_image``.
        emit: receives the progress.

    Raises:
        UsageError: no data set is given, or a number is not possible.
        DataError, RunError, DeviceError: the data, the model or the device cannot be used.
        ModelError: the model was trained on these images.
    """
    if similarity is not None and not -1 < similarity < 1:
        raise UsageError(f"--similarity {similarity:g} is not between -1 and 1", hint="--similarity 0.95, for example")
    if pictures < 1:
        raise UsageError(f"--pictures {pictures} is not positive", hint="--pictures 200 is usual")

    # Open the data, and choose who judges the labels
    check_dataset(dataset, labels=(table or {}).get("labels", ""), output_dir=output_dir)
    tell_of_folder(dataset, emit)
    folds = members_called(model, output_dir) if model else []
    config = _data_config(dataset, folds, table or {}, directory)
    opened = open_dataset(config, directory=data_dir(config.dir), offline=offline, emit=emit)
    called = slug(opened.facts.name)
    folder, fixed = output or output_dir / "check-labels" / called, f"labels.{called}.fixed.csv"
    check_output_folder(folder)
    if not model and (folds := _newest_folds(opened, output_dir)):
        emit(Note(text=f"model: the newest cross-validation on these data, {folds[0].path.parent.name}"))
    loaded = _loaded(model, folds, opened, config, output_dir=output_dir, device=device, offline=offline, emit=emit)
    given = shlex.join(words_of(replace(config, labels="", image_column="", label_column="")))
    judge, predicted = _judge_in_words(folds, loaded), read_out_of_fold(folds, emit) if folds else None

    # Compute features, neighbours and probabilities
    images, features = with_features(opened, loaded, _plan(opened, folds, config), emit)
    if len(images.names) < 3:
        few = counted(len(images.names), "readable image")
        raise DataError(f"{opened.facts.name} has {few}", hint="three are needed")
    neighbours = nearest(directions(features), emit=emit)
    if neighbours.found < 1:
        emit(Note(text=f"neighbours: searched in the nearest cells; {100 * neighbours.found:.1f} % found in a sample"))
    distance = near_distance(neighbours) if similarity is None else 1 - similarity
    groups = groups_within(neighbours, distance)
    if predicted:
        names = [name if found == "train" else None for name, found in zip(images.names, images.found, strict=True)]
        probabilities = predicted.of(names, opened.facts.classes)
    else:
        first = first_of_group(groups, len(images.names))
        probabilities = cross_validated(features, images.labels, opened.facts.classes, first=first, emit=emit)

    # Collect what was found
    judged = np.flatnonzero(~np.isnan(probabilities[:, 0]))
    errors = find_label_errors(probabilities[judged], images.labels[judged])
    agreement = float(np.mean(probabilities[judged].argmax(axis=1) == images.labels[judged])) if len(judged) else None
    if caution := why_unreliable(len(errors.images), len(judged), agreement):
        emit(Warned(text=caution))
    outliers, strangeness = find_outliers(neighbours)
    found = Found(
        images=images,
        errors=judged[errors.images],
        suggested=errors.suggested,
        scores=errors.scores,
        groups=groups,
        similarity=1 - neighbours.distances[:, 0],
        outliers=outliers,
        strangeness=strangeness,
    )
    findings = found.rows()
    usual = folder / "findings.csv", folder / "labels.html"
    files = [with_end(path, unused_end(*usual)) for path in usual]
    write_findings(files[0], findings)
    left_out = write_report(
        files[1],
        found,
        title=f"Labels of {opened.facts.name}",
        notes=_notes(opened, f"{given} --labels {fixed}", judge, folds, loaded, caution),
        pictures=pictures,
        overlays=partial(_overlays, images, folds=folds, loaded=loaded, emit=emit),
        table_name=files[0].name,
        file=fixed,
        emit=emit,
    )
    return LabelCheck(
        dataset=opened.facts.name,
        images=len(images.names),
        probabilities_from=judge,
        features_from=loaded.name if loaded else "pixels",
        not_judged=len(images.names) - len(judged),
        agreement=agreement,
        similarity=1 - distance,
        neighbours_found=neighbours.found,
        counts=found.counts(),
        findings=findings,
        table=files[0],
        page=files[1],
        not_on_page=left_out,
    )


# The data, and who judges them


def _data_config(dataset: str, folds: Sequence[Run], given: Mapping[str, Any], directory: str) -> DataConfig:
    """Return the settings for reading the data: as in the cross-validation, if they are its own."""
    if not dataset and not folds:
        raise UsageError("no data set is given", hint="vit check-labels photos/, or --model CROSS-VALIDATION")
    if "on_bad_image" in given:
        check_choice("on_bad_image", given["on_bad_image"], ("error", "skip"))
    before = stored_settings(folds[0]).data if folds else None
    if before and (not dataset or canonical_name(dataset) == before.name):
        kept_in = before.dir if Path(before.dir).is_dir() else ""
        return replace(before, dir=directory or kept_in, **given)
    return replace(DataConfig(name=canonical_name(dataset), dir=directory), **given)


def _newest_folds(dataset: Dataset, output_dir: Path) -> list[Run]:
    """Return the folds of the newest cross-validation on these data that is summed up; empty: there is none."""
    for run in all_runs(output_dir):
        folds = members_with(run)
        is_summed_up = folds and (run.path.parent / OUT_OF_FOLD).exists()
        if is_summed_up and is_same_data(run.fingerprint, dataset.facts.fingerprint):
            return folds
    return []


def _check_folds(folds: Sequence[Run], dataset: Dataset, config: DataConfig) -> None:
    """Refuse a cross-validation that is not finished, or was trained on other data."""
    name = folds[0].path.parent.name
    if (group := folds[0].group) != "cross-validation":
        raise RunError(
            f"{name} is a {group}, whose runs were all trained on the same images",
            hint="`vit train DATASET --folds 5` trains models that each judge images they have not seen",
        )
    if not is_same_data(folds[0].fingerprint, dataset.facts.fingerprint):
        raise RunError(
            f"{name} was trained on other images or labels than those of {dataset.facts.name}",
            hint=f"`{shlex.join(['vit', 'train', *words_of(config), '--folds', '5'])}` trains one on these",
        )


def _loaded(
    model: str,
    folds: Sequence[Run],
    dataset: Dataset,
    config: DataConfig,
    *,
    output_dir: Path,
    device: str,
    offline: bool,
    emit: Emit,
) -> LoadedModel | None:
    """Load the model that computes features: of a cross-validation, its first fold; None: the pixels are the features."""
    if folds:
        _check_folds(folds, dataset, config)
        emit(Note(text=f"features for near-duplicates and outliers: {folds[0].name}, which judges no labels"))
        return load_model(str(folds[0].path), device=device, emit=ignore)
    if model:
        loaded = load_model(model, output_dir=output_dir, device=device, offline=offline, needs_head=False, emit=emit)
        refuse_trained_on(loaded, dataset, config, emit)
        return loaded
    _tell_pixels(dataset, config, emit)
    return None


def _plan(dataset: Dataset, folds: Sequence[Run], config: DataConfig) -> Plan:
    """Return the splits that images are held out for; in a cross-validation, all images that validate are trained on."""
    if not folds:
        return usual_plan(dataset, config)
    plan = restored_plan(folds[0].split or {}, dataset)
    return {name: subset for name, subset in plan.items() if name != "val"}


def _tell_pixels(dataset: Dataset, config: DataConfig, emit: Emit) -> None:
    """Say that pixels are the features, which is not good enough for photos."""
    what = "no cross-validation on these data, and no --model: the pixels are the features"
    folds = shlex.join(["vit", "train", *words_of(config), "--folds", "5"])
    better = f"`{folds}` makes a cross-validation, `vit download` lists weights for --model"
    if dataset.facts.native_geometry:
        emit(Note(text=what))
    else:
        emit(Warned(text=f"{what}, and {_WEAK}; {better}"))


def _judge_in_words(folds: Sequence[Run], loaded: LoadedModel | None) -> str:
    if folds:
        return f"out-of-fold predictions of {folds[0].path.parent.name}"
    return f"logistic regressions on {f'features of {loaded.name}' if loaded else 'pixels'}, {FOLDS} folds"


def _notes(
    dataset: Dataset, given: str, judge: str, folds: Sequence[Run], loaded: LoadedModel | None, caution: str
) -> list[str]:
    """Write the paragraphs at the top of the page."""
    weak = "" if loaded or dataset.facts.native_geometry else _WEAK
    notes = [f"Warning: {each}." for each in (caution, weak) if each]
    kept = f"Images stay as they are: vit train {given} takes the new labels."
    lost = f"{dataset.facts.name} has no image files, so vit train cannot take new labels for it."
    notes += [f"Labels are judged by {judge}. This page does not keep your choices: download them before you close it."]
    notes += [kept if dataset.raw else lost]
    what = "speaks for the predicted class" if folds else "the features came from"
    return [*notes, f"Beside likely label errors, a map shows what {what}."] if loaded else notes


def _overlays(
    images: CheckedImages, shown: Sequence[int], *, folds: Sequence[Run], loaded: LoadedModel | None, emit: Emit
) -> dict[int, NDArray[np.uint8]]:
    """Draw attention maps: of the fold that predicted the image, else of the model, whatever its classes are."""
    if not loaded:
        return {}
    if not folds:
        return _drawn(images, shown, loaded, "rollout")
    drawn: dict[int, NDArray[np.uint8]] = {}
    emit(TaskProgress(task="drawing attention maps", done=0, total=len(folds)))
    predicted = by_fold(folds, [images.names[at] for at in shown])
    for number, (fold, positions) in enumerate(zip(folds, predicted, strict=True), start=1):
        if part := [shown[at] for at in positions]:
            model = load_model(str(fold.path), device=str(loaded.device), emit=ignore)
            drawn |= _drawn(images, part, model, DEFAULT_METHOD)
        emit(TaskProgress(task="drawing attention maps", done=number, total=len(folds)))
    return drawn


def _drawn(images: CheckedImages, part: Sequence[int], model: LoadedModel, method: str) -> dict[int, NDArray[np.uint8]]:
    return dict(zip(part, draw_overlays(model, [images.pixels(at) for at in part], method), strict=True))
