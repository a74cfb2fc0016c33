"""timm export: a folder with weights, configuration and preprocessing that timm reads."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from vitcli.core.errors import ModelError
from vitcli.core.model_config import ModelConfig
from vitcli.core.preprocessing import Preprocessing
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
    arguments = _arguments(config)
    theirs = timm.create_model(architecture, **arguments)
    weights = model.state_dict()
    if config.positions == "sincos":
        weights["positions"] = model.positions
    if config.patch_embedding == "linear":
        weights["patch_embedding.projection.weight"] = _as_convolution(weights, config)
    theirs.load_state_dict(to_theirs(weights, TIMM.names, theirs.state_dict()))
    geometry = preprocessing.geometry
    images = {
        "input_size": (config.in_channels, *config.image_size),
        "mean": preprocessing.mean,
        "std": preprocessing.std,
        "interpolation": geometry.interpolation,
        "crop_pct": geometry.crop_fraction,
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
    """List why timm's VisionTransformer cannot represent a model."""
    wrong = {
        "blocks have their norms before the branches (no post-norm)": config.block_norm == "post",
        "heads are linear": bool(config.head_width),
        "the patch embedding has a bias exactly where no norm follows": config.patch_bias == config.input_norm,
        "photos are antialiased where they shrink": not preprocessing.geometry.antialias,
        "distilled models always have two heads": config.distillation == "token",
        "distilled models have a norm epsilon of 1e-6": config.distillation == "head" and config.norm_eps != 1e-6,
        f"the norm epsilon is {' or '.join(map(str, _BY_EPS))}, and not {config.norm_eps:g}": config.norm_eps
        not in _BY_EPS,
        "the norm of the tokens is left out only with pooling 'class'": (
            config.final_norm == "none" and config.pooling != "class"
        ),
    }
    return [reason for reason, is_so in wrong.items() if is_so]


def _arguments(config: ModelConfig) -> dict[str, Any]:
    is_class = config.pooling == "class"
    arguments: dict[str, Any] = {
        "img_size": config.image_size,
        "patch_size": config.patch_size,
        "in_chans": config.in_channels,
        "num_classes": config.num_classes,
        "embed_dim": config.width,
        "depth": config.depth,
        "num_heads": config.num_heads,
        "mlp_ratio": config.mlp_width / config.width,
        "qkv_bias": config.qkv_bias,
        "init_values": config.layer_scale or None,
        "class_token": config.class_token,
        "no_embed_class": not config.prefix_positions or not config.class_token,
        "reg_tokens": config.num_registers,
        "pre_norm": config.input_norm,
        "final_norm": config.final_norm != "none",
        "fc_norm": config.final_norm == "pooled" and not is_class,
        "global_pool": "token" if is_class else "avg",
        "pool_include_prefix": config.pooling == "tokens",
        "act_layer": TIMM.activations[config.activation],
    }
    if config.distillation == "head":  # timm sets these itself
        for name in ("class_token", "no_embed_class", "fc_norm", "pool_include_prefix"):
            del arguments[name]
    return arguments


def _as_convolution(weights: dict[str, Tensor], config: ModelConfig) -> Tensor:
    """Reorder a linear patch embedding to a convolution: (D, h w C) -> (D, C, h, w)."""
    matrix = weights["patch_embedding.projection.weight"]
    return matrix.view(-1, *config.patch_size, config.in_channels).permute(0, 3, 1, 2).contiguous()
