"""Weights of any plain Vision Transformer, read from a file or folder of another library and converted to our model.

The names of the tensors show the format, and their shapes show the architecture. Other facts (heads, norm epsilon,
colours, class names) come from the configuration beside the weights, from the known name of the file, or from the usual
values of the format; the last are reported as guesses. Code in a file is never run.
"""

import argparse
import math
import pickle
import re
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

from vitcli.core.errors import ModelError, UsageError, some
from vitcli.core.memory import is_out_of_memory, out_of_memory
from vitcli.core.model_config import ModelConfig
from vitcli.core.preprocessing import Geometry, Preprocessing, Size
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
from vitcli.models.hub import WEIGHT_FILES, shards_of, weights_in
from vitcli.models.pretrained import CLIP, HALF, IMAGENET, PRETRAINED, Traits
from vitcli.models.sidecars import read_traits
from vitcli.models.timm_names import cause_against, check_plain, is_plain, settings_of_name, usual_heads

_WRAPPERS = ("state_dict_ema", "model_ema", "teacher", "state_dict", "model", "module")
"""Names under which training scripts store weights, the best first."""
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
    notes: tuple[str, ...]
    """What of the file was taken, in words."""


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
    tensors = _unwrapped(_read(path), path, notes)
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
    known = (traits or _traits_of_file(path, form)).over(read_traits(path, form))
    weights, left_over = to_ours(tensors, form.names)
    if form is OPENCLIP:
        weights = _with_usual_shapes(weights)
    strange = [key for key in left_over if _is_essential(key)]
    if strange:
        raise ModelError(
            f"{path} is not a plain Vision Transformer: it has no place for {', '.join(strange[:3])}",
            hint="gated MLPs, relative positions and attention pooling are not supported",
        )
    _refuse_fragments(weights, path)
    _refuse_odd_values(weights, path)
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
        classes=_classes(config.num_classes, known, guesses),
        left_over=(*left_over, *others),
        guesses=tuple(guesses),
        notes=tuple(notes),
    )


def imagenet_classes() -> tuple[str, ...]:
    """Return the names of ImageNet's 1,000 classes, in the order of every model's logits."""
    file = resources.files("vitcli.models").joinpath("imagenet-classes.txt")
    return tuple(file.read_text(encoding="utf-8").splitlines())


def _read(file: Path) -> Any:
    """Read tensors, or the dictionary that a training script saved; never run code."""
    if not file.is_file():
        raise ModelError(f"no such file: {file}", hint="`vit download` lists weights by name, `vit runs` the runs")
    if library := _UNREADABLE.get(file.suffix):
        raise ModelError(
            f"{file} is a file of {library}, and vit reads weights of PyTorch", hint="save them as safetensors"
        )
    if (shard := _SHARD.search(file.name)) and int(shard[1]) > 1:
        raise ModelError(
            f"{file} is one of {int(shard[1])} shards of a model", hint=f"name their folder: {file.parent}"
        )
    if file.suffix == ".json":
        return _read_shards(file)
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
_UNREADABLE = {".npz": "NumPy or JAX", ".h5": "Keras", ".keras": "Keras", ".msgpack": "Flax", ".gguf": "llama.cpp"}
_SHARD = re.compile(r"-\d+-of-(\d+)\.\w+$")


def _read_shards(index: Path) -> dict[str, Tensor]:
    """Read all shards that an index names, each of which has some of the tensors."""
    files = shards_of(index)
    if missing := [file.name for file in files if not file.is_file()]:
        raise ModelError(
            f"{len(missing)} of {len(files)} shards are missing: {some(missing)}", hint=f"{index} names them"
        )
    tensors: dict[str, Tensor] = {}
    for file in files:
        try:
            tensors |= load_file(file) if file.suffix == ".safetensors" else torch.load(file, weights_only=True)
        except (SafetensorError, OSError, RuntimeError, pickle.UnpicklingError) as error:
            raise ModelError(f"{file} is damaged: {error}", hint="download it again") from None
    return tensors


