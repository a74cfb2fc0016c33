"""The web page on which a person decides about findings: which of them it shows, and in what words."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import zip_longest
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vitcli.core.errors import some
from vitcli.core.events import Emit, Warned
from vitcli.data.raw import SplitName
from vitcli.data.samples import whole_images
from vitcli.data.sources.names import NO_LABEL, WHOLE_NUMBER, plain
from vitcli.figures.label_page import LabelTable, Section, label_page
from vitcli.judging.checked_images import CheckedImages
from vitcli.judging.label_findings import Found, Kind

Overlays = Mapping[int, NDArray[np.uint8]]
"""Image -> its picture with an attention map, (C, H, W)."""
Entry = tuple[str, list[int]]
"""A heading, empty for a single image, and the images."""
_LONGEST = 224
"""Pixels of a picture's longer side, at most."""
_OF_GROUP = 12
"""Images of a group that are shown, at most."""
_AT_ONCE = 32
"""Pictures that are read at once."""
_HEADINGS: dict[Kind, str] = {
    "label": "Likely label errors",
    "leak": "Near-duplicates in different splits",
    "duplicate": "Near-duplicates within a split",
    "outlier": "Outliers",
}


def write_report(
    path: Path,
    found: Found,
    *,
    title: str,
    notes: Sequence[str],
    pictures: int,
    overlays: Callable[[Sequence[int]], Overlays],
    table_name: str,
    file: str,
    emit: Emit,
) -> dict[Kind, int]:
    """Write the page; return the number of findings of each kind that it has no room for.

    Args:
        path: the HTML file.
        found: the findings.
        title: the title of the page.
        notes: paragraphs below the title.
        pictures: the number of images on the page, at most; the kinds take turns, each with its worst finding.
        overlays: computes attention maps of some images; it may leave out any.
        table_name: the file that has all findings.
        file: the name of the table that the page downloads.
        emit: receives a warning if that table cannot keep all labels and names.
    """
    images = found.images
    facts, raw = images.dataset.facts, images.dataset.raw
    entries = _entries(found)
    wanted = _wanted(entries, pictures)
    suggested = dict(zip(found.errors.tolist(), found.suggested.tolist(), strict=True))
    maps, reasons = overlays([at for at in wanted if at in suggested]), _reasons(found)
    table = LabelTable(
        names=images.names,
        labels=images.labels.tolist(),
        classes=facts.classes,
        values=(raw.values if raw else ()) or facts.classes,
        splits=images.found if len(facts.counts) > 1 else (),
    )
    sections, left_out = list[Section](), dict[Kind, int]()
    if raw and (lost := not_kept(table)):
        notes = [*notes, f"Warning: {lost}."]
        emit(Warned(text=lost))
    with label_page(path, title=title, notes=notes, table=table, file=file, sections=sections) as page:
        for at, pixels in _read(images, wanted):
            page.add(
                at,
                pixels,
                split=images.split[at],
                reasons=reasons[at],
                suggested=suggested.get(at),
                overlay=maps.get(at),
            )
        for kind, those in entries.items():
            kept = [entry for entry in those if page.rows.issuperset(entry[1])]
            left_out[kind] = len(those) - len(kept)
            others = f"the {len(kept):,} worst of {len(those):,}; the others are in {table_name}"
            note = others if left_out[kind] else f"all {len(those):,}" if those else "none"
            sections.append(Section(title=_HEADINGS[kind], note=note, entries=kept))
    return left_out


def not_kept(table: LabelTable) -> str:
    """Name the labels and images that change or get lost when a table of labels is read; empty: there are none."""
    read = [_read_again(value) for value in table.values]
    counts = Counter(read)
    labels = [value for value, label in zip(table.values, read, strict=True) if not label or counts[label] > 1]
    images = [name for name in table.names if name.encode(errors="ignore").decode().strip() != name]  # or not UTF-8
    wrong = [
        f"{what} {some(list(map(repr, found)))}" for what, found in (("labels", labels), ("images", images)) if found
    ]
    if not wrong:
        return ""
    return f"a table of labels cannot keep the {' and the '.join(wrong)}: rename them before you train with it"


def _read_again(value: str) -> str:
    """Return the label that a cell of a table means; empty: a missing one."""
    text = plain(value).strip()
    number = WHOLE_NUMBER.fullmatch(text)
    return "" if text.lower() in NO_LABEL else str(int(number[1])) if number else text


def _entries(found: Found) -> dict[Kind, list[Entry]]:
    """List the entries of every kind, the worst first."""
    entries: dict[Kind, list[Entry]] = {
        "label": [("", [at]) for at in found.errors.tolist()],
        "leak": [],
        "duplicate": [],
    }
    for number, kind, group in found.numbered():
        words = [f"group {number}: {len(group):,} images" + (f", {_OF_GROUP} shown" if len(group) > _OF_GROUP else "")]
        words += ["same label" if found.has_one_label(group) else "different labels"]
        entries[kind].append((", ".join(words), group[:_OF_GROUP].tolist()))
    return entries | {"outlier": [("", [at]) for at in found.outliers.tolist()]}


def _wanted(entries: Mapping[Kind, Sequence[Entry]], pictures: int) -> list[int]:
    """Choose the images to show: the kinds take turns, until there are as many as the page may have."""
    wanted: dict[int, None] = {}
    for turn in zip_longest(*entries.values()):
        for _, rows in filter(None, turn):
            more = [at for at in rows if at not in wanted]
            if len(wanted) + len(more) <= pictures:
                wanted |= dict.fromkeys(more)
    return list(wanted)


def _reasons(found: Found) -> Mapping[int, list[str]]:
    """Describe the findings about each image."""
    classes = found.images.dataset.facts.classes
    reasons: dict[int, list[str]] = defaultdict(list)
    for at, suggested, score in zip(
        found.errors.tolist(), found.suggested.tolist(), found.scores.tolist(), strict=True
    ):
        reasons[at].append(f"probably {classes[suggested]}: score {score:.2f}")
    for number, _, group in found.numbered():
        for at in group.tolist():
            reasons[at].append(f"group {number}: similarity {found.similarity[at]:.4f} to the nearest image")
    for at, distance in zip(found.outliers.tolist(), found.strangeness.tolist(), strict=True):
        reasons[at].append(f"outlier: distance {distance:.2f} to its nearest images")
    return reasons


def _read(images: CheckedImages, wanted: Sequence[int]) -> Iterator[tuple[int, NDArray[np.uint8]]]:
    """Read the pictures, a few at once."""
    for start in range(0, len(wanted), _AT_ONCE):
        part = wanted[start : start + _AT_ONCE]
        splits: dict[SplitName, list[int]] = defaultdict(list)
        for at in part:
            splits[images.found[at]].append(at)
        found: dict[int, NDArray[np.uint8]] = {}
        for split, those in splits.items():
            pixels = whole_images(images.dataset, split, images.index[those], longest=_LONGEST, skip_bad=True)
            found |= {at: pixels[int(images.index[at])] for at in those if int(images.index[at]) in pixels}
        yield from ((at, found[at]) for at in part if at in found)
