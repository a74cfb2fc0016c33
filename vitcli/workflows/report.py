"""A report about runs: one web page that needs no network, or a model card."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vitcli.attention.registry import DEFAULT_METHOD, METHODS
from vitcli.core.errors import DeviceError, RunError, UsageError, check_at_least, visible
from vitcli.core.events import Emit, EpochRecord, Note, TaskProgress, Warned, ignore
from vitcli.core.files import write_text
from vitcli.core.notebooks import html_table
from vitcli.core.run_search import members_with, output_dir_option, runs_called
from vitcli.core.version import __version__
from vitcli.core.words import percent, percent_or_none, written
from vitcli.data.raw import SplitName
from vitcli.explaining.overlays import draw_overlays
from vitcli.figures.report_page import MOST_BYTES, report_page
from vitcli.figures.report_sections import ReportedRun, RunTable
from vitcli.judging.compared_runs import compared_runs
from vitcli.judging.current_evaluation import CurrentEvaluation, current_evaluation
from vitcli.judging.evaluated_runs import EvaluatedRun, models_of, report_file
from vitcli.judging.intervals import Interval
from vitcli.judging.judgement import Maps, answered_images, judgement_of, with_pictures
from vitcli.judging.model_card import CardFacts, model_card
from vitcli.judging.out_of_fold import predictors
from vitcli.trained.chosen import compared_with_best, kind_of_choice
from vitcli.trained.judged_images import AskedSplit
from vitcli.trained.model_names import chosen_run
from vitcli.trained.origin import origin_of
from vitcli.training.run_report import RunReport, different_settings, report_of

_NOT_ON_CARD = ("run", "folder", "tags")
"""Facts about the folder of a run, which mean nothing elsewhere."""

_WORST = 24
"""Mistakes with attention maps, unless another number is asked for."""
MOST_WORST = 1_000
"""The largest number of maps: about as many small ones as a page has room for."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ReportedEvaluation:
    """The evaluation of one run in a report."""

    run: str
    """The name of the run or the group."""
    dataset: str
    split: SplitName
    part: str
    """The images in a word: the split, or ``out-of-fold``, if each fold of a cross-validation predicts those that it was
    not trained on."""
    images: int
    models: int
    """The number of models whose probabilities are averaged; 1: a single model predicts each image."""
    top1: float
    top1_interval: Interval
    """Its 95 % interval."""
    is_new: bool
    """True if it was evaluated for this report; False: the stored evaluation was current."""
    pictures: int
    """Number of images with a picture on the page."""
    mistakes: int
    """Number of images that are answered wrongly."""
    maps: int
    """Number of mistakes with an attention map on the page."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Report:
    """A report, and the evaluations that it shows."""

    file: Path
    """The web page, or the model card."""
    size: int
    """Its size in bytes."""
    evaluations: tuple[ReportedEvaluation, ...]
    """The evaluation of each run."""
    not_compared: tuple[str, ...]
    """Reasons why runs are not compared with the first one, if there are several; empty: they are."""

    def __repr__(self) -> str:
        return visible(f"<Report {self.file}: {', '.join(each.run for each in self.evaluations)}>")

    def _repr_html_(self) -> str:
        rows = [(each.run, percent(each.top1), f"{each.images:,} of {each.dataset}") for each in self.evaluations]
        return html_table([*rows, ("file", str(self.file), "")], headings=("run", "accuracy", "images"))


def report(
    *runs: str,
    split: AskedSplit = "auto",
    output: Path | None = None,
    card: bool = False,
    worst: int = _WORST,
    output_dir: Path = Path("experiments"),
    directory: str = "",
    device: str = "auto",
    batch_size: int = 256,
    offline: bool = False,
    emit: Emit = ignore,
) -> Report:
    """Write a web page about runs, or a model card of one run or group; a run without a current evaluation is evaluated first.

    Args:
        runs: runs or groups in ``output_dir``, or their paths, or ``best``; none: the newest finished run.
        split: the split to report on; auto: the test split, else the validation split.
        output: the file; None: ``report.html`` or ``README.md`` in the run, for several runs in
            ``comparisons/A-vs-B``.
        card: write a model card for the Hugging Face hub instead of the page.
        worst: mistakes that are shown with attention maps, at most; 0 to ``MOST_WORST``.
        output_dir: the folder of all runs.
        directory: the folder of data sets; empty: as in training.
        device: auto, cpu, cuda, cuda:N or mps.
        batch_size: images per batch.
        offline: download nothing.
        emit: receives the progress.

    Raises:
        UsageError: a card is asked for of several runs.
        RunError, ModelError, DataError, DeviceError: a run, its data or the device cannot be used.
    """
    check_at_least("batch_size", batch_size, 1)
    if not 0 <= worst <= MOST_WORST:
        raise UsageError(f"worst = {worst} is not in 0..{MOST_WORST}", hint="leave it out to take the usual one")
    if card and len({*runs}) > 1:
        raise UsageError("a model card describes one run or group", hint=f"vit report {shlex.quote(runs[0])} --card")
    found = _found(runs or ("",), output_dir, emit)
    called = [each.name for each in found]
    if len(set(called)) < len(called):
        raise RunError(f"two of the runs have the same name: {', '.join(called)}", hint="vit runs rename OLD NEW")
    path = report_file(found, output, output_dir, card=card)
    judged, drawn = list[CurrentEvaluation](), list[Maps]()
    for run in found:
        current = current_evaluation(
            run,
            split,
            output_dir=output_dir,
            directory=directory,
            device=device,
            batch_size=batch_size,
            offline=offline,
            emit=emit,
        )
        drawn.append({} if card else _maps(current, worst, emit))
        judged.append(current if card else replace(current, models=[]))  # the device keeps the models of one run only
        del current
    facts = [
        report_of(each.run.folder, each.run.runs, name=each.run.asked, output_dir=output_dir, emit=emit)
        for each in judged
    ]
    shown, not_compared = [_shown(*each) for each in zip(judged, facts, strict=True)], list[str]()
    if card:
        text = model_card(judged[0], _card_facts(shown[0], facts[0], judged[0], output_dir))
    else:
        options = (
            ("--split", split, "auto"),
            ("--output", output, None),
            ("--output-dir", output_dir, Path("experiments")),
            ("--data-dir", directory, ""),
            ("--device", device, "auto"),
            ("--batch-size", batch_size, 256),
        )
        given = [word for option, value, usual in options if value != usual for word in (option, str(value))]
        again = shlex.join(["vit", "report", *(each.asked for each in found), *given, *["--offline"] * offline])
        most = min(max(_mistakes(each) for each in shown), MOST_WORST)
        more_maps = f"{again} --worst {most}" if worst < most else ""
        shown = _with_pictures(shown, judged, drawn, more_maps)
        different = different_settings([each.run.runs[0] for each in judged])
        settings = [(each.setting, *map(written, each.values)) for each in different]
        tables, not_compared = compared_runs(judged, settings, emit)
        text = _page(shown, tables, again if worst == _WORST else f"{again} --worst {worst}")
    is_there = path.exists()
    write_text(path, text)
    if output and is_there:
        emit(Note(text=f"replaced {output}"))
    return Report(
        file=path,
        size=path.stat().st_size,
        evaluations=tuple(
            ReportedEvaluation(
                run=each.run.name,
                dataset=each.stored.facts["dataset"],
                split=each.stored.facts["split"],
                part=each.stored.facts.get("part", each.stored.facts["split"]),
                images=each.stored.metrics.images,
                models=len(models_of(each.stored.facts)),
                top1=each.stored.metrics.top1,
                top1_interval=each.stored.metrics.intervals["top1"],
                is_new=each.is_new,
                pictures=len(run.judgement.pictures),
                mistakes=_mistakes(run),
                maps=sum(bool(picture.map_address) for picture in run.judgement.pictures),
            )
            for each, run in zip(judged, shown, strict=True)
        ),
        not_compared=tuple(not_compared),
    )


def _found(names: Sequence[str], output_dir: Path, emit: Emit) -> list[EvaluatedRun]:
    """Find the runs, each once; say which one is meant if that is not its name."""
    found, where = dict[Path, EvaluatedRun](), output_dir_option(output_dir)
    for name in names:
        asked = name
        if chosen := chosen_run(name, output_dir, emit):
            folder = chosen.path.parent if members_with(chosen) else chosen.path
            asked = folder.name
            compared = compared_with_best(chosen, name, output_dir, f"`vit report {{}}{where}` reports on it")
            emit(Note(text=f"report: the {kind_of_choice(chosen, name)}, {asked}{compared}"))
        folder, runs = runs_called(asked, output_dir)
        found.setdefault(folder.resolve(), EvaluatedRun(asked=asked, folder=folder, runs=runs, where=where))
    return list(found.values())


def _shown(judged: CurrentEvaluation, report: RunReport) -> ReportedRun:
    """Collect what the page says about a run, without pictures."""
    facts = report.in_words()
    commands = {
        "the command as it was typed": facts.pop("command"),
        "train again with the same settings": facts.pop("repeat"),
        "evaluate again": judged.run.command(judged.stored.places.stem),
    }
    usual = "the recipe" if report.usual != "defaults" else "the defaults"
    return ReportedRun(
        name=judged.run.name,
        facts=facts,
        settings_title=f"settings that differ from {usual}",
        settings=[(each.setting, written(each.value), written(each.usual)) for each in report.settings],
        commands={what: command for what, command in commands.items() if command},
        members=[
            (row.name, row.status, f"{row.epochs:,}", row.accuracy_in_words, percent_or_none(row.test_accuracy))
            for row in report.runs
        ],
        curves={
            run.name: [EpochRecord(**record) for record in run.metrics.get("epochs", ())] for run in judged.run.runs
        },
        judgement=judgement_of(judged.stored, keeps_best=judged.run.keeps_best),
    )


def _card_facts(shown: ReportedRun, report: RunReport, judged: CurrentEvaluation, output_dir: Path) -> CardFacts:
    """Collect what a card says about a run besides its evaluation."""
    hidden = (*_NOT_ON_CARD, *(["status"] if report.row.status == "finished" else []))
    return CardFacts(
        name=shown.name,
        summary=shown.judgement.summary,
        scores=shown.judgement.scores,
        calibration=shown.judgement.calibration,
        training={name: value for name, value in shown.facts.items() if name not in hidden},
        settings_title=shown.settings_title,
        settings=shown.settings,
        others=[
            (each.name, f"{percent(each.top1)} accuracy{', outdated' * each.is_outdated}")
            for each in report.evaluations
            if each.name != judged.stored.places.stem
        ],
        origin=origin_of(judged.run.runs[0], output_dir),
        teacher=report.teacher,
        command=report.command,
    )


def _mistakes(run: ReportedRun) -> int:
    """Return the number of images that are answered wrongly."""
    return sum(count for truth, predicted, count in run.judgement.confusion if truth != predicted)


def _with_pictures(
    shown: Sequence[ReportedRun], judged: Sequence[CurrentEvaluation], drawn: Sequence[Maps], more_maps: str
) -> list[ReportedRun]:
    """Add pictures and maps to the runs, as far as the page has room; ``more_maps`` is the command that draws more."""
    room = (MOST_BYTES - len(_page(shown, [], "").encode())) // len(shown)
    done = []
    for run, each, maps in zip(shown, judged, drawn, strict=True):
        names = models_of(each.stored.facts)
        where = f", in {names[0]}, the first of the models" if len(names) > 1 else ""
        if each.stored.facts.get("part") == "out-of-fold":
            where = ", in the fold that predicted the image"
        legend = (
            "In a map, the bright yellow patches count most for the predicted class, and the dark purple ones least."
            f" Method: {DEFAULT_METHOD}, {METHODS[DEFAULT_METHOD].summary}{where}."
        )
        images = answered_images(each.stored, each.chosen)
        judgement = with_pictures(
            run.judgement, images, each.chosen, maps, room=room, map_legend=legend, more_maps=more_maps
        )
        done.append(replace(run, judgement=judgement))
    return done


def _maps(judged: CurrentEvaluation, worst: int, emit: Emit) -> Maps:
    """Draw the surest mistakes with attention maps."""
    chosen = judged.chosen
    images = answered_images(judged.stored, chosen)
    numbers = images.worst(worst)
    if not chosen or images.members is None or not numbers:
        return {}
    members, drawn = images.members[numbers], dict[int, NDArray[np.uint8]]()
    emit(TaskProgress(task="drawing attention maps", done=0, total=len(numbers)))
    try:
        for model, rows in predictors(judged.models, chosen, members):
            geometry = model.checkpoint.preprocessing.geometry
            pixels = chosen.dataset.split(chosen.subset.found, geometry, members=members[rows]).pixels()
            answers = [judged.stored.metrics.classes[images.predicted[numbers[row]]].name for row in rows]
            overlays = draw_overlays(model, [*pixels], DEFAULT_METHOD, classes=answers)
            drawn |= zip((numbers[row] for row in rows), overlays, strict=True)
    except DeviceError as error:
        emit(Warned(text=f"the maps are not drawn: {error.message}"))
    emit(TaskProgress(task="drawing attention maps", done=len(numbers), total=len(numbers)))
    return {number: drawn[number] for number in numbers if number in drawn}


def _page(shown: Sequence[ReportedRun], tables: Sequence[RunTable], again: str) -> str:
    """Return the text of the page; ``again`` is the command that writes it."""
    names = [each.name for each in shown]
    notes = [f"{each.name}: {each.judgement.scores[0][1]} accuracy on {each.judgement.summary}." for each in shown]
    return report_page(
        shown,
        title=f"Report of {', '.join(names)}",
        notes=[*notes, f"Written by vit {__version__}: `{again}` writes it again."],
        comparison=tables,
    )
