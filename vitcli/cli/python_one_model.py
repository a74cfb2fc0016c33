"""The functions of ``import vitcli`` that explain and export one model."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from vitcli.attention.registry import DEFAULT_METHOD
from vitcli.cli.options import EXPERIMENTS
from vitcli.cli.python_training import StrPath, checked_options, showing
from vitcli.core.events import Emit

if TYPE_CHECKING:
    from PIL import Image
    from torch import Tensor

    from vitcli.attention.evidence import Options
    from vitcli.attention.targets import TargetScore
    from vitcli.explaining.maps import AttentionMap
    from vitcli.models.vit import VisionTransformer
    from vitcli.trained.loading import LoadedModel
    from vitcli.workflows.export import ExportResult


@checked_options
def attention_map(
    model: "StrPath | LoadedModel | VisionTransformer",
    image: "StrPath | Image.Image | Tensor",
    *,
    method: str = DEFAULT_METHOD,
    target: str | int = "pred",
    score: "TargetScore" = "logit",
    layers: Sequence[int] = (),
    heads: Sequence[int] = (),
    options: "Options | None" = None,
    steps: int = 16,
) -> "AttentionMap":
    """Explain one image: compute its attention map.

    Args:
        model: a run or its result, checkpoint or name (empty: the newest finished run), a model from ``load_model``, or
            a module, which takes only tensors, and gives maps without pictures.
        image: a file, a picture, or the normalised model input, (C, H, W).
        method: a method of ``vit attention-map``.
        target: the class to explain: ``pred``, a name, or an index.
        score: the score to explain: the logit, or the log-odds (``contrast``).
        layers: the layers to use, from 0, negative numbers from the end; empty: the default layers of the method.
        heads: the heads to use, from 0, negative numbers from the end; empty: all.
        options: options of the method; None: the usual ones.
        steps: the number of steps of integrated gradients.
    """
    from vitcli.attention.evidence import Options
    from vitcli.workflows.attention_api import attention_map as workflow

    return workflow(
        model,
        Path(image) if isinstance(image, os.PathLike) else image,
        method=method,
        target=target,
        score=score,
        layers=layers,
        heads=heads,
        options=options or Options(),
        steps=steps,
    )


@checked_options
def export(
    model: StrPath = "",
    *,
    format: str = "onnx",  # noqa: A002 - the option's name
    output: StrPath | None = None,
    output_dir: StrPath = EXPERIMENTS,
    overwrite: bool = False,
    offline: bool = False,
    quiet: bool = False,
    emit: Emit | None = None,
) -> "ExportResult":
    """Export a model for another library, load the exported file there, and compare the logits, as ``vit export`` does.

    Args:
        model: a run or its result, a file or pretrained weights; empty: the newest finished run.
        format: onnx, torchscript, timm or transformers.
        output: the file or folder to write, or a folder for the file; None: a place in the run, or else in the current
            folder.
        output_dir: the folder of all runs.
        overwrite: replace an earlier export.
        offline: download no weights.
        quiet, emit: as for ``train``.
    """
    with showing(emit, quiet=quiet) as listener:
        from vitcli.workflows.export import export as workflow

        return workflow(
            os.fspath(model),
            format=format,
            output=Path(output) if output else None,
            output_dir=Path(output_dir),
            overwrite=overwrite,
            offline=offline,
            emit=listener,
        )
