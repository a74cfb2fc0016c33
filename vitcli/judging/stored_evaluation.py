"""A stored evaluation, read again: its numbers, and the answer to every image."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any

from vitcli.core.errors import DataError
from vitcli.core.files import safe_cell
from vitcli.core.fingerprints import is_same_data
from vitcli.core.stored import checked, read_json
from vitcli.judging.evaluated_runs import names_in
from vitcli.judging.evaluation import calibration_for, count_calibrated
from vitcli.judging.metrics import Metrics
from vitcli.judging.results import ResultFiles
from vitcli.judging.tables import StoredAnswer, read_predictions
from vitcli.trained.judged_images import JudgedImages
from vitcli.trained.loading import LoadedModel


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class StoredEvaluation:
    """An evaluation as ``vit eval`` stored it."""

    places: ResultFiles
    facts: Mapping[str, Any]
    """The content of the JSON file."""
    metrics: Metrics
    answers: Mapping[str, StoredAnswer]
    """The answer to each image, by its name; texts are as in the table."""

    def why_outdated(self, models: Sequence[LoadedModel], chosen: JudgedImages | None) -> str:
        """Say why an evaluation by these models would differ; empty: it is current, as far as files can tell.

        Args:
            models: the models.
            chosen: the images; None: they are not here.
        """
        run = models[0].run
        if len(models) == 1 and run and run.is_outdated(self.facts):
            return "the run was trained on since its last evaluation"
        if _last_parts(names_in(self.facts)) != _last_parts([model.name for model in models]):
            return "other runs of the group were evaluated last time"
        if not chosen:
            return ""
        if not is_same_data(self.facts.get("fingerprint"), chosen.dataset.facts.fingerprint):
            return "images or labels have changed since its last evaluation"
        calibration = calibration_for(models, chosen)
        was_calibrated = self.facts.get("calibrated", int(self.facts.get("temperature") is not None))
        if self.facts.get("temperature") != (
            calibration.temperature if calibration else None
        ) or was_calibrated != count_calibrated(models, chosen):
            return "its probabilities were calibrated since its last evaluation"
        return ""


def _last_parts(names: Sequence[str]) -> list[str]:
    """Return the names of models without that of their group, which may have been renamed; one model has none."""
    return [name.rpartition("/")[2] for name in names] if len(names) > 1 else []


def stored_evaluation(places: ResultFiles) -> StoredEvaluation | None:
    """Read an evaluation; None: there is none, it has too few numbers, or one of them is not finite."""
    try:
        facts = read_json(places.metrics)
        metrics: Metrics = checked(facts, Metrics)
        answers = read_predictions(places.predictions)
    except (OSError, ValueError, DataError):
        return None
    known = {safe_cell(each.name) for each in metrics.classes}
    are_known = all({each.truth, each.prediction} <= known for each in answers.values())
    are_finite = all(isfinite(each.probability) and isfinite(each.loss) for each in answers.values())
    if len(answers) != metrics.images or not (are_known and are_finite):
        return None
    return StoredEvaluation(places=places, facts=facts, metrics=metrics, answers=answers)
