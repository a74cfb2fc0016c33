"""ONNX export: one file, for batches of any size, with preprocessing and classes in its metadata."""

import json
import logging
import warnings
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import torch
from torch import Tensor

from vitcli.core.preprocessing import Preprocessing
from vitcli.models.export.exported import Exported
from vitcli.models.vit import VisionTransformer

_OPSET = 18


def write(model: VisionTransformer, classes: Sequence[str], preprocessing: Preprocessing, path: Path) -> Exported:
    """Write the file ``path``, and return what was loaded from it.

    The input is called ``images``, (batch, C, H, W), the output ``logits``, (batch, classes).
    """
    import onnx
    import onnxruntime

    example = torch.zeros(2, model.config.in_channels, *model.config.image_size)
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings(action="ignore"):
        torch.onnx.export(
            model,
            (example,),
            path,
            dynamo=True,
            external_data=False,
            opset_version=_OPSET,
            input_names=["images"],
            output_names=["logits"],
            dynamic_shapes={"images": {0: torch.export.Dim("batch")}},
            verbose=False,
        )
    graph = onnx.load(path)
    notes = {"classes": classes, "preprocessing": asdict(preprocessing), "model": asdict(model.config)}
    onnx.helper.set_model_props(graph, {name: json.dumps(value) for name, value in notes.items()})
    onnx.save(graph, path)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])

    def run(images: Tensor) -> Tensor:
        return torch.from_numpy(session.run(["logits"], {"images": images.numpy()})[0])

    return Exported(run)
