"""Warnings about settings and images before training begins; ``engine.doctor`` watches the training itself."""

import shlex
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from torch import Tensor

from vitcli.core.config import DataConfig, TrainConfig
from vitcli.core.errors import counted, some
from vitcli.core.files import expanded
from vitcli.core.model_config import ModelConfig
from vitcli.core.optim_config import USUAL_LR
from vitcli.core.preprocessing import Preprocessing
from vitcli.core.provenance import typed_again
from vitcli.data.cache import channel_statistics
from vitcli.data.dataset import Dataset
from vitcli.data.findings import balance, look_for_duplicates, rare_classes
from vitcli.data.raw import Labels
from vitcli.data.splits import Plan
from vitcli.data.store import preview_of
from vitcli.training.images import TrainingData
from vitcli.training.pretraining_saving import recipe_of_pretrained
from vitcli.training.recipe import FOR_WEIGHTS

_GENTLE = 0.5
"""The highest learning rate for fine-tuning that causes no warning, as a share of the optimizer's usual rate."""
_FEW_PATCHES = 4
"""With fewer patches on a side of the image, one patch may contain a whole object."""
_MANY_PATCHES = 64**2
"""With more patches, attention takes most of the time, which grows with the square of their number."""
_SHIFTED = 0.5
"""The largest difference between the means of training and validation images that causes no warning, in standard
deviations."""
_ENOUGH_IMAGES, _SAMPLE = 20, 500
_FEW_VALIDATING = 20
"""With fewer validation images, and many more for training, one is told that more can be held out."""
_FEW_PHOTOS = 1000
"""With fewer photos, pretrained weights score higher than training from random weights."""
_OF_THE_START = (
    "--model",
    "-m",
    "--image-size",
    "--img-size",
    "--recipe",
    "-r",
    "--train-only",
    "--lora",
    "--name",
    "-n",
)
_NO_MORE = ("--pretrained", "--overwrite", "--dry-run", "--find-lr", "--json")
"""Options, with and without a value, that do not suit the head of pretrained weights, or a run of another name."""


