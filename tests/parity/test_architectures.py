"""The same weights give the same logits as in four other libraries; all weights are random and tiny."""

import numpy as np
import pytest
import torch
from torch import nn

from tests.builders.timm_models import TINY, renamed, stirred, timm_model, timm_weights
from tests.builders.tutorials import NAMES, EncoderClassifier
from vitcli.core.model_config import ModelConfig
from vitcli.models.layers import sincos_positions
from vitcli.models.registry import listed_config
from vitcli.models.vit import VisionTransformer


def assert_same_logits(config, weights, theirs):
    """Our model of ``config`` with ``weights``, all of which must fit, against their function."""
    ours = VisionTransformer(config).eval()
    ours.load_state_dict(weights)
    torch.manual_seed(1)
    images = torch.randn(3, config.in_channels, *config.image_size)
    with torch.no_grad():
        expected = theirs(images)
        assert expected.std() > 0.1
        torch.testing.assert_close(ours(images), expected, atol=1e-5, rtol=0)


# timm


PATCHES = {"class_token": False, "pooling": "patches"}


@pytest.mark.parametrize(
    ("options", "changes"),
    [
        pytest.param({}, {}, id="class token"),
        pytest.param({"final_norm": False}, {"final_norm": "none"}, id="no final norm"),
        pytest.param({"global_pool": "avg"}, {"pooling": "patches", "final_norm": "pooled"}, id="mean, then norm"),
        pytest.param({"global_pool": "avg", "fc_norm": False}, {"pooling": "patches"}, id="norm, then mean"),
        pytest.param(
            {"global_pool": "avg", "pool_include_prefix": True},
            {"pooling": "tokens", "final_norm": "pooled"},
            id="mean of all tokens, then norm",
        ),
        pytest.param(
            {"global_pool": "avg", "pool_include_prefix": True, "fc_norm": False},
            {"pooling": "tokens"},
            id="norm, then mean of all tokens",
        ),
        pytest.param(
            {"global_pool": "avg", "class_token": False}, {**PATCHES, "final_norm": "pooled"}, id="no class token"
        ),
        pytest.param({"init_values": 1e-5}, {"layer_scale": 1e-5}, id="layer scale"),
        pytest.param({"qkv_bias": False}, {"qkv_bias": False}, id="no qkv bias"),
        pytest.param({"reg_tokens": 3, "no_embed_class": True}, {"num_registers": 3}, id="registers"),
        pytest.param({"reg_tokens": 3}, {"num_registers": 3}, id="registers with positions"),
        pytest.param({"no_embed_class": True}, {}, id="class token without position"),
        pytest.param(
            {"reg_tokens": 2, "class_token": False, "no_embed_class": True, "global_pool": "avg", "fc_norm": False},
            {**PATCHES, "num_registers": 2},
            id="registers without class token",
        ),
        pytest.param(
            {"img_size": (8, 12), "patch_size": (2, 6)}, {"image_size": (8, 12), "patch_size": (2, 6)}, id="rectangular"
        ),
        pytest.param({"in_chans": 1}, {"in_channels": 1}, id="grey"),
        pytest.param({"act_layer": "relu"}, {"activation": "relu"}, id="relu"),
        pytest.param({"act_layer": "gelu_tanh"}, {"activation": "gelu-tanh"}, id="tanh gelu"),
        pytest.param({"num_heads": 1}, {"num_heads": 1}, id="one head"),
    ],
)
def test_same_weights_give_the_same_logits_as_in_timm(options, changes):
    theirs = timm_model(**options)
    config = ModelConfig(**{**TINY, "norm_eps": theirs.blocks[0].norm1.eps, **changes})
    assert_same_logits(config, timm_weights(theirs, config), theirs)


def test_an_mlp_head_is_the_one_that_a_tutorial_puts_on_a_timm_model():
    theirs = timm_model()
    theirs.head = stirred(nn.Sequential(nn.Linear(16, 24), nn.ReLU(), nn.Dropout(0.3), nn.Linear(24, 5)))
    config = ModelConfig(**TINY, norm_eps=theirs.norm.eps, head_width=24, head_dropout=0.3)
    assert_same_logits(config, timm_weights(theirs, config), theirs)


# torchvision


