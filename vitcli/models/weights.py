"""Weights of any plain Vision Transformer, read from a file or folder of another library and converted to our model.

The names of the tensors show the format, and their shapes show the architecture. Other facts (heads, norm epsilon,
colours, class names) come from the configuration beside the weights, from the known name of the file, or from the usual
values of the format; the last are reported as guesses. Code in a file is never run.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import torch
from torch import Tensor

from vitcli.core.errors import ModelError, some
from vitcli.core.model_config import ModelConfig
from vitcli.core.preprocessing import Geometry, Preprocessing, Size
from vitcli.core.stored import checked
from vitcli.models.formats import (
    FORMATS,
    OPENCLIP,
    TIMM,
    TORCHVISION,
    TRANSFORMERS,
    Format,
    recognise,
    to_ours,
    without_prefix,
)
from vitcli.models.hub import INDEX_FILES, WEIGHT_FILES, weights_in
from vitcli.models.pretrained import CLIP, HALF, IMAGENET, PRETRAINED, Traits
from vitcli.models.sidecars import read_traits
from vitcli.models.timm_names import cause_against, check_plain, is_plain, settings_of_name, usual_heads
from vitcli.models.weight_checks import check_weights
from vitcli.models.weight_files import read_tensors

_NUM_IMAGENET = 1000


@dataclass(frozen=True, kw_only=True, slots=True)
class ForeignModel:
    """A model of another library, converted to ours."""

    format: str
    config: ModelConfig
    weights: dict[str, Tensor]
    preprocessing: Preprocessing
    classes: tuple[str, ...]
    left_over: tuple[str, ...]
    """Keys that a plain Vision Transformer has no place for."""
    guesses: tuple[str, ...]
    """Assumptions that were made, in words."""
    notes: tuple[str, ...]
    """Notes about which model in the file is used."""


def read_foreign(path: Path, traits: Traits | None = None, *, name: str = "") -> ForeignModel:
    """Read weights of any known format.

    Args:
        path: a ``.safetensors``, ``.pth``, ``.pt`` or ``.bin`` file, or a folder that timm or transformers wrote.
        traits: known facts about the weights; they override the configuration beside the weights.
        name: the name of the model; empty: the name of its folder or file.

    Raises:
        ModelError: the file does not exist, is damaged, contains code, or is not a plain ViT in a known format.
    """
    path = weights_in(path) if path.is_dir() else path
    notes: list[str] = []
    tensors = read_tensors(path, notes)
    recognised = recognise(tensors)
    if recognised is None:
        raise ModelError(
            f"{path} has no Vision Transformer in a known format (its tensors: {', '.join(list(tensors)[:3])} ...)",
            hint=f"known formats: vit, {', '.join(each.name for each in FORMATS)}",
        )
    form, prefix = recognised
    tensors, others = without_prefix(tensors, prefix)
    if prefix:
        notes.append(f"its model is the one below {prefix.removesuffix('.')!r}")
    given = traits or Traits()
    of_name = given if given.is_listed else given.over(_traits_of_file(path, form))
    known = of_name.over(read_traits(path, form))
    weights, left_over = to_ours(tensors, form.names)
    if form is OPENCLIP:
        weights = _with_usual_shapes(weights)
    check_weights(weights, left_over, path)
    guesses: list[str] = []
    if any("pre_logits" in key for key in left_over) and "head.1.weight" in weights:
        weights = {key: value for key, value in weights.items() if not key.startswith("head.")}
        guesses.append("its head has another layer below it (pre_logits), so it is left out")
    head, width = weights.get("head.1.weight"), weights["patch_embedding.projection.weight"].shape[0]
    if head is not None and head.shape[1] != width:
        weights = {key: value for key, value in weights.items() if not key.startswith("head.")}
        guesses.append(f"its head reads {head.shape[1]} features, not the {width} of one token, so it is left out")
    weights = _with_registers_placed(weights, known.image_size)
    config = _config(weights, tensors, form, known, name or _name(path), guesses)
    return ForeignModel(
        format=form.name,
        config=config,
        weights=weights,
        preprocessing=_preprocessing(config, form, known, guesses),
        classes=_distinct(
            _classes(config.num_classes, known, guesses, is_published=of_name.colours is not None), notes
        ),
        left_over=(*left_over, *others),
        guesses=tuple(guesses),
        notes=tuple(notes),
    )


def imagenet_classes() -> tuple[str, ...]:
    """Return the names of ImageNet's 1,000 classes, in the order of every model's logits."""
    file = resources.files("vitcli.models").joinpath("imagenet-classes.txt")
    return tuple(file.read_text(encoding="utf-8").splitlines())


def _with_usual_shapes(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Give class token and positions their leading axes: (D,) -> (1, 1, D), and (N, D) -> (1, N, D)."""
    axes = {"class_token": 3, "positions": 3}
    return {
        key: tensor.reshape((1,) * max(axes.get(key, 0) - tensor.ndim, 0) + tensor.shape)
        for key, tensor in weights.items()
    }


