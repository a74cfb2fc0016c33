"""The sections of the report about runs: training, curves, scores, confusion, classes, calibration, worst images."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from vitcli.core.errors import counted
from vitcli.core.events import EpochRecord
from vitcli.core.words import percent, percent_or_none
from vitcli.figures.line_chart import COLOURS, Axis, Line, line_chart
from vitcli.figures.markup import Html, details, element, facts_table, joined, sortable_table

MOST_OF_MATRIX = 30
"""Number of classes up to which the confusion matrix is shown completely; with more, the pairs that are confused."""
_MOST_PAIRS = 1000
"""Confused pairs that are listed, at most."""
_SHORT = 3
"""Letters of a class name up to which it is written across, not along, its column of the matrix."""
_SHADES = 9
"""Number of shades of a cell of the matrix."""

Rows = Sequence[tuple[str, ...]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Picture:
    """An image of the split, with the answer to it."""

    name: str
    truth: int
    predicted: int
    confidence: float
    """The probability of the predicted class."""
    of_truth: float
    """The probability of the true class."""
    address: str
    """The picture as a data address."""
    map_address: str = ""
    """The same with the map of what the answer rests on; empty: no map was drawn."""
    is_small: bool = False
    """True: it is shown with square pixels."""

    def words(self, classes: Sequence[str]) -> str:
        """Describe the answer."""
        found = f"predicted {classes[self.predicted]} with {percent(self.confidence)}"
        return f"{found}, {classes[self.truth]} has {percent(self.of_truth)}" * (self.truth != self.predicted) or found


@dataclass(frozen=True, kw_only=True, slots=True)
class Judgement:
    """The evaluation of a run on a split, as the page shows it."""

    summary: str
    """The images, and whether they were held out."""
    scores: Rows
    """Metric, value and 95 % interval."""
    classes: Sequence[str]
    class_rows: Sequence[tuple[int, int, float | None, float | None, float | None, float | None]]
    """Images, right ones, recall, precision, F1 and ROC-AUC of each class; None: not defined."""
    confusion: Sequence[tuple[int, int, int]]
    """True class, predicted class and number of images, without zeros."""
    bins: Sequence[tuple[int, float, float]]
    """Images, mean confidence and accuracy of each bin."""
    calibration: str
    """The calibration errors, in words."""
    missing_scores: str = ""
    """Sentences on scores and intervals that are missing; the next one is on numbers of classes."""
    missing_of_classes: str = ""
    pictures: Sequence[Picture] = ()
    pictures_note: str = ""
    """A sentence on the images that have pictures, and on those that are left out."""
    worst_note: str = ""
    """A sentence on the mistakes that are shown with maps."""
    map_legend: str = ""
    """The meaning of the colours of the maps; empty: there are no maps."""
    more_maps: str = ""
    """The command that draws maps of more mistakes; empty: this page has as many as it may."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ReportedRun:
    """A run, or a group of runs, as the page shows it."""

    name: str
    facts: Mapping[str, str]
    settings_title: str
    settings: Rows
    """Setting, value, and usual value."""
    commands: Mapping[str, str]
    """Commands that repeat the training and the evaluation, by what they do."""
    members: Rows
    """Run, status, epochs, validation and test accuracy of each run of a group; empty: a single run."""
    curves: Mapping[str, Sequence[EpochRecord]]
    """The epochs of each run."""
    judgement: Judgement


@dataclass(frozen=True, kw_only=True, slots=True)
class RunTable:
    """A comparison of runs: a heading, paragraphs, and a table."""

    title: str
    headings: tuple[str, ...]
    rows: Rows
    notes: Sequence[str] = ()
    has_numbers: bool = True
    """True: all cells but the first of a row are numbers."""


def sections_of(at: int, run: ReportedRun, *, several: bool) -> list[tuple[str, str, Html]]:
    """Return the sections of a run: name, words of the link to it, and content."""
    judged, of_run = run.judgement, f" of {run.name}" if several else ""
    parts = [
        ("training", f"Training{of_run}", _training(run)),
        ("curves", f"Curves{of_run}", _curves(f"r{at}", run.curves)),
        ("scores", f"Scores{of_run}", _scores(judged)),
        ("confusion", f"Confusion{of_run}", _confusion(at, judged)),
        ("classes", f"Classes{of_run}", _classes(at, judged)),
        ("calibration", f"Calibration{of_run}", _calibration(f"r{at}", judged)),
        ("worst", f"Worst images{of_run}", _worst(at, judged)),
    ]
    return [_section(f"r{at}-{name}", heading, content) for name, heading, content in parts]


