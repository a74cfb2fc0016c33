"""Sanity of attribution methods: a map must depend on what the model has learnt, and on the class that is asked for.

Weights are replaced by fresh ones from the head downwards, and maps are compared with those of the untouched model
(Adebayo et al. 2018, "Sanity checks for saliency maps").
"""

from collections.abc import Iterable, Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from vitcli.attention.registry import METHODS
from vitcli.attention.sanity import completeness_error, rank_correlation
from vitcli.attention.targets import ClassChoice, class_scores
from vitcli.core.errors import DataError
from vitcli.core.events import Emit, TaskProgress, ignore
from vitcli.explaining.explainer import Explainer
from vitcli.explaining.question import Question
from vitcli.explaining.scores import NOISE, JudgedBatch, check_judgeable
from vitcli.models.vit import VisionTransformer

Verdict = Literal["passes", "ignores the class by construction", "fails"]

COMPLETENESS_STEPS = (8, 16, 32, 64)
UNCHANGED = 0.99
"""The correlation from which on a map counts as the same."""
COMPLETE = 0.05
"""The error below which integrated gradients count as complete."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Stage:
    """The weights from the head down to here are fresh ones."""

    name: str
    """head (with the last norm), layer 3, layer 2 ..., embedding."""
    correlation: float
    """The mean over images of |Spearman's rank correlation| with the map of the untouched model, 0..1."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Completeness:
    """The test whether integrated gradients add up to the change of the score."""

    steps: int
    error: float
    """Of ``sanity.completeness_error``: 0 is perfect."""


@dataclass(frozen=True, kw_only=True, slots=True)
class MethodCheck:
    """One method over all images."""

    method: str
    verdict: Verdict
    text: str
    """Why, in a sentence."""
    stages: tuple[Stage, ...]
    chance: float
    """What the correlation with noise is, which on a coarse grid is far from 0."""
    other_class: float | None
    """The mean rank correlation, -1..1, with the map of another class, the least likely one; None: there is none."""
    completeness: tuple[Completeness, ...] = ()
    """Of integrated gradients, by growing steps."""
    even_maps: float = 0.0
    """The share of images whose map gives all patches the same weight; they are left out of all means, unless all are so."""
    enough_steps: int | None = None
    """The fewest of these steps with an error below 5 %."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CheckTable:
    """All methods, in the order they were asked for."""

    rows: tuple[MethodCheck, ...]
    images: int


def check_methods(
    model: VisionTransformer,
    batches: Iterable[JudgedBatch],
    question: Question,
    *,
    total: int,
    seed: int = 0,
    emit: Emit = ignore,
) -> CheckTable:
    """Check the maps of several methods.

    A method passes when, once all weights are fresh ones, the correlation of its maps with those of the untouched
    model is nearer to chance than to 1; what integrated gradients miss of the score's change must vanish with more
    steps, too. Methods that read attention alone ignore the head, and so the class, by construction: they are not
    failed for it.

    Args:
        model: in evaluation mode; it is left untouched, a copy loses its weights.
        batches: of any size; the result does not depend on it.
        question: the methods, and the class to ask about, one.
        total: how many images there are, for the progress.
        seed: of the fresh weights.
        emit: told about the progress.

    Raises:
        UsageError, ModelError: the question or the model knows no class.
        DataError: there are no images.
    """
    check_judgeable(model, question)
    asked = tuple(name for name in question.methods if name != NOISE)
    question = replace(question, methods=(*asked, NOISE)).checked(model)
    fresh = fresh_weights(model, seed=seed)
    task, done, found = "checking attention maps", 0, list[dict[str, Tensor]]()
    emit(TaskProgress(task=task, done=0, total=total))
    for batch in batches:
        found.append(_compare(model, fresh, batch.images, question, first=done))
        done += len(batch.images)
        emit(TaskProgress(task=task, done=done, total=total))
    if not found:
        raise DataError("there are no images to check the maps with")
    seen = {name: torch.cat([each[name] for each in found]) for name in found[0]}
    stages = [name for name, _ in _stages(model)]
    return CheckTable(rows=tuple(_judged(method, row, stages, seen) for row, method in enumerate(asked)), images=done)


def fresh_weights(model: VisionTransformer, *, seed: int) -> dict[str, Tensor]:
    """The weights that a model of the same shape starts its training with; torch's own random numbers continue as before."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return VisionTransformer(model.config).state_dict()


def cascade(model: VisionTransformer, fresh: Mapping[str, Tensor]) -> Iterator[VisionTransformer]:
    """One copy of a model, after each of the ``_stages``: more and more of its weights are fresh ones."""
    copy = deepcopy(model)
    for _, layer in _stages(model):
        copy.load_state_dict({key: fresh[key] for key in fresh if model.layer_of(key) == layer}, strict=False)
        yield copy


def _stages(model: VisionTransformer) -> list[tuple[str, int]]:
    """List the parts to randomise one after the other, by name and by ``layer_of``."""
    depth = model.config.depth
    return [("head", depth + 1), *((f"layer {layer}", layer + 1) for layer in reversed(range(depth))), ("embedding", 0)]


