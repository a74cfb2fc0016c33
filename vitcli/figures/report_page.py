"""A web page about runs, which needs no other file and no network."""

from collections.abc import Sequence
from string import Template

from vitcli.core.errors import visible
from vitcli.figures.markup import element
from vitcli.figures.offline_page import page_parts, safe_json
from vitcli.figures.report_sections import Picture, ReportedRun, RunTable, compared, sections_of

MOST_BYTES = 14_000_000
"""Size of a page, at most: pictures that would exceed it are left out."""


def report_page(
    runs: Sequence[ReportedRun], *, title: str, notes: Sequence[str], comparison: Sequence[RunTable] = ()
) -> str:
    """Return the text of the page.

    Args:
        runs: the runs.
        title: the title of the page.
        notes: paragraphs below the title.
        comparison: the comparisons of the runs, if there are several.
    """
    head, tail, values = page_parts("report_page", title=visible(title), notes=[*map(visible, notes)])
    several = len(runs) > 1
    sections = [compared(runs, comparison)] if several else []
    sections += [section for at, run in enumerate(runs) for section in sections_of(at, run, several=several)]
    links = [element("li", element("a", words, href=f"#{name}")) for name, words, _ in sections]
    body = [element("section", content, id=name, aria_labelledby=f"{name}-heading") for name, _, content in sections]
    blocks = [block for at, run in enumerate(runs) for block in _picture_blocks(at, run.judgement.pictures)]
    facts = {
        "runs": [[visible(name) for name in run.judgement.classes] for run in runs],
        "maps": [[visible(run.judgement.map_legend), visible(run.judgement.more_maps)] for run in runs],
    }
    values |= {"links": "".join(links), "facts": safe_json(facts)}
    head, tail = (Template(each).substitute(values) for each in (head, tail))
    return "\n".join([head, *body, "</main>", *blocks, tail])


def size_of(picture: Picture) -> int:
    """Return the bytes that a picture takes on the page, at most."""
    return (
        len(picture.address) + len(picture.map_address) + 6 * len(picture.name) + 100 + bool(picture.map_address) * 1000
    )


def _picture_blocks(run: int, pictures: Sequence[Picture]) -> list[str]:
    """Return the blocks of data that the page reads when a cell is opened: one for each pair of classes."""
    cells: dict[tuple[int, int], list[list[object]]] = {}
    for number, each in enumerate(pictures):
        facts = [number, visible(each.name), each.confidence, each.of_truth, each.address, each.is_small]
        cells.setdefault((each.truth, each.predicted), []).append(facts)
    return [
        f'<script type="application/json" class="cell" data-cell="{run}-{truth}-{predicted}">{safe_json(rows)}</script>'
        for (truth, predicted), rows in cells.items()
    ]
