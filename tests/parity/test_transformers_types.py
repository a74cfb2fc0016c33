"""Classifiers of transformers that look like Vision Transformers: the same logits, or a refusal with the cause."""

import logging

import pytest
import torch
import transformers
from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES

from vitcli.core.errors import ModelError
from vitcli.models.vit import VisionTransformer
from vitcli.models.weights import read_foreign

logging.getLogger("transformers").setLevel(logging.ERROR)
SIZES = {
    "hidden_size": 48,
    "num_hidden_layers": 1,
    "num_attention_heads": 3,
    "intermediate_size": 96,
    "image_size": 32,
    "patch_size": 16,
    "num_labels": 3,
}
"""Heads that are 16 wide. (DeiT is in test_foreign_weights.py.)"""
LOADED = {"vit", "vit_msn", "dinov2", "dinov2_with_registers"}
REFUSED = {
    "beit": "relative positions",
    "data2vec-vision": "relative positions",
    "ijepa": "no class token",
    "dinov3_vit": "rotary positions",
    "swin": "windowed attention",
}


def built(kind):
    torch.manual_seed(0)
    config = transformers.AutoConfig.for_model(kind, **SIZES)
    model = transformers.AutoModelForImageClassification.from_config(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    return model


def has(kind):
    return kind in MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES


@pytest.mark.parametrize("kind", sorted(LOADED))
def test_what_is_loaded_computes_the_same(kind, tmp_path):
    theirs = built(kind)
    theirs.save_pretrained(tmp_path)
    foreign = read_foreign(tmp_path)
    ours = VisionTransformer(foreign.config).eval()
    ours.load_state_dict(foreign.weights)
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        if kind.startswith("dinov2"):  # noqa: SIM108 - its head reads class token and patches, so it is left out
            expected = theirs.base_model(images).pooler_output
        else:
            expected = theirs(images).logits
        assert (ours(images) - expected).abs().max() <= 1e-5 * expected.abs().max()


@pytest.mark.parametrize("kind", sorted(filter(has, REFUSED)))
def test_what_computes_something_else_is_refused_with_the_cause(kind, tmp_path):
    if kind == "swin":
        config = transformers.AutoConfig.for_model(kind, depths=(1, 1), num_heads=(1, 1), embed_dim=12, image_size=56)
        model = transformers.AutoModelForImageClassification.from_config(config)
    else:
        model = built(kind)
    model.save_pretrained(tmp_path)
    with pytest.raises(ModelError, match=f"{REFUSED[kind]}|no Vision Transformer in a known format"):
        read_foreign(tmp_path)
