"""Sanity checks of attribution methods: a map must depend on the trained weights and on the target class.

The weights are replaced by random ones, from the head downwards, and the maps are compared with the maps of the
original model (Adebayo et al. 2018, "Sanity checks for saliency maps").
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
from vitcli.core.errors import DataError, UsageError
from vitcli.core.events import Emit, TaskProgress, ignore
from vitcli.explaining.explainer import Explainer
from vitcli.explaining.question import Question
from vitcli.explaining.scores import NOISE, JudgedBatch, check_judgeable
from vitcli.models.vit import VisionTransformer

Verdict = Literal["passes", "ignores the class by construction", "fails"]

COMPLETENESS_STEPS = (8, 16, 32, 64)
UNCHANGED = 0.99
"""The least correlation at which a map counts as unchanged."""
COMPLETE = 0.05
"""The error below which integrated gradients count as complete."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Stage:
    """One stage of the randomisation: all weights from the head down to one part of the model are random."""

    name: str
    """The part: head (with the last norm), layer 3, layer 2 ..., embedding."""
    correlation: float
    """The mean over images of |Spearman's rank correlation| with the map of the original model, 0..1."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Completeness:
    """The completeness of integrated gradients: the error of their sum against the change of the score."""

    steps: int
    """Number of steps of the integral."""
    error: float
    """The mean |sum - change| as a share of the mean |change|; 0 is perfect."""


@dataclass(frozen=True, kw_only=True, slots=True)
class MethodCheck:
    """The check of one method over all images."""

    method: str
    verdict: Verdict
    """The finding: the maps depend on the weights, or they do not."""
    text: str
    """The reason for the verdict, if the correlations alone do not say it; else empty."""
    stages: tuple[Stage, ...]
    """The stages of the randomisation, from the head downwards."""
    chance: float
    """The mean |rank correlation| with noise, which is far from 0 on a coarse grid."""
    other_class: float | None
    """The mean rank correlation, -1..1, with the map of the least likely class; None: there is no such map."""
    completeness: tuple[Completeness, ...] = ()
    """The completeness of integrated gradients, for increasing numbers of steps."""
    even_maps: float = 0.0
    """The share of maps that give all patches the same weight; means leave these maps out, unless all maps are even."""
    enough_steps: int | None = None
    """The smallest number of steps with an error below 5 %; None: even the largest is not enough."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CheckTable:
    """The checks of all methods, in the order of the question."""

    rows: tuple[MethodCheck, ...]
    """The check of each method."""
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
    """Check whether the maps of several methods depend on the model's weights and on the class.

    A method passes if, with all weights random, the correlation of its maps with the maps of the original model is
    closer to chance than to 1. For integrated gradients, the completeness error must also vanish with more steps.
    Methods that read only attention ignore the head, and therefore the class, by construction; they fail only if their
    maps do not depend on the other weights.

    Args:
        model: the model, in evaluation mode; it is not changed, only a copy gets random weights.
        batches: the images, in batches of any size; the result does not depend on the size.
        question: the methods, and exactly one class.
        total: the number of images, for the progress.
        seed: the seed for the random weights.
        emit: receives the progress.

    Raises:
        UsageError, ModelError: the question does not suit the model, does not have exactly one class, or asks for noise alone.
        DataError: there are no images.
    """
    check_judgeable(model, question)
    asked = tuple(name for name in question.methods if name != NOISE)
    if not asked:
        raise UsageError("noise depends on nothing, so there is nothing to check", hint="--method all")
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
    """Initialise random weights for a model of the same shape; torch's global random state does not change."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return VisionTransformer(model.config).state_dict()


def cascade(model: VisionTransformer, fresh: Mapping[str, Tensor]) -> Iterator[VisionTransformer]:
    """Yield a copy of the model after each of the ``_stages``: more and more of its weights are random."""
    copy = deepcopy(model)
    for _, layer in _stages(model):
        copy.load_state_dict({key: fresh[key] for key in fresh if model.layer_of(key) == layer}, strict=False)
        yield copy


def _stages(model: VisionTransformer) -> list[tuple[str, int]]:
    """List the parts of the model to randomise, in order: their names and their numbers in ``layer_of``."""
    depth = model.config.depth
    return [("head", depth + 1), *((f"layer {layer}", layer + 1) for layer in reversed(range(depth))), ("embedding", 0)]


def _compare(
    model: VisionTransformer, fresh: Mapping[str, Tensor], images: Tensor, question: Question, *, first: int
) -> dict[str, Tensor]:
    """Compute the correlations of each image of a batch, (B, ...); ``first`` is the number of its first image."""
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
    del explainer  # frees the attention of the batch
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
    """Compute the sums of integrated gradients for each number of steps, (B, steps), and the score changes, (B,)."""
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
    verdict: Verdict = "passes" if chooses_class else "ignores the class by construction"
    return replace(
        check, verdict=verdict if _needs_weights(check) and _adds_up(check) else "fails", text=_explained(check)
    )


def _needs_weights(check: MethodCheck) -> bool:
    """Tell whether the maps change with the weights: with all random, the correlation is closer to chance than to 1.

    The map of a class must also change when only the head is random.
    """
    sees_head = not METHODS[check.method].chooses_class or check.stages[0].correlation < UNCHANGED
    return check.even_maps < 1 and check.stages[-1].correlation < (1 + check.chance) / 2 and sees_head


def _adds_up(check: MethodCheck) -> bool:
    """Tell whether integrated gradients become complete with more steps, or at least halve their error."""
    if not check.completeness:
        return True
    first, last = check.completeness[0].error, check.completeness[-1].error
    return last < max(COMPLETE, min(first, 1) / 2)


def _explained(check: MethodCheck) -> str:
    if check.even_maps == 1:
        return "all maps are even: they give all patches the same weight"
    parts = [] if _needs_weights(check) else ["the map shows the image, not the model"]
    if check.completeness:
        told = next((each for each in check.completeness if each.steps == check.enough_steps), check.completeness[-1])
        found = "is enough" if check.enough_steps else "is not enough"
        parts.append(
            f"--steps {told.steps} {found}: the map misses {100 * told.error:.1f} % of the change of the score"
        )
    if check.even_maps:
        parts.append(f"{100 * check.even_maps:.0f} % of the maps are even, and left out")
    return "; ".join(parts)