def _with_registers_placed(weights: Mapping[str, Tensor], known: Size | None) -> dict[str, Tensor]:
    """Add the positions of register tokens to these tokens: in our model they have none of their own."""
    if "registers" not in weights:
        return dict(weights)
    positions, registers = weights["positions"], weights["registers"]
    first = int("class_token" in weights) + int("distillation_token" in weights)
    patch_height, patch_width = weights["patch_embedding.projection.weight"].shape[2:]
    end = first + registers.shape[-2]

    def is_grid(patches: int) -> bool:
        if known:
            return patches == known[0] // patch_height * (known[1] // patch_width)
        return math.isqrt(max(patches, 0)) ** 2 == patches

    rows = positions.shape[-2]
    if any(is_grid(patches) for patches in (rows - first, rows)) or not is_grid(rows - end):
        return dict(weights)
    return {
        **weights,
        "registers": registers.float() + positions[:, first:end].float(),
        "positions": torch.cat([positions[:, :first], positions[:, end:]], dim=1),
    }


def _name(file: Path) -> str:
    return file.parent.name if file.name in {*WEIGHT_FILES, *INDEX_FILES} else file.stem


def _traits_of_file(file: Path, form: Format) -> Traits:
    """Return the traits of a file that is recognised by its name: a published one, or called like a model of timm."""
    published = (entry.traits for entry in PRETRAINED.values() if entry.url.endswith(f"/{file.name}"))
    if found := next(published, None):
        return found
    if form is TIMM and file.name not in WEIGHT_FILES:
        if cause_against(file.stem):
            check_plain(file.stem)
        if is_plain(file.stem):
            return Traits(settings=settings_of_name(file.stem), is_listed=True)
    return Traits()


def _config(
    weights: Mapping[str, Tensor],
    tensors: Mapping[str, Tensor],
    form: Format,
    known: Traits,
    name: str,
    guesses: list[str],
) -> ModelConfig:
    """Infer the architecture from the shapes of the tensors."""
    # The shapes give all sizes
    patches = weights["patch_embedding.projection.weight"]
    width, channels, patch_height, patch_width = patches.shape
    depth = 1 + max(int(key.split(".")[1]) for key in weights if key.startswith("blocks."))
    has_norm = "norm.weight" in weights
    is_pooled = any(key.endswith("fc_norm.weight") for key in tensors)
    distillation = "none"
    if "distillation_token" in weights:
        distillation = "head" if "distillation_head.1.weight" in weights else "token"
    named = int("class_token" in weights) + int(distillation != "none")
    image_size, prefix_positions = _image_size(
        weights["positions"].shape[-2], named, (patch_height, patch_width), known.image_size
    )
    head = weights.get("head.1.weight")
    scale = weights.get("blocks.0.attention_scale.factor")
    fields = {
        **form.settings,
        "norm_eps": 1e-5 if "input_norm.weight" in weights else form.settings["norm_eps"],
        "pooling": "class" if "class_token" in weights and not is_pooled else "patches",
        **known.settings,
        "name": name,
        "image_size": image_size,
        "patch_size": (patch_height, patch_width),
        "in_channels": channels,
        "num_classes": 0 if head is None else len(head),
        "width": width,
        "depth": depth,
        "mlp_width": len(weights["blocks.0.mlp.fc1.weight"]),
        "patch_bias": "patch_embedding.projection.bias" in weights,
        "class_token": "class_token" in weights,
        "distillation": distillation,
        "num_registers": weights["registers"].shape[-2] if "registers" in weights else 0,
        "prefix_positions": prefix_positions,
        "input_norm": "input_norm.weight" in weights,
        "final_norm": "pooled" if is_pooled else "tokens" if has_norm else "none",
        "qkv_bias": "blocks.0.attention.qkv.bias" in weights,
        "layer_scale": 0.0 if scale is None else scale.abs().mean().item() or 1e-5,
    }

    # No shape gives the number of heads
    if own := {key.split(".")[5] for key in tensors if key.startswith("encoder.blocks.0.attention.heads.")}:
        fields["num_heads"] = len(own)
    elif "num_heads" not in known.settings:
        fields["num_heads"] = fields.get("num_heads", usual_heads(width))
    if not known.is_listed:
        heads = [] if own or "num_heads" in known.settings else [f"{fields['num_heads']} heads"]
        pooling = {"class": "the class token", "patches": "the mean of the patches", "tokens": "the mean of all tokens"}
        words = [*heads, fields.get("activation", "gelu"), f"norm epsilon {fields['norm_eps']:g}"]
        guesses.append(f"{', '.join(words)}, and that {pooling[fields['pooling']]} is classified")
    if known.settings.get("depth", depth) != depth:
        raise ModelError(
            f"{name} has {depth} blocks, but its configuration says {known.settings['depth']}", hint="download it again"
        )
    try:
        config: ModelConfig = checked(fields, ModelConfig)
    except ValueError as error:
        raise ModelError(f"{name} is not a Vision Transformer that vit can build: {error}") from None
    return config


