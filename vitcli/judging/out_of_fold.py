"""The evaluation of a cross-validation by its out-of-fold predictions, and the model that predicted each image."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from vitcli.core.errors import DataError, RunError, counted
from vitcli.core.events import Emit, Note
from vitcli.core.fingerprints import is_same_data
from vitcli.core.run_search import members_of
from vitcli.core.words import out_of_fold_in_words
from vitcli.data.raw import Labels
from vitcli.judging.answers import collect
from vitcli.judging.judge import Judged, Views
from vitcli.trained.judged_images import JudgedImages
from vitcli.trained.loading import LoadedModel
from vitcli.trained.out_of_fold import by_fold, read_out_of_fold

_LEAST = 5e-7
"""The probability that stands for 0, which earlier versions stored for all that is lower."""
_AT_ONCE = 4096
"""Number of stored predictions that are judged at once."""


def judge_out_of_fold(group: Path, loaded: LoadedModel, chosen: JudgedImages, *, views: Views, emit: Emit) -> Judged:
    """Read the answers of a cross-validation to the images that its folds validate on.

    Args:
        group: the folder of the cross-validation.
        loaded: one of its models.
        chosen: the images.
        views: views of each image; only ``none`` is stored.
        emit: receives notes.

    Raises:
        RunError: there are none, because not all folds are finished, or other views of the images are wanted.
        DataError: the images or labels have changed since.
    """
    if views != "none":
        raise RunError("stored out-of-fold predictions have no other views of the images", hint="leave out --tta")
    table, facts = read_out_of_fold(members_of(group), emit), chosen.dataset.facts
    if not is_same_data(facts.fingerprint, loaded.checkpoint.provenance["fingerprint"]):
        raise DataError(
            f"the out-of-fold predictions of {group.name} are of other images or labels than those of {facts.name} now",
            hint=f"`vit eval --model {loaded.typed}` evaluates one fold on the images that it held out",
        )
    labels = chosen.dataset.labels("train")
    probabilities = table.of([str(name) for name in chosen.dataset.names("train")], facts.classes)
    members = np.flatnonzero(~np.isnan(probabilities[:, 0]))
    what = f"out-of-fold predictions of {len(members):,} of {counted(len(labels), 'labelled image')}"
    emit(Note(text=f"{what}: {out_of_fold_in_words(keeps_best=not loaded.keeps_last)}"))
    if (zero := probabilities == 0).any():
        probabilities[zero] = _LEAST
        emit(Note(text=f"probabilities that are stored as 0 count as {_LEAST:g} in the loss"))
    logits = torch.from_numpy(probabilities[members]).double().log()
    truth = torch.from_numpy(labels[members]).long()
    parts = list(zip(logits.split(_AT_ONCE), truth.split(_AT_ONCE), strict=True))
    return Judged(answers=collect(parts, facts.classes), positions=members, left_out=0, logits=torch.empty(0))


def predictors(
    models: Sequence[LoadedModel], chosen: JudgedImages, members: Labels
) -> list[tuple[LoadedModel, list[int]]]:
    """Return models with the positions in ``members`` of the images whose answers they explain.

    Out of fold, each image is explained by the fold that predicted it, else all by the first model.

    Args:
        models: the models that were evaluated.
        chosen: the split.
        members: places of some images in their split on disk.
    """
    runs = [model.run for model in models if model.run]
    if not chosen.is_out_of_fold:
        return [(models[0], [*range(len(members))])]
    found = by_fold(runs, chosen.dataset.names(chosen.subset.found, members))
    return [(model, at) for model, at in zip(models, found, strict=True) if at]
