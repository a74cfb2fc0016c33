"""The choice of the recipe, and of the number of epochs, where a user gives none."""

import math
from collections.abc import Sequence

from vitcli.core.config import DataConfig
from vitcli.core.config_files import Settings, configure, load_recipe
from vitcli.core.errors import counted
from vitcli.core.events import Emit, Note
from vitcli.core.optim_config import FEW_IMAGES_EPOCHS
from vitcli.core.preprocessing import format_size
from vitcli.data.dataset import Dataset
from vitcli.data.splits import plan_splits
from vitcli.models.registry import MODELS, choice_in_words
from vitcli.training.stated_settings import names_a_model

FOR_WEIGHTS = frozenset({"finetune", "lora", "probe"})
"""Recipes for training that starts from weights."""
_ENOUGH_VALIDATING = 100
"""With fewer images, a validation accuracy says little about which epoch is best."""
_SMALL_PHOTO = 128
"""Photos whose median short side has fewer pixels gain nothing from a model that sees 224."""


def choose_recipe(
    layers: Sequence[Settings],
    dataset: Dataset,
    *,
    starts: bool,
    of_weights: str | None = None,
    device: str,
    emit: Emit,
) -> tuple[str, list[Settings]]:
    """Choose the recipe: the given one, else one for fine-tuning, else one that suits the images and the device.

    Weights that were pretrained without labels know no classes yet: their own recipe trains them, not one for fine-tuning.

    Args:
        layers: the given settings.
        dataset: the data set.
        starts: whether training starts from weights.
        of_weights: the recipe of weights that were pretrained without labels; empty: none of vit's; None: they were not.
        device: the kind of device: cpu, cuda or mps.
        emit: receives a note about the choice.

    Returns:
        The recipe's name, and its layers of settings.
    """
    stated = configure(*layers)
    if name := stated.run.recipe:
        return name, [load_recipe(name)]
    usual, why = usual_recipe(dataset, device=device)
    if of_weights:
        usual, why = of_weights, "with which the weights were pretrained"
    if not starts or (of_weights is not None and not (stated.optim.lora or stated.optim.train_only)):
        base: list[Settings] = [load_recipe(usual)]
        if usual == "small-photos":
            base = fitting_patches(base, layers, emit)
        merged = configure(*base, *layers)
        if merged.run.init_from and not names_a_model(layers):
            model = f"the weights of {merged.run.init_from}"
        else:
            model = choice_in_words(merged.model, dataset.facts.native_size)
        emit(Note(text=f"recipe: {usual}, {why}; {model}"))
        return usual, [*base, *unmirrored(dataset, layers, emit)]
    if usual == "small-photos":  # weights expect images of a size of their own
        usual, why = "photos", "the default for photos"
    is_probe = stated.optim.train_only == "head"
    name = "probe" if is_probe else "lora" if stated.optim.lora else "finetune"
    if is_probe and not stated.augment.feature_views:
        emit(Note(text=f"recipe: {name}; images are not augmented, so that the frozen backbone sees each only once"))
        return name, [load_recipe(name)]
    emit(Note(text=f"recipe: {name}, with the images of {usual}, {why}"))
    images = {key: table for key, table in load_recipe(usual).items() if key in {"about", "data", "augment"}}
    return name, [images, *unmirrored(dataset, layers, emit), load_recipe(name)]


def unmirrored(dataset: Dataset, layers: Sequence[Settings], emit: Emit) -> list[Settings]:
    """Return settings with which grey images are not mirrored; empty: a probability is given, or the data have a recipe.

    A mirrored letter is another one, or none (``benchmarks/results/grey-digits.json`` and ``grey-digits-mirrored.json``).
    """
    if dataset.recipe or dataset.facts.channels == 3 or any("flip" in layer.get("augment", {}) for layer in layers):
        return []
    emit(
        Note(text="images are not mirrored: all are grey, so they may be letters (--set augment.flip=0.5 mirrors them)")
    )
    return [{"about": {"source": "chosen"}, "augment": {"flip": 0.0}}]


