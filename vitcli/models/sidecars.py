"""Configurations that timm, transformers and the CIFAR-10 tutorial write beside weights."""

import json
from pathlib import Path
from typing import Any

from vitcli.core.errors import ModelError
from vitcli.models.formats import TIMM, TRANSFORMERS, TUTORIAL, Format
from vitcli.models.pretrained import HALF, IMAGENET, Traits

_BILINEAR, _BICUBIC = 2, 3
"""Pillow's numbers of the resampling filters."""


def read_traits(file: Path, form: Format) -> Traits:
    """Read the configuration in the folder of a file of weights; return empty traits if there is none.

    Raises:
        ModelError: the configuration cannot be read, or vit cannot build its model.
    """
    config = _json(file.with_name("config.json"))
    images = _json(file.with_name("preprocessor_config.json"))
    try:
        traits = _traits(config, images, form)
    except (TypeError, ValueError, AttributeError, KeyError, IndexError) as error:
        raise ModelError(f"{file.with_name('config.json')} cannot be understood: {error}") from None
    if traits.crop_fraction is not None and not 0 < traits.crop_fraction <= 1:
        raise ModelError(f"the crop fraction beside {file} is {traits.crop_fraction}, not between 0 and 1")
    return traits


def _traits(config: dict[str, Any], images: dict[str, Any], form: Format) -> Traits:
    if form is TIMM:
        return _timm(config)
    if form is TRANSFORMERS:
        return _transformers(config, images)
    if form is TUTORIAL and "num_attention_heads" in config:
        return Traits(settings={"num_heads": config["num_attention_heads"]})
    return Traits()


def _json(file: Path) -> dict[str, Any]:
    if not file.is_file():
        return {}
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"{file} cannot be read: {error}") from None
    return content if isinstance(content, dict) else {}


def _timm(config: dict[str, Any]) -> Traits:
    data = {**config, **(config.get("pretrained_cfg") or {})}
    architecture = str(config.get("architecture", ""))
    arguments = config.get("model_args") or {}
    settings: dict[str, Any] = {"activation": "gelu-quick"} if "quickgelu" in architecture else {}
    if "num_heads" in arguments:
        settings["num_heads"] = arguments["num_heads"]
    if "act_layer" in arguments:
        settings["activation"] = _activation(arguments["act_layer"], form=TIMM)
    if "_clip_" in architecture:
        settings["norm_eps"] = 1e-5
    if data.get("global_pool") == "avg":
        settings["pooling"] = "tokens" if arguments.get("pool_include_prefix") else "patches"
    names = data.get("label_names")
    return Traits(
        settings=settings,
        colours=(tuple(data["mean"]), tuple(data["std"])) if {"mean", "std"} <= data.keys() else None,
        interpolation=data["interpolation"] if data.get("interpolation") in {"bicubic", "bilinear"} else None,
        resize=("squash" if data.get("crop_mode") == "squash" else "crop") if "crop_pct" in data else None,
        crop_fraction=data.get("crop_pct"),
        image_size=tuple(data["input_size"][1:]) if "input_size" in data else None,
        classes=tuple(names) if names else None,
    )


def _transformers(config: dict[str, Any], images: dict[str, Any]) -> Traits:
    settings: dict[str, Any] = {}
    for theirs, ours in (("num_attention_heads", "num_heads"), ("layer_norm_eps", "norm_eps")):
        if theirs in config:
            settings[ours] = config[theirs]
    if "hidden_act" in config:
        settings["activation"] = _activation(config["hidden_act"], form=TRANSFORMERS, gelu_new="gelu-tanh")
    names = {int(index): str(name) for index, name in (config.get("id2label") or {}).items()}
    is_named = any(name != f"LABEL_{index}" for index, name in names.items())
    return Traits(
        settings=settings,
        image_size=_size(config.get("image_size")),
        classes=tuple(names[index] for index in sorted(names)) if is_named else None,
        **_transformers_images(images, is_deit=config.get("model_type") == "deit"),
    )


def _transformers_images(images: dict[str, Any], *, is_deit: bool) -> dict[str, Any]:
    if not images:
        return {"colours": IMAGENET} if is_deit else {}
    colours = tuple(images.get("image_mean", HALF[0])), tuple(images.get("image_std", HALF[1]))
    if not images.get("do_normalize", True):
        colours = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
    if is_deit and colours == HALF:  # in facebook/deit-*, although DeiT was trained with ImageNet's
        colours = IMAGENET
    traits: dict[str, Any] = {
        "colours": colours,
        "interpolation": "bicubic" if images.get("resample") == _BICUBIC else "bilinear",
        "resize": "squash",
        "crop_fraction": 1.0,
    }
    if images.get("do_center_crop"):
        resized, cropped = _size(images.get("size")), _size(images.get("crop_size"))
        if resized and cropped:
            traits |= {"resize": "crop", "crop_fraction": cropped[0] / resized[0]}
    return traits


def _activation(name: str, *, form: Format, **also: str) -> str:
    """Return our name of an activation."""
    known = {theirs: ours for ours, theirs in form.activations.items()} | also
    if name not in known:
        raise ModelError(f"activation {name!r} is not one of: {', '.join(known)}")
    return known[name]


def _size(value: Any) -> tuple[int, int] | None:
    """Read a size: a number, a pair, or one of the dictionaries that transformers writes; None: it is not a size."""
    if isinstance(value, int):
        return value, value
    if isinstance(value, list | tuple):
        return int(value[0]), int(value[1])
    if isinstance(value, dict) and "height" in value:
        return int(value["height"]), int(value["width"])
    if isinstance(value, dict) and "shortest_edge" in value:
        return int(value["shortest_edge"]), int(value["shortest_edge"])
    return None
