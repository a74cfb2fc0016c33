"""Comparison of runs: settings that differ, curves, and the answers to the images that both were evaluated on."""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from vitcli.core.errors import UsageError, visible
from vitcli.core.events import Emit, EpochRecord, Note, ignore
from vitcli.core.files import check_output_folder
from vitcli.core.run_search import runs_called
from vitcli.core.runs import slug
from vitcli.judging.evaluated_runs import EvaluatedRun, compare_pair
from vitcli.judging.pairs import Pair, write_changed
from vitcli.training.run_report import DifferentSetting, different_settings

_ORDER = ("test", "val")
"""The evaluations that are compared first, if all runs have them."""


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
        split: the evaluation to compare: test, val, train, or the name of any file in ``evaluations/``; auto: the test
            split if all runs were evaluated on it, else another one that all have.
        output: the folder of the figure and the table; None: ``comparisons/A-vs-B`` in ``output_dir``.
        emit: receives notes and warnings.

    Raises:
        UsageError: there are fewer than two different runs.
        RunError: there is no such run, or its files are broken.
        DataError: the runs were evaluated on different images.
    """
    compared = _found(names, output_dir)
    called = tuple(each.name for each in compared)
    if len(set(called)) < len(called):
        raise UsageError(f"two of the runs have the same name: {', '.join(called)}", hint="vit runs rename OLD NEW")
    stem = _chosen(compared) if split == "auto" else split
    stored = {each.name: each.evaluation(stem) for each in compared}
    missing = {each.name: each.command(stem) for each in compared if not stored[each.name]}
    first, *others = compared
    pairs = [
        compare_pair(first, other, stem, (known, stored[other.name] or {}), emit)
        for other in others
        if (known := stored[first.name]) and stored[other.name]
    ]
    folder = output or output_dir / "comparisons" / "-vs-".join(slug(name) for name in called)[:200]
    check_output_folder(folder)
    table = folder / f"{stem}-changed.csv" if pairs else None
    if table:
        write_changed(table, pairs)
    return RunsComparison(
        runs=called,
        settings=tuple(different_settings([each.runs[0] for each in compared])),
        evaluation=stem,
        pairs=tuple(pairs),
        missing=missing,
        figure=_draw(compared, folder / "curves.png", emit),
        table=table,
    )


def _found(names: Sequence[str], output_dir: Path) -> list[EvaluatedRun]:
    """Find the runs, each once."""
    found: dict[Path, EvaluatedRun] = {}
    where = "" if output_dir == Path("experiments") else f" --output-dir {shlex.quote(str(output_dir))}"
    for name in names:
        folder, runs = runs_called(name, output_dir)
        found.setdefault(folder.resolve(), EvaluatedRun(asked=name, folder=folder, runs=runs, where=where))
    if len(found) < 2:
        raise UsageError(
            "two different runs are needed for a comparison", hint="vit runs compare A B; `vit runs` lists the runs"
        )
    return list(found.values())


def _chosen(compared: Sequence[EvaluatedRun]) -> str:
    """Return the evaluation that all runs have; else the one that they should have."""
    stems = [{path.stem for path in (each.folder / "evaluations").glob("*.json")} for each in compared]
    common = [stem for stem in set.intersection(*stems) if all(each.evaluation(stem) for each in compared)]
    has_test = all(each.runs[0].info.get("images", {}).get("test", 1) for each in compared)
    ranked = sorted(common, key=lambda stem: (_ORDER.index(stem) if stem in _ORDER else len(_ORDER), stem))
    return ranked[0] if ranked else "test" if has_test else "val"


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
