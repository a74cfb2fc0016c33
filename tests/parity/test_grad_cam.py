"""Class activation maps against the grad-cam package."""

import numpy as np
import pytest
import torch

from vitcli.attention.targets import ClassChoice
from vitcli.core.model_config import ModelConfig
from vitcli.explaining.explainer import explain
from vitcli.explaining.question import Question
from vitcli.models.vit import VisionTransformer

pytorch_grad_cam = pytest.importorskip(
    "pytorch_grad_cam", reason="grad-cam cannot be imported (it needs OpenCV's libraries)", exc_type=ImportError
)

ROWS, COLUMNS = 5, 7
CONFIGS = {
    "class token": {"class_token": True, "pooling": "class"},
    "mean of patches": {"class_token": False, "pooling": "patches"},
    "registers": {"class_token": True, "pooling": "class", "num_registers": 3},
}


@pytest.mark.parametrize("ours", ["gradcam", "hirescam"])
@pytest.mark.parametrize("name", CONFIGS)
def test_activation_maps_are_those_of_the_grad_cam_package(name, ours):
    torch.manual_seed(0)
    model = VisionTransformer(
        ModelConfig(
            image_size=(ROWS, COLUMNS),
            patch_size=(1, 1),  # so that a map has the image's size, and the other package resizes nothing
            num_classes=6,
            width=16,
            depth=3,
            num_heads=4,
            mlp_width=32,
            init_std=0.3,
            **CONFIGS[name],
        )
    ).eval()
    prefix = model.config.num_prefix_tokens

    def as_images(tokens: torch.Tensor) -> torch.Tensor:
        return tokens[:, prefix:].unflatten(1, (ROWS, COLUMNS)).permute(0, 3, 1, 2)

    method = {"gradcam": pytorch_grad_cam.GradCAM, "hirescam": pytorch_grad_cam.HiResCAM}[ours]
    targets = [pytorch_grad_cam.utils.model_targets.ClassifierOutputTarget(4)] * 3
    images = torch.randn(3, 3, ROWS, COLUMNS)
    with method(model, [model.blocks[-1].attention_norm], reshape_transform=as_images) as cam:
        theirs = cam(images, targets)
    found = explain(model, images, Question(methods=(ours,), choices=(ClassChoice(index=4),))).maps[ours]
    maps = found[:, 0].numpy()
    assert maps.any(axis=(1, 2)).all()
    lowest = maps.min(axis=(1, 2), keepdims=True)
    highest = maps.max(axis=(1, 2), keepdims=True)
    np.testing.assert_allclose((maps - lowest) / (highest - lowest), theirs, atol=1e-4)
