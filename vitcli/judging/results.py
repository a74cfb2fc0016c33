"""The files that store an evaluation: numbers, tables and figures."""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from vitcli.core.files import replacing, write_json
from vitcli.core.runs import evaluation_file, figure_file, predictions_file
from vitcli.judging.answers import Answers
from vitcli.judging.calibration import accuracy_by_coverage
from vitcli.judging.metrics import Metrics
from vitcli.judging.tables import write_confusion, write_predictions

OF_MISTAKES = ("mistakes", "unsure")
"""The figures that are drawn afterwards, of the surest mistakes and of the least sure answers."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ResultFiles:
    """The files of one evaluation in the folder of a run or a cross-validation."""

    folder: Path
    stem: str
    """The split, after the name of the data set if it is not the model's own."""

    @property
    def metrics(self) -> Path:
        """All numbers, as JSON."""
        return evaluation_file(self.folder, self.stem)

    @property
    def predictions(self) -> Path:
        """One row for each image, as CSV."""
        return predictions_file(self.folder, self.stem)

    @property
    def confusion(self) -> Path:
        """The confusion matrix, as CSV."""
        return self.metrics.with_name(f"{self.stem}-confusion.csv")

    def figure(self, name: str) -> Path:
        """Return the file of a figure."""
        return figure_file(self.folder, f"{name}-{self.stem}")


def write_results(
    files: ResultFiles,
    answers: Answers,
    metrics: Metrics,
    *,
    names: Sequence[str] | Sequence[int],
    facts: Mapping[str, Any],
    title: str,
) -> dict[str, Path]:
    """Write the numbers, the tables, and the figures of the confusion matrix and of the reliability.

    Args:
        files: where to write.
        answers: the answers.
        metrics: their metrics.
        names: the name of each image.
        facts: facts about the evaluation, for the JSON file.
        title: the title of the figures.

    Returns:
        Name of the result -> its file.
    """
    from vitcli.figures.confusion import draw_confusion  # matplotlib takes a while to import
    from vitcli.figures.reliability import draw_reliability

    with ExitStack() as together:  # the numbers and tables of an earlier evaluation stay until all new ones are written
        numbers, predictions, confusion = (
            together.enter_context(replacing(path)) for path in (files.metrics, files.predictions, files.confusion)
        )
        write_predictions(predictions, answers, names)
        write_confusion(confusion, metrics.confusion, answers.classes)
        write_json(numbers, {**facts, **asdict(metrics)})
    for name in OF_MISTAKES:  # of the earlier evaluation
        files.figure(name).unlink(missing_ok=True)
    draw_confusion(metrics.confusion, answers.classes, files.figure("confusion"), title=title)
    bins = [(each.images, each.confidence, each.accuracy) for each in metrics.reliability]
    draw_reliability(bins, accuracy_by_coverage(answers), files.figure("reliability"), title=title)
    return {
        "metrics": files.metrics,
        "predictions": files.predictions,
        "confusion": files.confusion,
        "confusion figure": files.figure("confusion"),
        "reliability figure": files.figure("reliability"),
    }
