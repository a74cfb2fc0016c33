"""Models of other libraries of the same architecture: as many parameters, or refused with the reason."""

import pytest
import torch

from tests.conftest import naming
from vitcli.core.errors import InstallError, ModelError, UsageError
from vitcli.core.model_config import ModelConfig
from vitcli.models.counterparts import LIBRARIES, build_counterpart, check_libraries, more_parameters
from vitcli.models.registry import listed_config

TINY = {"image_size": (16, 16), "patch_size": (8, 8), "num_classes": 3, "width": 32, "depth": 2, "num_heads": 2}
TINY["mlp_width"] = 96
AXES = {
    "plain": {},
    "mean of the patches": {"class_token": False, "pooling": "patches", "final_norm": "pooled"},
    "mean of tokens": {"pooling": "tokens"},
    "rectangular": {"image_size": (16, 24), "patch_size": (8, 4)},
    "one channel": {"in_channels": 1},
    "tanh gelu": {"activation": "gelu-tanh"},
    "another epsilon": {"norm_eps": 1e-4},
    "no qkv bias": {"qkv_bias": False},
    "sincos": {"positions": "sincos"},
    "linear patches": {"patch_embedding": "linear"},
    "no final norm": {"final_norm": "none"},
    "distilled": {"distillation": "head"},
    "distillation token": {"distillation": "token"},
    "registers": {"num_registers": 2},
    "layer scale": {"layer_scale": 1e-2},
    "clip": {"input_norm": True, "patch_bias": False},
    "post-norm": {"block_norm": "post"},
    "convolution in the MLP": {"mlp_conv": 3, "pooling": "patches", "class_token": False},
    "MLP head": {"head_width": 12},
    "dropout": {"dropout": 0.1},
    "dropout of the embedding": {"embedding_dropout": 0.1},
    "dropout of the head": {"head_dropout": 0.1},
    "stochastic depth": {"drop_path": 0.1},
}
REFUSED = {
    "timm": {
        "post-norm": "norms before the branches",
        "convolution in the MLP": "no convolution",
        "MLP head": "heads are linear",
        "distillation token": "always have two heads",
    },
    "transformers": {
        "mean of the patches": "only the class token is classified",
        "mean of tokens": "only the class token is classified",
        "linear patches": "is a convolution",
        "no final norm": "a norm follows the blocks",
        "registers": "no register tokens",
        "layer scale": "no LayerScale",
        "clip": "no norm before the blocks",
        "post-norm": "norms before the branches",
        "convolution in the MLP": "no convolution",
        "MLP head": "heads are linear",
        "dropout of the embedding": "dropout of the embedding",
        "dropout of the head": "heads have no dropout",
        "stochastic depth": "no stochastic depth",
    },
}
REFUSED["torchvision"] = REFUSED["transformers"] | {
    "rectangular": "images and patches are square",
    "one channel": "images have three channels",
    "tanh gelu": "the activation is GELU",
    "no qkv bias": "have a bias",
    "distilled": "no distillation token",
    "distillation token": "no distillation token",
}
MORE = {"sincos": 32 * 5, "registers": 32 * 2}
"""Positions that only the other libraries learn."""


@pytest.mark.parametrize("library", LIBRARIES)
def test_every_model_has_as_many_parameters_there_or_is_refused_with_the_reason(library):
    for axis, changes in AXES.items():
        config = ModelConfig(**{**TINY, **changes})
        with naming(axis):
            if reason := REFUSED[library].get(axis):
                with pytest.raises(ModelError, match=f"{library} has no model like .*: there, .*{reason}") as refusal:
                    build_counterpart(library, config)
                assert "--against" in refusal.value.hint
                continue
            model = build_counterpart(library, config)
            found = sum(parameter.numel() for parameter in model.parameters())
            assert found - config.num_parameters == more_parameters(library, config) == MORE.get(axis, 0)
            output = model.train()(torch.randn(2, config.in_channels, *config.image_size))
            assert getattr(output, "logits", output).shape == (2, 3)


@pytest.mark.parametrize("library", LIBRARIES)
def test_the_published_size_is_the_same_everywhere(library):
    config = listed_config("vit-tiny-patch16")
    model = build_counterpart(library, config)
    assert sum(parameter.numel() for parameter in model.parameters()) == config.num_parameters == 5_717_416
    if library == "transformers":
        assert model.config._attn_implementation == "sdpa"


def test_a_library_that_is_missing_or_unknown_is_named(monkeypatch):
    with pytest.raises(UsageError, match="'tim' is not one of timm, torchvision, transformers") as unknown:
        check_libraries(("tim",))
    assert "did you mean 'timm'" in unknown.value.hint
    monkeypatch.setattr("vitcli.models.counterparts.find_spec", lambda name: name == "timm" or None)
    with pytest.raises(InstallError, match="needs torchvision and transformers") as missing:
        check_libraries(LIBRARIES)
    assert missing.value.hint == "uv pip install torchvision transformers"