def _image_size(rows: int, named: int, patch: Size, known: Size | None) -> tuple[Size, bool]:
    """Infer the image size, and whether class and distillation tokens have rows in the position embedding."""
    for patches in (rows - named, rows):
        if known and known[0] // patch[0] * (known[1] // patch[1]) == patches:
            return known, patches != rows or not named
        side = math.isqrt(patches)
        if side * side == patches:
            return (side * patch[0], side * patch[1]), patches != rows or not named
    raise ModelError(
        f"its {rows} positions are not a square grid, so the image size is not known",
        hint="a config.json beside the weights can contain it",
    )


def _preprocessing(config: ModelConfig, form: Format, known: Traits, guesses: list[str]) -> Preprocessing:
    traits = known.over(_usual_traits(config, form))
    assert traits.colours
    if known.colours is None or known.resize is None:
        colours = {IMAGENET: "ImageNet's", HALF: "0.5 as", CLIP: "CLIP's"}.get(traits.colours, "their")  # type: ignore[arg-type]
        crop = f", {traits.crop_fraction:.4g} of it kept" if traits.resize != "squash" else ""
        guesses.append(f"{colours} mean and standard deviation, {traits.interpolation} {traits.resize}{crop}")
    try:
        return preprocessing_of(config, traits)
    except ValueError as error:
        raise ModelError(f"the preprocessing beside these weights cannot be used: {error}") from None


def preprocessing_of(config: ModelConfig, traits: Traits) -> Preprocessing:
    """Return the preprocessing that a model expects; all traits of its images must be known."""
    assert traits.colours
    assert traits.interpolation
    assert traits.resize
    assert traits.crop_fraction
    height = config.image_size[0]
    resized = math.floor(height / traits.crop_fraction + 1e-6)  # the size before the crop
    mean, std = traits.colours
    mean, std = (_for_channels(values, config.in_channels) for values in (mean, std))
    return Preprocessing(
        geometry=Geometry(
            size=config.image_size,
            channels=1 if config.in_channels == 1 else 3,
            resize=traits.resize,
            crop_fraction=height / resized,
            interpolation=traits.interpolation,
        ),
        image_size=config.image_size,
        mean=tuple(mean),
        std=tuple(std),
    )


def _for_channels(values: Sequence[float], channels: int) -> tuple[float, ...]:
    """Return a value for each channel: their mean if there are more or fewer."""
    if len(values) == channels or not values:
        return tuple(values)
    return (sum(values) / len(values),) * channels


def _usual_traits(config: ModelConfig, form: Format) -> Traits:
    """Return the usual traits of a format's models."""
    if form is TORCHVISION:
        crop = 224 / 256 if config.image_size == (224, 224) else 1.0
        return Traits(colours=IMAGENET, interpolation="bilinear", resize="crop", crop_fraction=crop)
    if form is TIMM:
        colours = CLIP if config.input_norm else IMAGENET
        return Traits(colours=colours, interpolation="bicubic", resize="crop", crop_fraction=0.9)
    if form is OPENCLIP:
        return Traits(colours=CLIP, interpolation="bicubic", resize="crop", crop_fraction=1.0)
    if form is TRANSFORMERS:
        return Traits(colours=HALF, interpolation="bilinear", resize="squash", crop_fraction=1.0)
    return Traits(colours=HALF, interpolation="bicubic", resize="squash", crop_fraction=1.0)


def _classes(count: int, known: Traits, guesses: list[str], *, is_published: bool) -> tuple[str, ...]:
    if known.classes is not None and len(known.classes) == count:
        return known.classes
    if known.classes is not None and count:
        guesses.append(f"the {len(known.classes):,} names beside the weights are not those of its {count:,} classes")
    elif count == _NUM_IMAGENET:
        if not is_published:
            guesses.append("its 1,000 classes are those of ImageNet, in the usual order")
        return imagenet_classes()
    return tuple(f"class {index}" for index in range(count))


def _distinct(classes: tuple[str, ...], notes: list[str]) -> tuple[str, ...]:
    """Add the number of a class to its name if another class has the same name."""
    shared = {name for name, count in Counter(classes).items() if count > 1}
    if shared:
        notes.append(f"several classes have the same name, so their numbers are added to it: {some(sorted(shared))}")
    return tuple(f"{name} ({index})" if name in shared else name for index, name in enumerate(classes))