def _unwrapped(content: Any, file: Path, notes: list[str]) -> dict[str, Tensor]:
    if isinstance(content, Mapping):
        models = [name for name, value in content.items() if isinstance(value, Mapping) and _has_tensors(value)]
        if taken := next(
            (name for name in _WRAPPERS if isinstance(content.get(name), Mapping) and content[name]), None
        ):
            if len(models) > 1:
                notes.append(f"it has {', '.join(map(repr, models))}; {taken!r} is taken")
            return _unwrapped(content[taken], file, notes)
        if tensors := {key: value for key, value in content.items() if isinstance(value, Tensor)}:
            return tensors
    raise ModelError(f"{file} contains no weights by name", hint=_AS_TENSORS)


def _has_tensors(content: Mapping[str, Any]) -> bool:
    return any(isinstance(value, Tensor) and value.ndim > 1 for value in content.values())


def _is_essential(key: str) -> bool:
    """Tell whether blocks, patches or pooling would compute something else without this tensor."""
    if key.startswith("decoder"):  # of a masked autoencoder
        return False
    parts = ("blocks.", "layers.", ".layer.", "attn_pool", "rope", "relative_position", "patch_embed.", "stem.")
    return any(part in key for part in parts)


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
        "registers": registers + positions[:, first:end],
        "positions": torch.cat([positions[:, :first], positions[:, end:]], dim=1),
    }


_BLOCK = {
    *("attention_norm.weight", "attention_norm.bias", "attention.qkv.weight", "attention.projection.weight"),
    *("attention.projection.bias", "mlp_norm.weight", "mlp_norm.bias", "mlp.fc1.weight", "mlp.fc1.bias"),
    *("mlp.fc2.weight", "mlp.fc2.bias"),
}
"""Tensors that every block of our model has."""


def _refuse_odd_values(weights: Mapping[str, Tensor], file: Path) -> None:
    """Raise an error if a tensor is not of floating-point numbers, or has NaN or infinity."""
    for key, tensor in weights.items():
        if not tensor.is_floating_point():
            kind = str(tensor.dtype).removeprefix("torch.")
            raise ModelError(
                f"{file} is quantised: {key} is of {kind} numbers, without the scales that make weights of them",
                hint="take the weights as floating-point numbers",
            )
        if not tensor.isfinite().all():
            raise ModelError(f"{file} has NaN or infinity in {key}", hint="download or save it again")


def _refuse_fragments(weights: Mapping[str, Tensor], file: Path) -> None:
    """Raise an error if the weights are not those of a whole model, whose blocks are all alike."""
    needed = {"patch_embedding.projection.weight": 4, "positions": 3, "blocks.0.mlp.fc1.weight": 2}
    for key, dimensions in needed.items():
        if key not in weights or weights[key].ndim != dimensions:
            found = f"with {weights[key].ndim} dimensions, not {dimensions}" if key in weights else "missing"
            raise ModelError(
                f"{file} is not a whole Vision Transformer: {key} is {found}",
                hint="the file may be truncated, or contain only a part of a model",
            )
    blocks: dict[int, set[str]] = {}
    for key in weights:
        if key.startswith("blocks."):
            _, number, rest = key.split(".", 2)
            blocks.setdefault(int(number), set()).add(rest)
    for at in range(max(blocks) + 1):
        if missing := sorted((_BLOCK | blocks[0]) - blocks.get(at, set())):
            raise ModelError(
                f"{file} is not a whole Vision Transformer: block {at} lacks {some(missing)}",
                hint="the file may be incomplete; models without biases, or with RMSNorm, are not supported",
            )


def _name(file: Path) -> str:
    return file.parent.name if file.name in WEIGHT_FILES else file.stem


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


def _classes(count: int, known: Traits, guesses: list[str]) -> tuple[str, ...]:
    if known.classes is not None and len(known.classes) == count:
        return known.classes
    if count == _NUM_IMAGENET:
        if not known.is_listed:
            guesses.append("its 1,000 classes are those of ImageNet, in the usual order")
        return imagenet_classes()
    return tuple(f"class {index}" for index in range(count))
