"""A stored evaluation of a run, as it is compared with that of another run."""

from dataclasses import dataclass
from functools import cached_property

from vitcli.core.errors import DataError, RunError
from vitcli.core.evaluation_facts import EvaluationFacts
from vitcli.core.runs import predictions_file
from vitcli.judging.evaluated_runs import EvaluatedRun
from vitcli.judging.tables import StoredAnswer, read_predictions


@dataclass(frozen=True, kw_only=True)
class ComparedEvaluation(EvaluationFacts):
    """An evaluation with its run: which images it is of, how they were judged, and the answers."""

    run: EvaluatedRun

    @property
    def dataset(self) -> str:
        """The name of the data set."""
        return self.facts.get("dataset") or str(self.run.runs[0].info["dataset"])

    @property
    def data(self) -> str:
        """The fingerprint of the data set; its name if an early version stored no fingerprint."""
        return self.facts.get("fingerprint") or (self.is_own and self.run.fingerprint) or self.dataset

    @property
    def place(self) -> tuple[str, str]:
        """The data and the split on disk: where two evaluations have the same, a name means the same image."""
        return self.data, self.facts.get("found_in", self.stem)

    @property
    def way(self) -> dict[str, str]:
        """The options of ``vit eval`` that change the answers to the same images."""
        return {"views": self.views, "checkpoint": self.checkpoint, "classes": self.classes}

    @property
    def classes_of_data(self) -> frozenset[str]:
        """The classes of the images; of other data than the run's own, those that have images."""
        if self.is_own and "classes" not in self.facts:
            return self.run.classes
        classes = self.facts.get("classes", ())
        return frozenset(each["name"] for each in classes if self.is_own or each["images"])

    def check_answers(self) -> None:
        """Raise RunError if the table of answers is broken."""
        _ = self.answers

    @cached_property
    def answers(self) -> dict[str, StoredAnswer]:
        """The answers by the name of the image.

        Raises:
            RunError: the table is broken, or has not as many rows as images were evaluated.
        """
        path = predictions_file(self.run.folder, self.stem)
        hint = f"`{self.run.command(self.stem)}` writes it again"
        try:
            answers = read_predictions(path)
        except DataError as error:
            raise RunError(error.message, hint=hint) from None
        if len(answers) != (images := self.facts.get("images", len(answers))):
            raise RunError(f"{path} is broken: {len(answers):,} rows instead of {images:,}", hint=hint)
        return answers