def _section(name: str, heading: str, content: Html) -> tuple[str, str, Html]:
    return name, heading, joined(element("h2", heading, id=f"{name}-heading"), content)


def _training(run: ReportedRun) -> Html:
    parts = [facts_table("What was trained", [*run.facts.items()])]
    parts += [
        element("figure", element("figcaption", what), element("pre", element("code", command)), class_="command")
        for what, command in run.commands.items()
    ]
    if run.settings:
        table = sortable_table(run.settings_title, ("setting", "value", "usual"), run.settings)
        parts.append(details(f"{run.settings_title.capitalize()}: {len(run.settings):,}", table))
    if run.members:
        headings = ("run", "status", "epochs", "validation", "test")
        parts.append(sortable_table("The runs of the group", headings, run.members, numbers={2, 3, 4}))
    return joined(*parts)


def _curves(chart: str, curves: Mapping[str, Sequence[EpochRecord]]) -> Html:
    """Draw losses and accuracies; several runs have colours and numbers."""
    kept = {run: records for run, records in curves.items() if records}
    if not kept:
        return element("p", "There are no curves: the first epoch has not ended.")
    several, losses, shares = len(kept) > 1, list[Line](), list[Line]()
    for at, (run, records) in enumerate(kept.items()):
        for dashed, words in ((True, "training"), (False, "validation")):
            name, label = (f"{run}, {words}", str(at + 1)) if several else (words, "")
            loss = [(each.epoch, each.train_loss if dashed else each.val_loss) for each in records]
            share = [(each.epoch, 100 * (each.train_accuracy if dashed else each.val_accuracy)) for each in records]
            losses.append(Line(name=name, points=loss, colour=at, is_dashed=dashed, label=label))
            shares.append(Line(name=name, points=share, colour=at, is_dashed=dashed, label=label))
    epochs = Axis(name="epoch", is_whole=True)
    charts = (
        line_chart(f"{chart}-loss", "Loss", losses, across=epochs, up=Axis(name="loss (nats)")),
        line_chart(f"{chart}-accuracy", "Accuracy", shares, across=epochs, up=Axis(name="accuracy (%)")),
    )
    return element("div", *charts, class_="charts")


def _scores(judged: Judgement) -> Html:
    table = sortable_table("Scores", ("metric", "value", "95 % interval"), judged.scores, numbers={1})
    return joined(element("p", judged.summary), table, *_note(judged.missing_scores))


def _note(text: str) -> list[Html]:
    """Return a paragraph; empty: there is nothing to say."""
    return [element("p", text)] if text else []


def _confusion(at: int, judged: Judgement) -> Html:
    """Return the matrix if it is readable, and the pairs of classes that are confused."""
    names, support = judged.classes, [row[0] for row in judged.class_rows]
    parts = [element("p", judged.pictures_note)]
    if len(names) <= MOST_OF_MATRIX:
        counts = {(truth, predicted): count for truth, predicted, count in judged.confusion}
        rows = [
            (name, *(_cell(at, judged, row, column, counts.get((row, column), 0)) for column in range(len(names))))
            for row, name in enumerate(names)
        ]
        headings = ("true class", *names)
        caption = "Confusion matrix: rows are true classes, columns are predicted ones"
        matrix = sortable_table(caption, headings, rows, numbers=range(1, len(names) + 1))
        kind = "matrix tall" if max(map(len, names)) > _SHORT else "matrix"
        parts.append(element("div", matrix, class_=kind))
    wrong = sorted((each for each in judged.confusion if each[0] != each[1]), key=lambda each: -each[2])
    pairs = [
        (
            names[truth],
            names[predicted],
            _opener(f"{at}-{truth}-{predicted}", count, f"{names[truth]} predicted as {names[predicted]}"),
            percent(count / support[truth]),
        )
        for truth, predicted, count in wrong[:_MOST_PAIRS]
    ]
    if not pairs:
        return joined(*parts, element("p", "No class is confused with another one."))
    more = len(wrong) - len(pairs)
    caption = "Confused classes" + (f", the {len(pairs):,} most frequent pairs; left out: {more:,}" if more else "")
    headings = ("true class", "predicted as", "images", "share of the class")
    return joined(*parts, sortable_table(caption, headings, pairs, numbers={2, 3}, filtered_by="Only classes with"))