def _compare(
    model: VisionTransformer, fresh: Mapping[str, Tensor], images: Tensor, question: Question, *, first: int
) -> dict[str, Tensor]:
    """Numbers of each image of a batch, (B, ...); ``first`` is the number of the first."""
    methods, seeds = question.methods[:-1], range(first, first + len(images))
    least = ClassChoice(rank=model.config.num_classes - 1)
    explainer = Explainer(
        model, images, replace(question, choices=(*question.choices, least, ClassChoice())), seeds=seeds
    )
    target, other, best = explainer.targets.unbind(dim=1)
    explainer.targets = torch.stack([target, torch.where(other == target, best, other)], dim=1)
    maps = {method: explainer.map(method)[0].cpu() for method in question.methods}
    others = [
        rank_correlation(maps[method], explainer.map(method, explainer.slots(method)[-1])[0].cpu())
        for method in methods
    ]
    chance = [rank_correlation(maps[method], maps[NOISE]).abs() for method in methods]
    del explainer  # and what it holds of the batch's attention
    correlations = []
    for copy in cascade(model, fresh):
        explainer = Explainer(copy, images, replace(question, methods=methods), seeds=seeds)
        explainer.targets = target[:, None]  # the class stays the same, whatever the copy predicts
        after = {method: explainer.map(method)[0].cpu() for method in methods}
        correlations.append(torch.stack([rank_correlation(maps[name], after[name]).abs() for name in methods], dim=1))
    found = {
        "correlations": torch.stack(correlations, dim=2),  # (B, methods, stages)
        "chance": torch.stack(chance, dim=1),  # (B, methods)
        "even": torch.stack([maps[name].amax(dim=(1, 2)) == maps[name].amin(dim=(1, 2)) for name in methods], dim=1),
    }
    if model.config.num_classes > 1:
        found["other_class"] = torch.stack(others, dim=1)
    return {**found, **_sums(model, images, question, target)} if "ig" in methods else found


def _sums(model: VisionTransformer, images: Tensor, question: Question, target: Tensor) -> dict[str, Tensor]:
    """Sum integrated gradients for each number of steps, (B, steps), beside what they should add up to, (B,)."""
    with torch.inference_mode(), torch.autocast(images.device.type, enabled=False):
        here, there = (
            class_scores(model(each), target, question.score).cpu() for each in (images, torch.zeros_like(images))
        )
    sums = []
    for steps in COMPLETENESS_STEPS:
        explainer = Explainer(model, images, replace(question, methods=("ig",), steps=steps))
        sums.append(explainer.map("ig")[0].cpu().sum(dim=(1, 2)))
    return {"sums": torch.stack(sums, dim=1), "changes": here - there}


def _judged(method: str, row: int, stages: list[str], seen: Mapping[str, Tensor]) -> MethodCheck:
    even = seen["even"][:, row]
    uneven = even.all() | ~even  # an even map has no order that could change
    means: list[float] = seen["correlations"][uneven, row].mean(dim=0).tolist()
    chooses_class = METHODS[method].chooses_class
    completeness: tuple[Completeness, ...] = ()
    if method == "ig":
        errors = [completeness_error(sums, seen["changes"]) for sums in seen["sums"].unbind(dim=1)]
        completeness = tuple(
            Completeness(steps=steps, error=error) for steps, error in zip(COMPLETENESS_STEPS, errors, strict=True)
        )
    check = MethodCheck(
        method=method,
        verdict="passes",
        text="",
        stages=tuple(Stage(name=name, correlation=mean) for name, mean in zip(stages, means, strict=True)),
        chance=float(seen["chance"][uneven, row].mean()),
        other_class=float(seen["other_class"][uneven, row].mean()) if chooses_class and "other_class" in seen else None,
        even_maps=float(even.float().mean()),
        completeness=completeness,
        enough_steps=next((each.steps for each in completeness if each.error < COMPLETE), None),
    )
    verdict: Verdict = "passes" if _needs_weights(check) and _adds_up(check) else "fails"
    return replace(
        check, verdict=verdict if chooses_class else "ignores the class by construction", text=_explained(check)
    )


def _needs_weights(check: MethodCheck) -> bool:
    """Tell whether the maps change with the weights: what is left is nearer to chance than to all.

    A map of a class must change with the head's alone, too.
    """
    sees_head = not METHODS[check.method].chooses_class or check.stages[0].correlation < UNCHANGED
    return check.even_maps < 1 and check.stages[-1].correlation < (1 + check.chance) / 2 and sees_head


def _adds_up(check: MethodCheck) -> bool:
    """Tell whether integrated gradients become complete, or approach it: what is missing has halved, at least."""
    if not check.completeness:
        return True
    first, last = check.completeness[0].error, check.completeness[-1].error
    return last < max(COMPLETE, min(first, 1) / 2)


def _explained(check: MethodCheck) -> str:
    if check.even_maps == 1:
        return "all maps are even: they tell no patch from another"
    left = check.stages[-1].correlation
    parts = [f"with all weights random, the order of patches correlates by {left:.2f} (chance: {check.chance:.2f})"]
    if not _needs_weights(check):
        parts[0] += ": the map shows the image, not the model"
    if not METHODS[check.method].chooses_class:
        parts.append("the head is not looked at, so the map is the same for every class")
    elif check.other_class is not None:
        parts.append(f"the map of the least likely class correlates by {check.other_class:.2f}")
    if check.completeness:
        told = next((each for each in check.completeness if each.steps == check.enough_steps), check.completeness[-1])
        even_so = "" if check.enough_steps else "even "
        parts.append(f"{even_so}{told.steps} steps miss {told.error:.1%} of the change of the score")
    if check.even_maps:
        parts.append(f"{check.even_maps:.0%} of the maps are even, and left out")
    return "; ".join(parts)
