"""The current evaluation of a run: the stored one, or if that is outdated, a new one."""

import shlex
from dataclasses import dataclass, replace
from pathlib import Path

from vitcli.core.errors import DataError, ModelError, RunError
from vitcli.core.events import Emit, Note, Warned
from vitcli.judging.evaluated_runs import EvaluatedRun
from vitcli.judging.evaluation import evaluate_models, places_of
from vitcli.judging.results import ResultFiles
from vitcli.judging.stored_evaluation import StoredEvaluation, stored_evaluation
from vitcli.trained.judged_images import AskedSplit, JudgedImages, choose_images
from vitcli.trained.loading import LoadedModel, are_folds, load_models


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class CurrentEvaluation:
    """A run with its models, its images and its evaluation."""

    run: EvaluatedRun
    models: list[LoadedModel]
    """The model, or the finished models of a group: their probabilities are averaged, or each fold predicts its own images."""
    chosen: JudgedImages | None
    """The images; None: they are not here."""
    stored: StoredEvaluation
    is_new: bool
    """True if the run was evaluated just now."""


def current_evaluation(
    run: EvaluatedRun,
    split: AskedSplit,
    *,
    output_dir: Path,
    directory: str,
    device: str,
    batch_size: int,
    offline: bool,
    emit: Emit,
) -> CurrentEvaluation:
    """Read the stored evaluation of a run; evaluate the run if there is none, or if it is outdated.

    Args:
        run: the run or the group.
        split: the split.
        output_dir: the folder of all runs.
        directory: the folder of data sets; empty: as in training.
        device: auto, cpu, cuda, cuda:N or mps.
        batch_size: images per batch.
        offline: download nothing.
        emit: receives the progress, and why the run is evaluated again.

    Raises:
        DataError, ModelError: the data are not here, and there is no current evaluation either.
        RunError: the evaluation cannot be stored.
    """
    models = load_models(str(run.folder), output_dir=output_dir, device=device, offline=offline, emit=emit)
    chosen, missing = None, None
    try:
        chosen = choose_images(
            models,
            dataset="",
            split=split,
            directory=directory,
            offline=offline,
            hint=f"vit eval DATASET --model {shlex.quote(str(run.folder))}",
            is_out_of_fold=are_folds(models),
            emit=emit,
        )
        places = places_of(models, chosen)
        assert places
    except (DataError, ModelError) as error:  # as where only the run was copied to this machine
        missing = error
        val = "out-of-fold" if are_folds(models) else "val"
        stems = ("test", val) if split == "auto" else (val if split == "val" else split,)
        known = [ResultFiles(folder=run.folder, stem=stem) for stem in stems]
        places = next((each for each in known if each.metrics.exists()), known[0])
    stored, is_new = stored_evaluation(places), False
    reason = stored.why_outdated(models, chosen) if stored else "there is no complete evaluation of it yet"
    if reason and missing:
        raise missing
    if missing:
        emit(Warned(text=f"there will be no pictures: {missing.message}"))
    elif chosen and reason:
        emit(Note(text=f"{run.name} is evaluated first, as by `{run.command(places.stem)}`: {reason}"))
        done, is_new = evaluate_models(models, chosen, batch_size=batch_size, emit=emit), True
        stored = stored_evaluation(places) if done.files else None
    if not stored:
        raise RunError(f"{places.folder} has no evaluation of {run.name}", hint=f"`{run.command(places.stem)}`")
    return CurrentEvaluation(
        run=replace(run, folder=places.folder), models=models, chosen=chosen, stored=stored, is_new=is_new
    )