def _cell(at: int, judged: Judgement, truth: int, predicted: int, count: int) -> Html:
    """Return a cell of the matrix, shaded by the share of its row."""
    if not count:
        return element("span", "0", class_="none")
    shade = -(-count * _SHADES // judged.class_rows[truth][0])
    words = f"{judged.classes[truth]} predicted as {judged.classes[predicted]}"
    kind = f"{'right' if truth == predicted else 'wrong'} s{shade}"
    return _opener(f"{at}-{truth}-{predicted}", count, words, kind=kind)


def _opener(cell: str, count: int, words: str, *, kind: str = "") -> Html:
    """Return a button that shows the pictures of a cell, or of all mistakes of a class."""
    label = f"{counted(count, 'image')}: {words}"
    return element(
        "button", f"{count:,}", type="button", class_=f"open {kind}".strip(), data_cell=cell, aria_label=label
    )


def _classes(at: int, judged: Judgement) -> Html:
    rows = []
    for number, (name, row) in enumerate(zip(judged.classes, judged.class_rows, strict=True)):
        images, right, recall, precision, f1, auc = row
        wrong = images - right
        rows.append(
            (
                name,
                f"{images:,}",
                _opener(f"{at}-{number}-{number}", right, f"{name} predicted right") if right else "0",
                _opener(f"{at}-{number}-wrong", wrong, f"mistakes of {name}") if wrong else "0",
                percent_or_none(recall),
                percent_or_none(precision),
                percent_or_none(f1),
                "-" if auc is None else f"{auc:.4f}",
            )
        )
    headings = ("class", "images", "right", "wrong", "accuracy (recall)", "precision", "F1", "ROC-AUC")
    numbers = range(1, len(headings))
    table = sortable_table("Classes", headings, rows, numbers=numbers, filtered_by="Only classes with")
    return joined(table, *_note(judged.missing_of_classes))


def _calibration(name: str, judged: Judgement) -> Html:
    rows = [
        (f"{images:,}", percent(confidence), percent(accuracy), f"{100 * (accuracy - confidence):+.2f}")
        for images, confidence, accuracy in judged.bins
    ]
    headings = ("images", "mean probability", "accuracy", "difference (points)")
    table = sortable_table("Accuracy by probability", headings, rows, numbers=range(4))
    chart = line_chart(
        f"{name}-reliability",
        "Accuracy of images with similar probability",
        [
            Line(name="perfectly calibrated", points=[(0, 0), (100, 100)], colour=COLOURS - 1, is_dashed=True),
            Line(name="this model", points=[(100 * x, 100 * y) for _, x, y in judged.bins], has_dots=True),
        ],
        across=Axis(name="mean probability (%)", ends=(0, 100)),
        up=Axis(name="accuracy (%)", ends=(0, 100)),
        table=table,
    )
    return joined(element("p", judged.calibration), chart)


def _worst(at: int, judged: Judgement) -> Html:
    """Return the mistakes that have maps, the surest first."""
    shown = [(number, each) for number, each in enumerate(judged.pictures) if each.map_address]
    figures = []
    for number, each in sorted(shown, key=lambda pair: -pair[1].confidence):
        kind = "small" if each.is_small else None
        map_words = f"what {judged.classes[each.predicted]} rests on in {each.name}"
        figures.append(
            element(
                "figure",
                element("img", src=each.address, alt=each.name, class_=kind),
                element("img", src=each.map_address, alt=map_words, id=f"map-{at}-{number}"),
                element(
                    "figcaption",
                    element("b", f"true class: {judged.classes[each.truth]}"),
                    Html("<br>"),
                    each.words(judged.classes),
                    Html("<br>"),
                    element("span", each.name, class_="name"),
                ),
            )
        )
    notes = (element("p", judged.worst_note), *_note(judged.map_legend))
    return joined(*notes, element("div", *figures, class_="pictures"))


def compared(runs: Sequence[ReportedRun], tables: Sequence[RunTable]) -> tuple[str, str, Html]:
    """Return the section that compares the runs: their curves, and the tables."""
    curves = {}
    for run in runs:
        for name, records in run.curves.items():
            curves[name if len(run.curves) > 1 else run.name] = records
    parts = [_curves("all", curves)]
    for table in tables:
        parts += [element("p", note) for note in table.notes]
        if table.rows:
            numbers = range(1, len(table.headings)) if table.has_numbers else ()
            parts.append(sortable_table(table.title, table.headings, table.rows, numbers=numbers))
    return _section("comparison", "Comparison", joined(*parts))
