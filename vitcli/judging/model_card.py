"""A model card for the Hugging Face hub: Markdown, after facts for programs in YAML."""

import json
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from vitcli.core.errors import counted, visible
from vitcli.core.preprocessing import format_size
from vitcli.core.words import percent
from vitcli.data.dataset_entry import DatasetEntry
from vitcli.data.registry import find_dataset
from vitcli.judging.current_evaluation import CurrentEvaluation
from vitcli.judging.intervals import method_of_share
from vitcli.judging.metrics import Metrics
from vitcli.models.registry import changed_sizes, with_sizes
from vitcli.trained.origin import Origin

_MEASURED = {
    "top1": ("accuracy", "accuracy"),
    "balanced_accuracy": ("balanced_accuracy", "balanced accuracy"),
    "macro_f1": ("f1", "macro F1"),
    "loss": ("loss", "loss"),
    "ece": ("ece", "expected calibration error"),
}
"""The numbers in the YAML part: field of ``Metrics`` -> type of the metric on the hub, and its name."""
_WORST = 3
"""The classes with the lowest recall that are named."""
_MOST_CLASSES = 100
"""Number of classes up to which all are listed."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CardFacts:
    """Facts for a card that are not in the evaluation."""

    name: str
    """The name of the run."""
    summary: str
    """The images, and whether they were held out."""
    scores: Sequence[tuple[str, ...]]
    """Metric, value and 95 % interval."""
    calibration: str
    """The calibration errors, in words."""
    training: Mapping[str, str]
    """Facts about the training: model, data, time, machine and others, by name."""
    settings_title: str
    settings: Sequence[tuple[str, ...]]
    """Setting, value, and usual value."""
    others: Sequence[tuple[str, str]]
    """The names of the other evaluations in the folder of the run, and their results in words."""
    origin: Origin
    """The weights that training started from."""
    teacher: str
    """The model that it learned from; empty: none."""
    command: str
    """The command that trained it."""


def model_card(judged: CurrentEvaluation, facts: CardFacts) -> str:
    """Return the text of a model card.

    Args:
        judged: the run with its model and its evaluation.
        facts: what else the card says.
    """
    model, metrics = judged.models[0].checkpoint.model, judged.stored.metrics
    named = with_sizes(model.name, changed_sizes(model.name, asdict(model)))
    what = f"{_code(named)} with {model.num_parameters:,} parameters and {len(metrics.classes):,} classes"
    if len(judged.models) > 1:
        what = f"the mean probabilities of {len(judged.models)} models, each {what}"
    parts = [
        f"# {_plain(facts.name)}",
        f"An image classifier: {what}, trained with vit on {_code(judged.stored.facts['dataset'])}.",
        "## Scores",
        f"Measured on {_plain(facts.summary)}.",
        _table(("metric", "value", "95 % interval"), facts.scores),
        f"{_plain(facts.calibration)} {_intervals(metrics, facts.scores)}",
        "## Use",
        *_use(judged),
        "## Training",
        _table(("what", "value"), [*facts.training.items()]),
        _block(facts.command),
        *([f"{facts.settings_title.capitalize()}:", _table(("setting", "value", "usual"), facts.settings)]
          if facts.settings else []),
        "## Limits",
        "\n".join(f"- {limit}" for limit in _limits(metrics, facts)),
        "## Licence",
        *_licence(judged, facts),
    ]  # fmt: skip
    return _front_matter(judged, facts) + "\n" + "\n\n".join(parts) + "\n"


def _front_matter(judged: CurrentEvaluation, facts: CardFacts) -> str:
    """Return the part for programs, in the form that the hub reads."""
    from huggingface_hub import EvalResult, ModelCardData

    metrics, stored, origin = judged.stored.metrics, judged.stored.facts, facts.origin
    entry = _entry(stored)
    hub = entry.hub if entry else ""
    results = []
    for field, (kind, name) in _MEASURED.items():
        ends = metrics.intervals.get(field)
        more = {"average": "macro"} if kind == "f1" else {}
        results.append(
            EvalResult(
                task_type="image-classification",
                dataset_type=hub or "unknown",  # the hub needs a text here, and takes it for the id of a data set
                dataset_name=visible(stored["dataset"]),
                dataset_split=stored["split"],
                metric_type=kind,
                metric_value=getattr(metrics, field),
                metric_name=name,
                metric_args={**more, **({"interval_95": [*ends]} if ends else {}), "images": metrics.images},
            )
        )
    data = ModelCardData(
        license=(origin.licence.lower() or "unknown") if origin.name else None,
        library_name="vitcli",
        pipeline_tag="image-classification",
        tags=["image-classification", "vision-transformer", "vit"],
        base_model=origin.hub or None,
        datasets=[hub] if hub else None,
        metrics=["accuracy", "f1"],
        model_name=visible(facts.name),
        eval_results=results,
    )
    choose = "" if origin.name else "# license: none is recorded; the data and the teacher may restrict it\n"
    return f"---\n{choose}{data.to_yaml().strip()}\n---\n"


def _use(judged: CurrentEvaluation) -> list[str]:
    """Say how to predict with the model, and what it takes."""
    geometry, count = judged.models[0].checkpoint.preprocessing.geometry, len(judged.models)
    colours = "grey" if geometry.channels == 1 else "colour"
    if count > 1:
        file = judged.run.name
        what = f"{_code(file)} is the folder of the {count} runs, whose probabilities are averaged."
        if judged.stored.facts.get("part") == "out-of-fold":
            what += " The scores above are of the single models, each on images that it was not trained on."
    else:
        file = judged.models[0].path.name
        what = (
            f"{_code(file)} holds the weights, the classes and the preprocessing. Uploaded to the hub as"
            " `model.safetensors`, it is `--model hf:OWNER/NAME`."
        )
    return [
        _block(f"vit predict photo.jpg --model {shlex.quote(file)}"),
        _block(f'import vitcli\n\nprint(vitcli.predict("photo.jpg", model={json.dumps(file)}).rows)', "python"),
        f"{what} Images of any size are taken; they become {colours} images of {format_size(geometry.size)} pixels.",
    ]


def _intervals(metrics: Metrics, scores: Sequence[tuple[str, ...]]) -> str:
    """Say how the intervals of a table of scores were computed."""
    named = {name for name, _, ends in scores if ends != "-"}
    right = sum(count for truth, predicted, count in metrics.confusion if truth == predicted)
    in_top5 = round(metrics.top5 * metrics.images)
    ways = {"loss (nats)": "its standard error"} if "loss (nats)" in named else {}
    for field, name, count in (("top1", "accuracy (top-1)", right), ("top5", "top-5 accuracy", in_top5)):
        formula = method_of_share(metrics.intervals[field], count, metrics.images)
        if formula and name in named:
            ways[name] = formula
    if named - ways.keys():
        ways["all others"] = "a bootstrap of the images within each class"
    return f"Intervals: {'; '.join(f'{name} by {way}' for name, way in ways.items())}."


def _limits(metrics: Metrics, facts: CardFacts) -> list[str]:
    """Say what the scores do not tell."""
    seen = [each for each in metrics.classes if each.images]
    worst = ", ".join(
        f"{_code(each.name)} ({percent(each.recall)} of {counted(each.images, 'image')})"
        for each in sorted(seen, key=lambda each: each.recall)[:_WORST]
    )
    names = [_code(each.name) for each in metrics.classes[:_MOST_CLASSES]]
    more = len(metrics.classes) - len(names)
    fewest = min(seen, key=lambda each: each.images)
    unseen = len(metrics.classes) - len(seen)
    others = "; ".join(f"{_code(name)}, {_plain(result)}" for name, result in facts.others)
    return [
        f"The scores are of {_plain(facts.summary)}. Other cameras, places or times may give lower scores.",
        *([f"Other evaluations in the folder of the run: {others}."] if others else []),
        "It always predicts one of its classes, even if the image shows something else. Classes: "
        + ", ".join(names)
        + (f" and {more:,} more." if more else "."),
        f"Lowest recall: {worst}. Fewest images: {counted(fewest.images, 'image')} of {_code(fewest.name)}"
        + (f"; {counted(unseen, 'class')} without any." if unseen else "."),
        "Not measured for this card: changed or attacked images, and differences between groups of people.",
    ]


def _licence(judged: CurrentEvaluation, facts: CardFacts) -> list[str]:
    """Say what is known about licences of the weights, the teacher and the data."""
    origin, stored = facts.origin, judged.stored.facts
    if not origin.name:
        weights = "Training started from random weights. No licence is recorded."
    elif origin.licence:
        weights = f"Training started from {_code(origin.name)}, which is under {origin.licence}."
    else:
        weights = f"Unknown: check the licence of {_code(origin.name)}, from which training started."
    entry = _entry(stored)
    of_data = f"{entry.licence}, as vit records it" if entry else "no licence is recorded"
    teacher = [f"It learned from the teacher {_code(facts.teacher)}: check its licence too."] if facts.teacher else []
    return [
        weights,
        *teacher,
        f"Licence of the data, {_code(stored['dataset'])}: {of_data}.",
        "The data and the teacher may restrict the licence of this model.",
    ]


def _entry(stored: Mapping[str, Any]) -> DatasetEntry | None:
    """Return the entry of the data set of an evaluation; None: it is a folder, or not known where it is from."""
    return find_dataset(stored.get("data", ""))


# Markdown in which names stay text


def _plain(text: str) -> str:
    return re.sub(r"([\\`*_{}\[\]<>#|~])", r"\\\1", visible(text))


def _code(text: str) -> str:
    """Return a code span, in which a name stays as it is."""
    text = visible(text)
    fence = "`" * (max(map(len, re.findall("`+", text)), default=0) + 1)
    space = " " if text[:1] == "`" or text[-1:] == "`" else ""
    return f"{fence}{space}{text}{space}{fence}"


def _block(text: str, language: str = "bash") -> str:
    fence = "`" * max(3, 1 + max(map(len, re.findall("`+", text)), default=0))
    return f"{fence}{language}\n{text}\n{fence}"


def _table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [headings, ["---"] * len(headings), *([_plain(cell) for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
