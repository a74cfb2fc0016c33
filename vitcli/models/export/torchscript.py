"""TorchScript export: one file that torch runs without vit."""

import json
import warnings
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import torch

from vitcli.core.preprocessing import Preprocessing
from vitcli.models.export.exported import Exported
from vitcli.models.vit import VisionTransformer


def write(model: VisionTransformer, classes: Sequence[str], preprocessing: Preprocessing, path: Path) -> Exported:
    """Write the file ``path``, and return what was loaded from it.

    Classes and preprocessing are extra files in it, ``classes.json`` and ``preprocessing.json``.
    """
    example = torch.zeros(2, model.config.in_channels, *model.config.image_size)
    notes = {"classes.json": json.dumps(classes), "preprocessing.json": json.dumps(asdict(preprocessing))}
    with warnings.catch_warnings(action="ignore"), torch.no_grad():  # torch recommends torch.export instead
        torch.jit.trace(model, example, check_trace=False).save(str(path), _extra_files=notes)
        loaded = torch.jit.load(str(path))
    return Exported(loaded)
