"""timm export: a folder with weights, configuration and preprocessing that timm reads."""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from vitcli.core.errors import ModelError
from vitcli.core.model_config import ModelConfig
from vitcli.core.preprocessing import Preprocessing
from vitcli.models.counterparts import reasons_against, timm_arguments
from vitcli.models.export.exported import Exported
from vitcli.models.formats import TIMM, to_theirs
from vitcli.models.vit import VisionTransformer

_BY_EPS = {1e-6: "vit_base_patch16_224", 1e-5: "vit_base_patch16_clip_224.openai"}
"""timm's architectures by their norm epsilon, which cannot be set by an argument."""
_DISTILLED = "deit_base_distilled_patch16_224"


def write(model: VisionTransformer, classes: Sequence[str], preprocessing: Preprocessing, path: Path) -> Exported:
    """Write the folder ``path``, and return what timm loads from it.

    Raises:
        ModelError: timm cannot represent the model.
    """
    import timm
    from timm.models import save_for_hf

    config = model.config
    if reasons := _reasons_against(config, preprocessing):
        raise ModelError(f"timm has no such model: there, {reasons[0]}", hint="--format onnx takes any model")
    architecture = _DISTILLED if config.distillation == "head" else _BY_EPS[config.norm_eps]
    arguments = timm_arguments(config)
    theirs = timm.create_model(architecture, **arguments)
    weights = model.state_dict()
    if config.positions == "sincos":
        weights["positions"] = model.positions
    if config.num_registers and config.class_token and config.prefix_positions:  # there, registers have positions too
        before, patches = weights["positions"].split([1, weights["positions"].shape[1] - 1], dim=1)
        weights["positions"] = torch.cat(
            [before, before.new_zeros(1, config.num_registers, config.width), patches], dim=1
        )
    if config.patch_embedding == "linear":
        weights["patch_embedding.projection.weight"] = _as_convolution(weights, config)
    theirs.load_state_dict(to_theirs(weights, TIMM.names, theirs.state_dict()))
    geometry = preprocessing.geometry
    images = {
        "input_size": (config.in_channels, *config.image_size),
        "mean": preprocessing.mean,
        "std": preprocessing.std,
        "interpolation": geometry.interpolation,
        "crop_pct": 1.0 if geometry.resize == "squash" else geometry.crop_fraction,
        "crop_mode": "center" if geometry.resize == "crop" else "squash",
    }
    origin = {
        "tag": "vitcli",
        "license": None,
        "hf_hub_id": None,
        "url": "",
    }  # else timm would name its own weights
    vars(theirs)["pretrained_cfg"] |= {**images, **origin}
    save_for_hf(
        theirs,
        str(path),
        model_config={"label_names": list(classes), "num_classes": config.num_classes},
        model_args=arguments,
        safe_serialization=True,
    )
    loaded = timm.create_model(f"local-dir:{path}", pretrained=True).eval()
    prepare = timm.data.create_transform(**timm.data.resolve_model_data_config(loaded))
    return Exported(loaded, prepare)


def _reasons_against(config: ModelConfig, preprocessing: Preprocessing) -> list[str]:
    """List why timm's VisionTransformer, built by its name, cannot represent a model."""
    wrong = {
        "photos are antialiased where they shrink": not preprocessing.geometry.antialias,
        "distilled models have a norm epsilon of 1e-6": config.distillation == "head" and config.norm_eps != 1e-6,
        "distilled models have no registers": config.distillation == "head" and config.num_registers > 0,
        "distilled models have positions for all tokens": config.distillation == "head" and not config.prefix_positions,
        f"the norm epsilon is {' or '.join(map(str, _BY_EPS))}, and not {config.norm_eps:g}": config.norm_eps
        not in _BY_EPS,
    }
    return [*reasons_against("timm", config), *(reason for reason, is_so in wrong.items() if is_so)]


def _as_convolution(weights: dict[str, Tensor], config: ModelConfig) -> Tensor:
    """Reorder a linear patch embedding to a convolution: (D, h w C) -> (D, C, h, w)."""
    matrix = weights["patch_embedding.projection.weight"]
    return matrix.view(-1, *config.patch_size, config.in_channels).permute(0, 3, 1, 2).contiguous()
