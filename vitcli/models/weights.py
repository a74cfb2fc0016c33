"""Weights of any plain Vision Transformer, from a file or folder of whatever library, as a model of ours.

The format is told by the names of the tensors, the architecture by their shapes; what neither tells (heads, norm
epsilon, colours, class names) comes from the configuration beside the weights, from what is known of the file's name,
or from what the format's models usually are, and is said where it is a guess. No code in a file ever runs.
"""

import argparse
import math
import pickle
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
from vitcli.core.model_config import ModelConfig
from vitcli.core.preprocessing import Geometry, Preprocessing, Size
from vitcli.models.formats import FORMATS, TIMM, TORCHVISION, TRANSFORMERS, Format, recognise, to_ours
from vitcli.models.pretrained import CLIP, HALF, IMAGENET, PRETRAINED, Traits
from vitcli.models.sidecars import read_traits

_WEIGHTS = ("model.safetensors", "pytorch_model.bin", "model.pth", "model_final.pt")
"""What the one file of weights in a folder is called."""
_WRAPPERS = ("state_dict_ema", "model_ema", "state_dict", "model", "module")
"""Under which name training scripts store weights, the best first."""
_HEAD_WIDTH = 64
"""Features per head in every published family."""
_NUM_IMAGENET = 1000
_HARMLESS: list[Any] = [argparse.Namespace]
"""What may stand beside tensors: the arguments that DeiT's scripts store."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ForeignModel:
    """Another library's model in our terms."""

    format: str
    config: ModelConfig
    weights: dict[str, Tensor]
    preprocessing: Preprocessing
    classes: tuple[str, ...]
    left_over: tuple[str, ...]
    """Keys that a plain Vision Transformer has no place for."""
    guesses: tuple[str, ...]
    """What was assumed, in words."""


def read_foreign(path: Path, traits: Traits | None = None, *, name: str = "") -> ForeignModel:
    """Read weights of any known format.

    Args:
        path: a ``.safetensors``, ``.pth``, ``.pt`` or ``.bin`` file, or a folder that timm or transformers wrote.
        traits: what is known of these weights; above what lies beside them.
        name: what the model is called; empty: as its folder or file.

    Raises:
        ModelError: no such file, damaged, with code in it, of no known format, or no plain Vision Transformer.
    """
    file = _weights_in(path) if path.is_dir() else path
    tensors = _unwrapped(_read(file), file)
    form = recognise(tensors)
    if form is None:
        raise ModelError(
            f"{file} holds no Vision Transformer in a known format (its tensors: {', '.join(list(tensors)[:3])} ...)",
            hint=f"known are the formats of vit, {', '.join(each.name for each in FORMATS)}",
        )
    weights, left_over = to_ours(tensors, form.names)
    strange = [key for key in left_over if _is_essential(key)]
    if strange:
        raise ModelError(
            f"{file} is no plain Vision Transformer: it has no place for {', '.join(strange[:3])}",
            hint="gated MLPs, relative positions and attention pooling are not supported",
        )
    known = (traits or _traits_of_file(file.name)).over(read_traits(file, form))
    guesses: list[str] = []
    config = _config(weights, tensors, form, known, name or _name(path, file), guesses)
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
    """The names of ImageNet's 1,000 classes, in the order of every model's logits."""
    file = resources.files("vitcli.models").joinpath("imagenet-classes.txt")
    return tuple(file.read_text(encoding="utf-8").splitlines())


def _weights_in(folder: Path) -> Path:
    files = [folder / name for name in _WEIGHTS if (folder / name).is_file()] or sorted(folder.glob("*.safetensors"))
    if not files:
        raise ModelError(f"no weights in {folder}", hint=f"expected is one of {', '.join(_WEIGHTS)}")
    return files[0]


def _read(file: Path) -> Any:
    """Tensors, or the dictionary that a training script saved; never code."""
    if not file.is_file():
        raise ModelError(f"no such file: {file}", hint="`vit download` lists weights by name, `vit runs` the runs")
    try:
        if file.suffix == ".safetensors":
            return load_file(file)
        with warnings.catch_warnings(action="ignore"), torch.serialization.safe_globals(_HARMLESS):
            return torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if "Unsupported global" in str(error) or "GLOBAL" in str(error):
            raise ModelError(
                f"{file} holds more than tensors; it was not loaded, for it could run any code", hint=_AS_TENSORS
            ) from None
        raise ModelError(f"{file} is damaged or no file of weights") from None
    except (SafetensorError, OSError, RuntimeError, EOFError, ValueError, KeyError) as error:
        raise ModelError(f"{file} is damaged or no file of weights: {error}") from None


_AS_TENSORS = "save it anew as safetensors, or as torch.save(model.state_dict(), file)"


def _unwrapped(content: Any, file: Path) -> dict[str, Tensor]:
    if isinstance(content, Mapping):
        for name in _WRAPPERS:
            if isinstance(content.get(name), Mapping):
                return _unwrapped(content[name], file)
        if tensors := {key: value for key, value in content.items() if isinstance(value, Tensor)}:
            return tensors
    raise ModelError(f"{file} holds no weights by name", hint=_AS_TENSORS)


def _is_essential(key: str) -> bool:
    """A tensor without which blocks or pooling would compute something else."""
    return any(part in key for part in ("blocks.", "layers.", ".layer.", "attn_pool", "rope", "relative_position"))


def _name(path: Path, file: Path) -> str:
    generic = file.name in _WEIGHTS
    return file.parent.name if generic or path.is_dir() else file.stem


def _traits_of_file(name: str) -> Traits:
    """Published files are known by their names."""
    return next((entry.traits for entry in PRETRAINED.values() if entry.url.endswith(f"/{name}")), Traits())


def _config(
    weights: Mapping[str, Tensor],
    tensors: Mapping[str, Tensor],
    form: Format,
    known: Traits,
    name: str,
    guesses: list[str],
) -> ModelConfig:
    """The architecture that tensors of these shapes are of."""
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
    if "num_heads" not in fields:
        fields["num_heads"] = max(width // _HEAD_WIDTH, 1)
        if width % _HEAD_WIDTH:
            guesses.append(f"{fields['num_heads']} heads (--set model.num_heads=N says otherwise)")
    try:
        return ModelConfig(**fields)
    except (UsageError, TypeError) as error:
        raise ModelError(f"{name} is no Vision Transformer that vit can build: {error}") from None


def _image_size(rows: int, named: int, patch: Size, known: Size | None) -> tuple[Size, bool]:
    """Image size, and whether named tokens have rows of their own in the position embedding."""
    for patches in (rows - named, rows):
        if known and known[0] // patch[0] * (known[1] // patch[1]) == patches:
            return known, patches != rows or not named
        side = math.isqrt(patches)
        if side * side == patches:
            return (side * patch[0], side * patch[1]), patches != rows or not named
    raise ModelError(
        f"its {rows} positions are no square grid, so the image size cannot be told",
        hint="a config.json beside the weights may say it",
    )


def _preprocessing(config: ModelConfig, form: Format, known: Traits, guesses: list[str]) -> Preprocessing:
    usual = _usual_traits(config, form)
    if known.colours is None and form is TIMM and not config.input_norm:
        guesses.append("ImageNet's mean and standard deviation (--set data.normalise=half says otherwise)")
    traits = known.over(usual)
    assert traits.colours
    assert traits.interpolation
    assert traits.resize
    assert traits.crop_fraction
    height = config.image_size[0]
    resized = math.floor(height / traits.crop_fraction + 1e-6)  # what the libraries resize to before they crop
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
    """What a format's models mostly expect."""
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
