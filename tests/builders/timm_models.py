"""Small models of timm, and their weights by our names."""

import re

import torch
from torch import nn

TINY = {
    "image_size": (8, 8),
    "patch_size": (4, 4),
    "num_classes": 5,
    "width": 16,
    "depth": 2,
    "num_heads": 4,
    "mlp_width": 32,
}


def stirred(model):
    """No weight stays at a value (0, 1, 1e-6) that would hide a fault."""
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
    return model.eval()


def renamed(weights, *rules):
    """Keys rewritten by (pattern, replacement) pairs, in order."""
    result = {}
    for key, value in weights.items():
        for pattern, replacement in rules:
            key = re.sub(pattern, replacement, key)  # noqa: PLW2901 - rewritten step by step
        result[key] = value
    return result


TIMM_NAMES = (
    (r"^cls_token", "class_token"),
    (r"^reg_token", "registers"),
    (r"^pos_embed", "positions"),
    (r"^patch_embed\.proj\.", "patch_embedding.projection."),
    (r"\.norm1\.", ".attention_norm."),
    (r"\.norm2\.", ".mlp_norm."),
    (r"\.attn\.proj\.", ".attention.projection."),
    (r"\.attn\.", ".attention."),
    (r"\.ls1\.gamma", ".attention_scale.factor"),
    (r"\.ls2\.gamma", ".mlp_scale.factor"),
    (r"^fc_norm\.", "norm."),
    (r"^head\.(weight|bias)", r"head.1.\1"),
)


def timm_model(**options):
    from timm.models.vision_transformer import VisionTransformer as TimmVisionTransformer

    defaults = {"img_size": 8, "patch_size": 4, "num_classes": 5, "embed_dim": 16, "depth": 2, "num_heads": 4}
    return stirred(TimmVisionTransformer(**{**defaults, "mlp_ratio": 2, **options}))


def timm_weights(model, config):
    """Their weights by our names; where they give no position to a token, ours is zero, and the other way round."""
    weights = renamed(model.state_dict(), *TIMM_NAMES)
    positions = weights["positions"]
    if model.no_embed_class:
        weights["positions"] = nn.functional.pad(positions, (0, 0, int(config.class_token), 0))
    elif config.num_registers:
        first = int(config.class_token)
        last = first + config.num_registers
        weights["registers"] = weights["registers"] + positions[:, first:last]
        weights["positions"] = torch.cat([positions[:, :first], positions[:, last:]], dim=1)
    return weights