def usual_recipe(dataset: Dataset, *, device: str) -> tuple[str, str]:
    """Return the recipe for training from scratch on a data set, and the reason for it.

    Args:
        dataset: the data set.
        device: the kind of device: cpu, cuda or mps.
    """
    if dataset.recipe:
        return dataset.recipe, f"the default for {dataset.facts.name}"
    facts = dataset.facts
    if facts.native_size:
        height, width = facts.native_size
        return "small-images", f"because all images have {height} x {width} pixels"
    if facts.short_side < _SMALL_PHOTO:
        return "small-photos", f"because the photos are small (short side: {facts.short_side} pixels, median)"
    if device == "cpu":
        return "small-photos", "because training runs on a CPU; on a GPU it would be photos, which sees 224x224 pixels"
    return "photos", "because training runs on a GPU"


def with_enough_epochs(
    base: Sequence[Settings], layers: Sequence[Settings], dataset: Dataset, emit: Emit
) -> list[Settings]:
    """Increase the recipe's epochs so that a training with few images sees ``optim.min_images``; given epochs stay.

    Returns:
        The layers below the given ones.
    """
    config = configure(*base, *layers)
    if not config.optim.min_images:
        return [*base]
    images = len(plan_splits(dataset, config.data, seed=config.run.seed)["train"].indices(dataset))
    if any("epochs" in layer.get("optim", {}) for layer in layers):
        recipe = configure(*base).optim
        if recipe.min_images and config.optim.epochs < (usual := recipe.epochs_for(images)):
            emit(Note(text=f"epochs: {config.optim.epochs}; the recipe takes {usual} for {counted(images, 'image')}"))
        return [*base]
    epochs = config.optim.epochs_for(images)
    if epochs == config.optim.epochs:
        return [*base]
    seen = f"so that training sees {config.optim.min_images:,} images"
    why = seen if epochs < FEW_IMAGES_EPOCHS else "because there are few images"
    emit(Note(text=f"epochs: {epochs}, not {config.optim.epochs}, {why} (--epochs changes this)"))
    return [*base, {"about": {"source": "chosen"}, "optim": {"epochs": epochs}}]


def with_enough_validation(
    base: Sequence[Settings], layers: Sequence[Settings], dataset: Dataset, emit: Emit
) -> list[Settings]:
    """Hold out the usual share of a small data set, if the recipe's own share has too few images; a given share stays.

    Returns:
        The layers below the given ones.
    """
    data, usual = configure(*base, *layers).data, DataConfig().val_fraction
    counts, share = dataset.facts.counts, data.val_fraction
    images = counts["train"] * (1 - (data.test_fraction if set(counts) == {"train"} else 0))
    is_given = any("val_fraction" in layer.get("data", {}) for layer in layers)
    is_used = not (data.folds or data.val_split == "test" or "val" in counts)
    if is_given or not is_used or share >= usual or share * images >= _ENOUGH_VALIDATING:
        return [*base]
    why = f"because {100 * share:g} % would be few images (--val-fraction changes this)"
    emit(Note(text=f"validation: {100 * usual:g} % of the training images, not {100 * share:g} %, {why}"))
    return [*base, {"about": {"source": "chosen"}, "data": {"val_fraction": usual}}]


def fitting_patches(base: Sequence[Settings], layers: Sequence[Settings], emit: Emit) -> list[Settings]:
    """Change the recipe's size of patches if it does not divide a given image size, so that about 8 x 8 patches remain.

    Nothing changes if an architecture or the size of patches is given too.

    Returns:
        The layers below the given ones.
    """
    given = configure(*layers).model
    size, named = given.changes.get("image_size"), names_a_model(layers)
    model = configure(*base).model
    patch = MODELS[model.name]["patch_size"]
    if not size or named or "patch_size" in given.changes or not (size[0] % patch[0] or size[1] % patch[1]):
        return [*base]
    shared = math.gcd(*size)
    sides = [side for side in range(1, shared + 1) if shared % side == 0]
    side = min(sides, key=lambda side: (abs(math.log(8 * side / min(size))), side))
    emit(Note(text=f"patches: {side} pixels, because {patch[0]} does not divide --image-size {format_size(size)}"))
    changes = {"patch_size": (side, side), "patch_init_std": (3 * side**2) ** -0.5}
    return [*base, {"about": {"source": "chosen"}, "model": changes}]
