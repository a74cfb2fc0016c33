"""Show which patches of an image a prediction rests on."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from vitcli.attention.evidence import HeadFusion, Options
from vitcli.core.errors import UsageError
from vitcli.core.events import Emit, TaskProgress, Warned, ignore
from vitcli.data.preprocess import load_array
from vitcli.data.sources.image_folder import IMAGE_SUFFIXES
from vitcli.figures.attention import draw_attention
from vitcli.workflows.explaining import Question, explain
from vitcli.workflows.images import image_files
from vitcli.workflows.loading import LoadedModel, load_model


@dataclass(frozen=True, kw_only=True)
class AttentionMap:
    """One image: what was predicted, the weight of every patch, and the picture."""

    path: Path
    predicted: str
    probability: float
    method: str
    weights: NDArray[np.float32]
    """(h, w) of the patch grid."""
    prefix_share: float
    """Share of the attention that rests on class and register tokens, which no pixel shows."""
    figure: Path


def attention_map(
    inputs: Sequence[str],
    *,
    model: str = "",
    method: str = "rollout",
    layers: Sequence[int] = (),
    heads: Sequence[int] = (),
    head_fusion: HeadFusion = "mean",
    output: Path | None = None,
    output_dir: Path = Path("experiments"),
    device: str = "auto",
    offline: bool = False,
    emit: Emit = ignore,
) -> list[AttentionMap]:
    """Draw an attention map for each image.

    Args:
        inputs: files, folders and patterns.
        model: a run or checkpoint; empty: the newest finished run.
        method: a name of ``attention.registry``.
        layers: blocks to use, counted from 0, negative ones from the end; none: what the method says.
        heads: heads to use, counted likewise; none: all.
        head_fusion: how heads become one.
        output: folder for the pictures, or a ``.png`` file for one image; None: the run's own, or here.
        output_dir: where runs are.
        device: auto, cpu, cuda, cuda:N or mps.
        offline: fetch no weights.
        emit: told about the progress.

    Raises:
        UsageError: no such method, layer or head.
        DataError: an image cannot be read.
    """
    files = image_files(inputs)
    loaded = load_model(model, output_dir=output_dir, device=device, offline=offline, needs_head=False, emit=emit)
    figures = _figure_paths(files, method, output, loaded)
    maps = []
    for done, (file, figure) in enumerate(zip(files, figures, strict=True)):
        emit(TaskProgress(task="drawing attention", done=done, total=len(files)))
        maps.append(_one_map(file, figure, loaded, method, layers, heads, head_fusion, emit))
    emit(TaskProgress(task="drawing attention", done=len(files), total=len(files)))
    return maps


def _one_map(
    file: Path,
    figure: Path,
    loaded: LoadedModel,
    method: str,
    layers: Sequence[int],
    heads: Sequence[int],
    fusion: HeadFusion,
    emit: Emit,
) -> AttentionMap:
    config = loaded.checkpoint.model
    pixels = load_array(file, loaded.checkpoint.preprocessing.geometry)
    batch = torch.from_numpy(pixels)[None].to(loaded.device)
    question = Question(methods=(method,), layers=tuple(layers), heads=tuple(heads), options=Options(fusion=fusion))
    explanation = explain(loaded.model, loaded.to_input(batch), question)
    probabilities = explanation.logits.softmax(dim=1)[0]
    share = float(explanation.prefix_shares[method][0, 0])
    weights = explanation.maps[method][0, 0].cpu().numpy()
    if not weights.any():
        emit(Warned(text=f"{file.name}: all weights are 0, there is nothing to see"))
    predicted, probability = "no classifier", 0.0
    if config.num_classes:
        best = int(probabilities.argmax())
        predicted, probability = loaded.checkpoint.classes[best], float(probabilities[best])
    draw_attention(
        pixels,
        weights,
        figure,
        title=f"{file.name}: {predicted}" + (f", {100 * probability:.1f} %" if config.num_classes else ""),
        label=f"{method}: share of attention per patch",
    )
    return AttentionMap(
        path=file,
        predicted=predicted,
        probability=probability,
        method=method,
        weights=weights,
        prefix_share=share,
        figure=figure,
    )


def _figure_paths(files: Sequence[Path], method: str, output: Path | None, loaded: LoadedModel) -> list[Path]:
    """A file for every image; images of one name in different folders are told apart by a number."""
    if output is not None and output.suffix.lower() == ".png":
        if len(files) > 1:
            raise UsageError(f"{output} is one file, but there are {len(files)} images", hint="give a folder")
        return [output]
    if output is not None and output.suffix.lower() in IMAGE_SUFFIXES:
        raise UsageError(f"{output}: figures are PNG files", hint=f"--output {output.with_suffix('.png')}")
    if output is not None and output.is_file():
        raise UsageError(f"{output} is a file, and no picture", hint="give a folder, or a .png file for one image")
    folder = output or (loaded.run.attention_dir if loaded.run else Path())
    paths: list[Path] = []
    for file in files:
        path, number = folder / f"{file.stem}.{method}.png", 2
        while path in paths:
            path, number = folder / f"{file.stem}-{number}.{method}.png", number + 1
        paths.append(path)
    return paths
