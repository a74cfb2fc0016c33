"""Comparison of runs: settings that differ, curves, and the answers to the images that both were evaluated on."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from vitcli.core.errors import RunError, UsageError, visible
from vitcli.core.events import Emit, EpochRecord, Note, Warned, ignore
from vitcli.core.files import check_output_folder
from vitcli.core.fingerprints import is_same_data
from vitcli.core.run_search import output_dir_option, runs_called
from vitcli.core.runs import evaluation_file, predictions_file
from vitcli.core.short_names import slug_of_several
from vitcli.judging.compared_pair import compare_with_first, reason_in_words
from vitcli.judging.evaluated_runs import EvaluatedRun
from vitcli.judging.pairs import Pair, write_changed
from vitcli.judging.same_images import chosen_evaluations
from vitcli.trained.model_names import name_meant_by
from vitcli.trained.run_rows import list_rows
from vitcli.training.run_report import DifferentSetting, different_settings


@dataclass(frozen=True, kw_only=True, slots=True)
class RunsComparison:
    """Several runs, each compared with the first one."""

    runs: tuple[str, ...]
    """The names of the runs."""
    settings: tuple[DifferentSetting, ...]
    """The settings that differ."""
    evaluation: str
    """The evaluation that is compared: the split, after the name of the data set if it is not the runs' own."""
    pairs: tuple[Pair, ...]
    """Each other run with the first one, if both were evaluated."""
    missing: Mapping[str, str]
    """The commands that store the evaluations that are missing, by run."""
    not_compared: tuple[str, ...]
    """Reasons why runs are not compared with the first one, if others are; empty: they are, or evaluations are missing."""
    why_missing: Mapping[str, str]
    """Why these evaluations are missing, by run, and whether its training has not finished."""
    figure: Path | None
    """The figure of the curves; None: a run has no epochs."""
    table: Path | None
    """The table of the images that changed sides; None: there are no evaluations to compare."""

    def __repr__(self) -> str:
        found = [f"{each.second} {100 * each.comparison.differences[0].difference:+.2f} points" for each in self.pairs]
        return visible(
            f"<RunsComparison with {self.runs[0]}, {self.evaluation}: {', '.join(found) or 'no evaluations'}>"
        )


def compare(
    names: Sequence[str],
    *,
    output_dir: Path = Path("experiments"),
    split: str = "auto",
    output: Path | None = None,
    emit: Emit = ignore,
) -> RunsComparison:
    """Compare runs with the first of them, and write a figure of their curves and a table of images that changed sides.

    Args:
        names: two or more runs or groups in ``output_dir``, or their paths.
        output_dir: the folder of all runs.
        split: the evaluation to compare: test, val, train, out-of-fold, or the name of any file in ``evaluations/``;
            auto: the test images of the first run if all runs were evaluated on them, under whatever name of the data,
            else others.
        output: the folder of the figure and the table; None: ``comparisons/A-vs-B`` in ``output_dir``.
        emit: receives notes and warnings.

    Raises:
        UsageError: there are fewer than two different runs.
        RunError: there is no such run, or its files are broken.
        DataError: no run was evaluated on the images of the first one.
    """
    compared = _found(names, output_dir)
    called = tuple(each.name for each in compared)
    if len(set(called)) < len(called):
        again = f"vit runs rename OLD NEW{output_dir_option(output_dir)}"
        raise RunError(f"two of the runs have the same name: {', '.join(called)}", hint=again)
    chosen = chosen_evaluations(compared, split)
    first, *others = chosen.found
    pairs, errors = compare_with_first(first, [each for each in others if each], emit) if first else ([], {})
    errors = {**chosen.errors, **errors}
    if errors and not pairs:
        raise next(iter(errors.values()))
    not_compared = [reason_in_words(called[0], name, error) for name, error in errors.items()]
    for reason, error in zip(not_compared, errors.values(), strict=True):
        emit(Warned(text=f"{reason}; {error.hint}"))
    folder = output or output_dir / "comparisons" / slug_of_several(called)
    check_output_folder(folder)
    table = folder / f"{chosen.stem}-changed.csv" if pairs else None
    if table:
        write_changed(table, pairs)
    return RunsComparison(
        runs=called,
        settings=tuple(different_settings([each.runs[0] for each in compared])),
        evaluation=chosen.stem,
        pairs=tuple(pairs),
        missing=chosen.missing,
        not_compared=tuple(not_compared),
        why_missing={
            each.name: _why_missing(
                each, chosen.stem, is_same_data=is_same_data(each.fingerprint, compared[0].fingerprint)
            )
            for each in compared
            if each.name in chosen.missing
        },
        figure=_draw(compared, folder / "curves.png", emit),
        table=table,
    )


def _found(names: Sequence[str], output_dir: Path) -> list[EvaluatedRun]:
    """Find the runs, each once."""
    found: dict[Path, EvaluatedRun] = {}
    where = output_dir_option(output_dir)
    for name in (name_meant_by(each, output_dir) for each in names):
        folder, runs = runs_called(name, output_dir)
        found.setdefault(folder.resolve(), EvaluatedRun(asked=name, folder=folder, runs=runs, where=where))
    if len(found) < 2:
        raise UsageError(
            "two different runs are needed for a comparison",
            hint=f"vit runs compare A B{where}; `vit runs{where}` lists the runs",
        )
    return list(found.values())


def _why_missing(run: EvaluatedRun, stem: str, *, is_same_data: bool) -> str:
    """Say why a run has no evaluation to compare, and, if its training has not finished, how far it is."""
    why = "has not been evaluated on these images"
    if is_same_data and evaluation_file(run.folder, stem).exists():
        why = "was trained further after it was evaluated on these images"
        if not predictions_file(run.folder, stem).exists():
            why = "was evaluated on these images, but the table of its predictions is missing"
    row = list_rows(run.runs)[0]
    if row.status == "finished":
        return why
    if row.folds or row.seeds:
        return f"{why}; {row.status_in_words} are finished"
    planned = run.runs[0].config.get("optim", {}).get("epochs") or row.epochs
    status = "it is still running" if row.status == "running" else f"its training has stopped: {row.status}"
    return f"{why}; {status}, after {row.epochs:,} of {planned:,} epochs"


def _draw(compared: Sequence[EvaluatedRun], path: Path, emit: Emit) -> Path | None:
    """Draw the curves of all runs; None: none of them has epochs."""
    from vitcli.figures.curves import draw_compared_curves  # matplotlib takes a while to import

    curves: dict[str, list[list[EpochRecord]]] = {}
    for each in compared:
        records = [[EpochRecord(**record) for record in run.metrics.get("epochs", ())] for run in each.runs]
        if some := [epochs for epochs in records if epochs]:
            curves[each.name] = some
        else:
            emit(Note(text=f"{each.name} has no curves: its first epoch has not ended"))
    if not curves:
        return None
    draw_compared_curves(curves, path)
    return path
