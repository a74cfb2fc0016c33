"""Weights of any plain Vision Transformer, read from a file or folder of another library and converted to our model.

The names of the tensors show the format, and their shapes show the architecture. Other facts (heads, norm epsilon,
colours, class names) come from the configuration beside the weights, from the known name of the file, or from the usual
values of the format; the last are reported as guesses. Code in a file is never run.
"""

import argparse
import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from vitcli.core.errors import ModelError, UsageError
from vitcli.core.memory import is_out_of_memory, out_of_memory
from vitcli.core.model_config import ModelConfig
from vitcli.core.preprocessing import Geometry, Preprocessing, Size
from vitcli.models.formats import FORMATS, TIMM, TORCHVISION, TRANSFORMERS, Format, recognise, to_ours
from vitcli.models.hub import WEIGHT_FILES, weights_in
from vitcli.models.pretrained import CLIP, HALF, IMAGENET, PRETRAINED, Traits
from vitcli.models.sidecars import read_traits

_WRAPPERS = ("state_dict_ema", "model_ema", "state_dict", "model", "module")
"""Names under which training scripts store weights, the best first."""
_HEAD_WIDTH = 64
"""Features per attention head in every published family."""
_NUM_IMAGENET = 1000
_HARMLESS: list[Any] = [argparse.Namespace]
"""Types that a file may contain beside tensors: the arguments that DeiT's scripts store."""


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
    tensors = _unwrapped(_read(path), path)
    form = recognise(tensors)
    if form is None:
        raise ModelError(
            f"{path} has no Vision Transformer in a known format (its tensors: {', '.join(list(tensors)[:3])} ...)",
            hint=f"known formats: vit, {', '.join(each.name for each in FORMATS)}",
        )
    weights, left_over = to_ours(tensors, form.names)
    _refuse_parts(weights, path)
    strange = [key for key in left_over if _is_essential(key)]
    if strange:
        raise ModelError(
            f"{path} is not a plain Vision Transformer: it has no place for {', '.join(strange[:3])}",
            hint="gated MLPs, relative positions and attention pooling are not supported",
        )
    known = (traits or _traits_of_file(path.name)).over(read_traits(path, form))
    guesses: list[str] = []
    if any("pre_logits" in key for key in left_over) and "head.1.weight" in weights:
        weights = {key: value for key, value in weights.items() if not key.startswith("head.")}
        guesses.append("its head has another layer below it (pre_logits), so it is left out")
    config = _config(weights, tensors, form, known, name or _name(path), guesses)
    return ForeignModel(
        format=form.name,
        config=config,
        weights=weights,
        preprocessing=_preprocessing(config, form, known, guesses),
        classes=_classes(config.num_classes, known),
        left_over=tuple(left_over),
        guesses=tuple(guesses),
    )


def imagenet_classes() -> tuple[str, ...]:
    """Return the names of ImageNet's 1,000 classes, in the order of every model's logits."""
    file = resources.files("vitcli.models").joinpath("imagenet-classes.txt")
    return tuple(file.read_text(encoding="utf-8").splitlines())


def _read(file: Path) -> Any:
    """Read tensors, or the dictionary that a training script saved; never run code."""
    if not file.is_file():
        raise ModelError(f"no such file: {file}", hint="`vit download` lists weights by name, `vit runs` the runs")
    try:
        if file.suffix == ".safetensors":
            return load_file(file)
        with warnings.catch_warnings(action="ignore"), torch.serialization.safe_globals(_HARMLESS):
            return torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # noqa: BLE001 - a damaged pickle can cause any error
        if "Unsupported global" in str(error) or "GLOBAL" in str(error):
            raise ModelError(
                f"{file} contains more than tensors; it was not loaded, because it could run any code", hint=_AS_TENSORS
            ) from None
        reason = f": {error}" if isinstance(error, SafetensorError | OSError) else ""
        if is_out_of_memory(error):
            reason = f": {out_of_memory(error).message}"
        exported = file.suffix == ".onnx" or ".torchscript" in file.suffixes
        hint = "name the run that it was exported from" if exported else "download or save it again"
        raise ModelError(f"{file} is damaged or not a file of weights{reason}", hint=hint) from None