def test_same_weights_give_the_same_logits_as_in_torchvision():
    from torchvision.models.vision_transformer import VisionTransformer as TorchvisionTransformer

    theirs = stirred(
        TorchvisionTransformer(
            image_size=8, patch_size=4, num_layers=2, num_heads=4, hidden_dim=16, mlp_dim=32, num_classes=5
        )
    )
    weights = renamed(
        theirs.state_dict(),
        (r"^conv_proj\.", "patch_embedding.projection."),
        (r"^encoder\.pos_embedding", "positions"),
        (r"^encoder\.layers\.encoder_layer_", "blocks."),
        (r"^encoder\.ln\.", "norm."),
        (r"\.ln_1\.", ".attention_norm."),
        (r"\.ln_2\.", ".mlp_norm."),
        (r"\.self_attention\.in_proj_", ".attention.qkv."),
        (r"\.self_attention\.out_proj\.", ".attention.projection."),
        (r"\.mlp\.0\.", ".mlp.fc1."),
        (r"\.mlp\.3\.", ".mlp.fc2."),
        (r"^heads\.head\.", "head.1."),
    )
    assert_same_logits(ModelConfig(**TINY, norm_eps=1e-6), weights, theirs)


# transformers


@pytest.mark.parametrize(
    ("options", "changes"),
    [
        pytest.param({}, {}, id="plain"),
        pytest.param({"qkv_bias": False}, {"qkv_bias": False}, id="no qkv bias"),
        pytest.param({"hidden_act": "gelu_pytorch_tanh"}, {"activation": "gelu-tanh"}, id="tanh gelu"),
        pytest.param(
            {"image_size": [8, 12], "patch_size": [2, 6]},
            {"image_size": (8, 12), "patch_size": (2, 6)},
            id="rectangular",
        ),
    ],
)
def test_same_weights_give_the_same_logits_as_in_transformers(options, changes):
    from transformers import ViTConfig, ViTForImageClassification

    settings = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 32}
    settings |= {"image_size": 8, "patch_size": 4, "num_labels": 5, "layer_norm_eps": 1e-6, **options}
    theirs = stirred(ViTForImageClassification(ViTConfig(**settings)))
    weights = renamed(
        theirs.state_dict(),
        (r"^vit\.embeddings\.cls_token", "class_token"),
        (r"^vit\.embeddings\.position_embeddings", "positions"),
        (r"^vit\.embeddings\.patch_embeddings\.", "patch_embedding."),
        (r"^vit\.layers\.", "blocks."),
        (r"^vit\.layernorm\.", "norm."),
        (r"\.layernorm_before\.", ".attention_norm."),
        (r"\.layernorm_after\.", ".mlp_norm."),
        (r"\.attention\.o_proj\.", ".attention.projection."),
        (r"^classifier\.", "head.1."),
    )
    for layer in range(2):
        for kind in ["weight"] + ["bias"] * settings.get("qkv_bias", True):
            parts = [weights.pop(f"blocks.{layer}.attention.{part}_proj.{kind}") for part in "qkv"]
            weights[f"blocks.{layer}.attention.qkv.{kind}"] = torch.cat(parts)
    config = ModelConfig(**{**TINY, "norm_eps": 1e-6, **changes})
    assert_same_logits(config, weights, lambda images: theirs(images).logits)


# torch.nn.TransformerEncoder


def test_the_classic_mnist_model_is_torchs_own_post_norm_encoder():
    config = listed_config("vit-mnist-classic")
    theirs = stirred(EncoderClassifier(config))
    layer = theirs.encoder.layers[0]
    assert (len(theirs.encoder.layers), layer.self_attn.num_heads, layer.linear1.out_features) == (3, 8, 2048)
    assert not layer.norm_first
    assert_same_logits(config, renamed(theirs.state_dict(), *NAMES), theirs)


def test_linear_patches_of_colour_images_are_those_cut_by_loops():
    config = ModelConfig(
        **{**TINY, "image_size": (8, 12), "patch_size": (2, 6)},
        patch_embedding="linear",
        block_norm="post",
        final_norm="none",
        norm_eps=1e-5,
        activation="relu",
    )
    theirs = stirred(EncoderClassifier(config))
    assert_same_logits(config, renamed(theirs.state_dict(), *NAMES), theirs)


# fixed positions


@pytest.mark.parametrize(("grid", "width"), [((2, 2), 8), ((3, 5), 16), ((7, 4), 12)])
def test_sincos_positions_are_those_of_their_formula(grid, width):
    expected = np.zeros((grid[0] * grid[1], width))
    quarter = width // 4
    for row in range(grid[0]):
        for column in range(grid[1]):
            for index in range(quarter):
                frequency = 1 / 10_000 ** (index / (quarter - 1))
                features = [np.sin(column * frequency), np.cos(column * frequency)]
                features += [np.sin(row * frequency), np.cos(row * frequency)]
                expected[row * grid[1] + column, index::quarter] = features
    np.testing.assert_allclose(sincos_positions(grid, width)[0].numpy(), expected, atol=1e-6)