def advice_on_settings(
    config: TrainConfig, model: ModelConfig, *, source: Preprocessing | None = None, data: TrainingData | None = None
) -> Iterator[str]:
    """Yield a warning for each setting that is probably a mistake.

    Args:
        config: the complete configuration.
        model: the architecture.
        source: the preprocessing of the weights that training starts from; None: it starts from random weights.
        data: the images, if they are already prepared.
    """
    optim = config.optim
    usual = USUAL_LR[optim.optimizer]
    is_whole = not (optim.lora or optim.train_only == "head")
    if source and is_whole and optim.peak_lr > _GENTLE * usual and not _has_recipe_of_weights(config):
        yield (
            f"learning rate {optim.peak_lr:g} ({optim.optimizer}) suits training from scratch, and may destroy the"
            f" pretrained weights: try --lr {usual / 10:g}, or --recipe finetune"
        )
    rows, columns = model.grid
    if min(rows, columns) < _FEW_PATCHES:
        height, width = model.patch_size
        smaller = [side for side in range(2, min(height, width)) if not (height % side or width % side)]
        remedy = f"--set model.patch_size={smaller[-1]}, or " if smaller else ""
        yield (
            f"the model sees {rows} x {columns} patches of {height} x {width} pixels, so one patch may contain a whole"
            f" object: try {remedy}a larger --image-size"
        )
    if rows * columns > _MANY_PATCHES:
        height, width = model.image_size
        sides = (side for side in range(2, min(height, width)) if not (height % side or width % side))
        larger = next((side for side in sides if height * width // side**2 <= _MANY_PATCHES), None)
        remedy = f"--set model.patch_size={larger}, or " if larger else ""
        yield (
            f"the model sees {rows} x {columns} patches, and attention compares each with all others, so that training"
            f" may take very long: try {remedy}a smaller --image-size"
        )
    if data:
        yield from _of_images(data, source, config.data)


def _has_recipe_of_weights(config: TrainConfig) -> bool:
    """Tell whether weights that were pretrained without labels, and know no classes, train as if from random weights."""
    of_weights = recipe_of_pretrained(config.run.init_from, expanded(config.run.output_dir))
    return of_weights is not None and config.run.recipe not in FOR_WEIGHTS


def _of_images(data: TrainingData, source: Preprocessing | None, config: DataConfig) -> Iterator[str]:
    seen = data.preprocessing
    if source and (len(seen.mean), seen.mean, seen.std) != (len(source.mean), source.mean, source.std):
        yield (
            f"images are normalised by mean {_numbers(seen.mean)} and deviation {_numbers(seen.std)}, but the weights"
            f" expect {_numbers(source.mean)} and {_numbers(source.std)}: --set data.normalise=auto uses these values"
        )
    if min(len(data.members), len(data.val_members)) < _ENOUGH_IMAGES or not isinstance(data.train.images, Tensor):
        return
    mean, std = channel_statistics(data.train.images, _some(data.members))
    val_mean, _ = channel_statistics(data.val.images, _some(data.val_members))
    shift = max(np.abs(np.subtract(mean, val_mean)) / std)
    if shift > _SHIFTED:
        yield (
            f"validation images have other colours than training images (mean {_numbers(val_mean)}, not {_numbers(mean)}):"
            f" check that they were made in the same way; `{preview_of(config)}` shows them"
        )


def _some(members: Labels) -> Labels:
    return members[:: -(-len(members) // _SAMPLE)]


def _numbers(values: tuple[float, ...]) -> str:
    return ", ".join(f"{value:.3g}" for value in values)


def why_losses_differ(config: TrainConfig, model: ModelConfig) -> str:
    """Say why the training loss is not comparable with the validation loss, in one line."""
    augment = config.augment
    of_blocks = model.dropout or model.embedding_dropout or model.attention_dropout or model.drop_path
    reasons = {
        "augmented images": not replace(augment, mixup=0.0, cutmix=0.0).changes_nothing,
        "mixed images": augment.mixup or augment.cutmix,
        "smoothed labels": config.optim.label_smoothing,
        "class weights": config.optim.class_weights,
        "dropout": model.head_dropout or (of_blocks and config.optim.train_only != "head"),
        "a teacher": config.teacher.name,
        "smaller images": config.optim.progressive,
        "all classes equally often": config.data.balanced_sampling,
    }
    causes = [cause for cause, is_used in reasons.items() if is_used]
    added, missing = (f", with {', '.join(causes)}", ", without these") if causes else ("", "")
    return f"training: mean over the epoch, while the weights change{added}; validation: after the epoch{missing}"


def advice_on_data(dataset: Dataset, plan: Plan, config: TrainConfig) -> list[str]:
    """List warnings about data: leaks, contradictory labels, skewed or rare classes, few photos."""
    found = look_for_duplicates(dataset, plan)
    warnings = [
        f"{leak.words}, for example {' = '.join(leak.examples[0])}: they make the scores too high"
        for leak in found.leaks
    ]
    if found.contradictory:
        warnings.append(
            f"{counted(len(found.contradictory), 'image appears')} several times, with different labels: {found.contradictory[0]}"
        )
    for split, names in rare_classes(dataset, plan).items():
        warnings.append(f"some classes have too few images to hold any out, so {split} lacks them: {some(names)}")
    classes, is_weighted, is_balanced = (
        balance(dataset, plan),
        config.optim.class_weights,
        config.data.balanced_sampling,
    )
    if is_weighted and is_balanced:
        warnings.append("--class-weights and --balanced-sampling together favour rare classes twice")
    elif classes.is_skewed and not (is_weighted or is_balanced):
        warnings.append(
            f"always answering {classes.majority!r} would score {100 * classes.majority_share:.1f} %;"
            " see --class-weights and --balanced-sampling"
        )
    return [*warnings, *advice_on_few_images(dataset, plan, config)]


def advice_on_few_images(dataset: Dataset, plan: Plan, config: TrainConfig) -> Iterator[str]:
    """Yield a warning if few images validate though more could, or if there are few photos, and weights start at random."""
    training = len(plan["train"].indices(dataset))
    held_out = plan["val"] if "val" in plan and plan["val"].found == "train" and not config.data.folds else None
    validating = len(held_out.indices(dataset)) if held_out else 0
    if 0 < validating < min(_FEW_VALIDATING, training / 5):
        yield (
            f"the validation accuracy says little with only {counted(validating, 'validation image')}:"
            " --val-fraction 0.2 holds out more"
        )
    photos = 0 if dataset.facts.native_size or config.run.init_from else training
    if 0 < photos < _FEW_PHOTOS:
        yield (
            f"training has fewer than {_FEW_PHOTOS:,} photos, so pretrained weights (or those of `vit pretrain`, from more"
            f" photos without labels) usually score higher: {_from_weights()}"
        )


def _from_weights() -> str:
    """Return the typed command, changed to start from weights; in Python, the keywords that do it."""
    more = ("--init-from", "deit-tiny", "--freeze-backbone")
    typed = typed_again(*more, options=_OF_THE_START, flags=_NO_MORE, sections=("model",))
    if " --resume" in typed:  # resuming takes neither
        return f"`vit train DATASET {shlex.join(more)}`"
    return typed or 'init_from="deit-tiny", freeze_backbone=True'