_AS_TENSORS = "save it again as safetensors, or as torch.save(model.state_dict(), file)"


def _unwrapped(content: Any, file: Path) -> dict[str, Tensor]:
    if isinstance(content, Mapping):
        for name in _WRAPPERS:
            if isinstance(content.get(name), Mapping) and content[name]:
                return _unwrapped(content[name], file)
        if tensors := {key: value for key, value in content.items() if isinstance(value, Tensor)}:
            return tensors
    raise ModelError(f"{file} contains no weights by name", hint=_AS_TENSORS)


def _is_essential(key: str) -> bool:
    """Tell whether blocks, patches or pooling would compute something else without this tensor."""
    parts = ("blocks.", "layers.", ".layer.", "attn_pool", "rope", "relative_position", "patch_embed.norm")
    return any(part in key for part in parts)


def _refuse_parts(weights: Mapping[str, Tensor], file: Path) -> None:
    """Raise an error if the weights are not those of a whole model."""
    needed = {"patch_embedding.projection.weight": 4, "positions": 3, "blocks.0.mlp.fc1.weight": 2}
    for key, dimensions in needed.items():
        if key not in weights or weights[key].ndim != dimensions:
            found = f"with {weights[key].ndim} dimensions, not {dimensions}" if key in weights else "missing"
            raise ModelError(
                f"{file} is not a whole Vision Transformer: {key} is {found}",
                hint="the file may be truncated, or contain only a part of a model",
            )


def _name(file: Path) -> str:
    return file.parent.name if file.name in WEIGHT_FILES else file.stem


def _traits_of_file(name: str) -> Traits:
    """Return the traits of a published file, recognised by its name."""
    return next((entry.traits for entry in PRETRAINED.values() if entry.url.endswith(f"/{name}")), Traits())


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
        fields["num_heads"] = fields.get("num_heads", max(width // _HEAD_WIDTH, 1))
        if known.colours is None or width % _HEAD_WIDTH:
            activation = fields.get("activation", "gelu")
            guesses.append(f"{fields['num_heads']} heads, {activation}, norm epsilon {fields['norm_eps']:g}")
    try:
        return ModelConfig(**fields)
    except (UsageError, TypeError) as error:
        raise ModelError(f"{name} is not a Vision Transformer that vit can build: {error}") from None


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
        crop = f", {traits.crop_fraction:.4g} of it kept" if traits.resize == "crop" else ""
        guesses.append(f"{colours} mean and standard deviation, {traits.interpolation} {traits.resize}{crop}")
    return preprocessing_of(config, traits)


def preprocessing_of(config: ModelConfig, traits: Traits) -> Preprocessing:
    """Return the preprocessing that a model expects; all traits of its images must be known."""
    assert traits.colours
    assert traits.interpolation
    assert traits.resize
    assert traits.crop_fraction
    height = config.image_size[0]
    resized = math.floor(height / traits.crop_fraction + 1e-6)  # the size before the crop
    mean, std = traits.colours
    if len(mean) != config.in_channels:
        mean, std = ((sum(values) / len(values),) * config.in_channels for values in (mean, std))
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


def _usual_traits(config: ModelConfig, form: Format) -> Traits:
    """Return the usual traits of a format's models."""
    if form is TORCHVISION:
        crop = 224 / 256 if config.image_size == (224, 224) else 1.0
        return Traits(colours=IMAGENET, interpolation="bilinear", resize="crop", crop_fraction=crop)
    if form is TIMM:
        colours = CLIP if config.input_norm else IMAGENET
        return Traits(colours=colours, interpolation="bicubic", resize="crop", crop_fraction=0.9)
    if form is TRANSFORMERS:
        return Traits(colours=HALF, interpolation="bilinear", resize="squash", crop_fraction=1.0)
    return Traits(colours=HALF, interpolation="bicubic", resize="squash", crop_fraction=1.0)


def _classes(count: int, known: Traits) -> tuple[str, ...]:
    if known.classes is not None and len(known.classes) == count:
        return known.classes
    if count == _NUM_IMAGENET:
        return imagenet_classes()
    return tuple(f"class {index}" for index in range(count))
