"""transformers export: a folder with a ViT or DeiT, class names and an image processor that transformers reads."""

import json
import logging
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image
from torch import Tensor

from vitcli.core.errors import ModelError
from vitcli.core.model_config import ModelConfig
from vitcli.core.preprocessing import Preprocessing
from vitcli.models.counterparts import reasons_against, transformers_model
from vitcli.models.export.exported import Exported
from vitcli.models.formats import TRANSFORMERS, to_theirs
from vitcli.models.vit import VisionTransformer

_FILTERS = {"bilinear": 2, "bicubic": 3}
"""Pillow's numbers of the resampling filters."""


def write(model: VisionTransformer, classes: Sequence[str], preprocessing: Preprocessing, path: Path) -> Exported:
    """Write the folder ``path``, and return what transformers loads from it.

    Raises:
        ModelError: transformers cannot represent the model.
    """
    import transformers

    config = model.config
    if reasons := _reasons_against(config, preprocessing):
        raise ModelError(f"transformers has no such model: there, {reasons[0]}", hint="--format onnx takes any model")
    logging.getLogger("transformers").setLevel(logging.ERROR)
    transformers.utils.logging.disable_progress_bar()  # type: ignore[no-untyped-call, unused-ignore]

    theirs = transformers_model(
        config, id2label=dict(enumerate(classes)), label2id={name: index for index, name in enumerate(classes)}
    )

    # Fill in the weights, and write everything
    weights = model.state_dict()
    if config.positions == "sincos":
        weights["positions"] = model.positions
    filled = to_theirs(weights, TRANSFORMERS.names, theirs.state_dict())
    theirs.load_state_dict(filled, strict=False)  # only a mask token is not filled
    theirs.save_pretrained(path)
    (path / "preprocessor_config.json").write_text(json.dumps(_processor(preprocessing), indent=2), encoding="utf-8")
    loaded = transformers.AutoModelForImageClassification.from_pretrained(path).eval()
    processors: Any = transformers.AutoImageProcessor
    processor = processors.from_pretrained(path)

    def run(images: Tensor) -> Tensor:
        logits: Tensor = loaded(images).logits
        return logits

    def prepare(image: Image.Image) -> Tensor:
        inputs: Tensor = processor(image, return_tensors="pt")["pixel_values"][0]
        return inputs

    return Exported(run, prepare)


def _reasons_against(config: ModelConfig, preprocessing: Preprocessing) -> list[str]:
    """List why the ViT and DeiT of transformers, and their image processors, cannot represent a model."""
    height, width = preprocessing.image_size
    wrong = {
        "images are cropped to squares (--set data.resize=squash trains without a crop)": (
            height != width and preprocessing.geometry.resize == "crop"
        ),
        "photos are antialiased where they shrink": not preprocessing.geometry.antialias,
    }
    return [*(reason for reason, is_so in wrong.items() if is_so), *reasons_against("transformers", config)]


def _processor(preprocessing: Preprocessing) -> dict[str, Any]:
    """Return the image processor's configuration: ViT's, which squashes, DeiT's, which also crops then, or CLIP's."""
    geometry = preprocessing.geometry
    height, width = preprocessing.image_size
    shared = {
        "do_normalize": True,
        "do_rescale": True,
        "do_resize": True,
        "rescale_factor": 1 / 255,
        "image_mean": list(preprocessing.mean),
        "image_std": list(preprocessing.std),
        "resample": _FILTERS[geometry.interpolation],
    }
    if geometry.resize == "squash":
        return {"image_processor_type": "ViTImageProcessor", "size": {"height": height, "width": width}, **shared}
    rows, columns = (math.floor(side / geometry.crop_fraction + 1e-6) for side in (height, width))
    shared |= {"crop_size": {"height": height, "width": width}, "do_center_crop": True}
    if geometry.resize == "squash-crop":
        return {"image_processor_type": "DeiTImageProcessor", "size": {"height": rows, "width": columns}, **shared}
    return {
        "image_processor_type": "CLIPImageProcessor",
        "size": {"shortest_edge": rows},
        "do_convert_rgb": len(preprocessing.mean) > 1,
        **shared,
    }
