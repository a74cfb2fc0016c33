"""The tables of a report that compare several runs."""

from collections.abc import Sequence

from vitcli.core.errors import counted
from vitcli.core.events import Emit, Warned
from vitcli.figures.report_sections import Rows, RunTable
from vitcli.judging.compared_evaluation import ComparedEvaluation
from vitcli.judging.compared_pair import compare_with_first, reason_in_words
from vitcli.judging.current_evaluation import CurrentEvaluation
from vitcli.judging.judgement import joined_scores, sentences
from vitcli.judging.missing import SHARES, missing_scores
from vitcli.judging.pairs import Pair


def compared_runs(judged: Sequence[CurrentEvaluation], settings: Rows, emit: Emit) -> tuple[list[RunTable], list[str]]:
    """Compare the runs with the first one; also return the reasons why some are not compared.

    Args:
        judged: the runs with their evaluations.
        settings: the settings that differ, with their value in each run.
        emit: receives notes and warnings.
    """
    if len(judged) < 2:
        return [], []
    names = tuple(each.run.name for each in judged)
    scores = joined_scores([each.stored.metrics for each in judged])
    notes = [f"{each.run.name}: {sentences(why)}" for each in judged if (why := missing_scores(each.stored.metrics))]
    if any("-" in row for row in scores if row[0] == SHARES["top5"]):
        notes.append(f"{SHARES['top5']} is shown for more than five classes; with fewer, it is always 100 %.")
    title = "Scores of the runs, with 95 % intervals"
    tables = [RunTable(title=title, headings=("metric", *names), rows=scores, notes=notes)]
    first, *others = [
        ComparedEvaluation(run=each.run, stem=each.stored.places.stem, facts=each.stored.facts) for each in judged
    ]
    pairs, errors = compare_with_first(first, others, emit)
    missing = [reason_in_words(names[0], name, error) for name, error in errors.items()]
    for reason in missing:
        emit(Warned(text=reason))
    tables += [
        RunTable(
            title=f"{pair.second} compared with {pair.first}, on"
            f" {counted(pair.comparison.images, 'image')} that both were evaluated on; changes are in percentage"
            " points, that of the loss in nats",
            headings=pair.headings,
            rows=pair.rows(),
            notes=_notes(pair),
        )
        for pair in pairs
    ]
    tables.append(
        RunTable(
            title="Settings that differ", headings=("setting", *names), rows=settings, notes=missing, has_numbers=False
        )
    )
    return tables, missing


def _notes(pair: Pair) -> list[str]:
    """Return the sentences above the table of a pair: the verdict, then the counts that it rests on."""
    facts = pair.in_words()
    verdict, test = facts.pop("verdict"), facts.pop("McNemar's test")
    counts = (*facts.values(), f"McNemar's test: {test}", pair.missing())
    return [f"{verdict}.", f"{'; '.join(filter(None, counts))}."]
