"""Export of a model for another library; the exported file is loaded and checked at once."""

import shlex
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import sklearn
import torch
from PIL import Image
from torch import Tensor

from vitcli.core.errors import FileError, InstallError, ModelError, UsageError, visible
from vitcli.core.events import Emit, Warned, ignore
from vitcli.core.files import expanded, writing_in
from vitcli.core.preprocessing import Preprocessing, format_size
from vitcli.core.registry import load_object
from vitcli.core.run_search import output_dir_option
from vitcli.core.stored import read_json
from vitcli.data.preprocess import InputTransform, to_array
from vitcli.engine.checkpoint import disk_errors
from vitcli.models.export.exported import MADE_BY, Exported, mark
from vitcli.models.export.registry import EXPORTS, ExportEntry
from vitcli.models.vit import VisionTransformer
from vitcli.trained.loading import LoadedModel, load_model

_TOLERANCE = 1e-4
_MOST_UNLIKE = 1.5
"""The largest mean difference of inputs, in grey levels: resampling rounds differently in each library."""
_PHOTOS = {"china.jpg": None, "flower.jpg": (100, 0, 401, 427)}
"""Photos that come with scikit-learn, and the box that is used: 640 x 427 and 301 x 427 pixels."""
_BATCHES = (1, 3)
"""Batch sizes of the check; they differ from 2, the batch size that exporters trace with."""
_EXPORTED = {"config.json", "model.safetensors", "preprocessor_config.json"}
"""The files of an exported folder."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ExportResult:
    """The result of an export."""

    model: str
    format: str
    """Name of the format."""
    path: Path
    """The file or the folder that was written."""
    max_difference: float
    """The largest difference between the logits of the model and of the exported one, on random images."""
    input_difference: float | None
    """The mean difference between the inputs that vit and the other library make of photos, in grey levels of 255, for
    the photo where it is largest; None: the other library leaves preprocessing to its user."""
    input_shift: int
    """Pixels by which the other library's crops lie further up or left: 1 if it rounds their position down."""

    def __repr__(self) -> str:
        return visible(f"<ExportResult of {self.model}: {self.format}, {self.path}, {self.logits_in_words()}>")

    def logits_in_words(self) -> str:
        """Describe how far the logits differ."""
        if not self.max_difference:
            return "logits are the same"
        return f"logits differ by at most {self.max_difference:.1e}"


def export(
    model: str = "",
    *,
    format: str = "onnx",  # noqa: A002 - the field's word
    output: Path | None = None,
    output_dir: Path = Path("experiments"),
    overwrite: bool = False,
    offline: bool = False,
    emit: Emit = ignore,
) -> ExportResult:
    """Export a model for another library, load the exported file there, and compare the logits.

    Args:
        model: a run, a file or pretrained weights; empty: the newest finished run.
        format: a format of ``models.export.registry``.
        output: the file or folder to write, or a folder for the file; None: a place in the run, or else in the current
            folder.
        output_dir: the folder of all runs.
        overwrite: replace an earlier export.
        offline: download no weights.
        emit: receives notes about the chosen model.

    Raises:
        UsageError: there is no such format.
        InstallError, FileError: a package that it needs is missing, or the file already exists.
        ModelError: the format cannot express the model, or the exported model computes something else; then no file is
            written.
    """
    entry = EXPORTS[format]
    if missing := [name for name in entry.needs if find_spec(name) is None]:
        raise InstallError(
            f"--format {format} needs {', '.join(missing)}, which {'is' if len(missing) == 1 else 'are'} not installed",
            hint=f"uv pip install {' '.join(missing)}",
        )
    loaded = load_model(
        model,
        output_dir=output_dir,
        device="cpu",
        offline=offline,
        needs_head=False,
        use=f"`vit export {{}}{output_dir_option(output_dir)}` exports it",
        emit=emit,
    )
    path = _destination(output, entry, loaded, overwrite=overwrite)
    with (
        writing_in(path.parent, fault=ModelError, what_then="or name another place with --output"),
        disk_errors(path),
        _folder_beside(path) as folder,
    ):
        written = Path(folder) / path.name
        exported: Exported = load_object(entry.function)(
            loaded.model, loaded.checkpoint.classes, loaded.checkpoint.preprocessing, written
        )
        differences = [_difference(loaded.model, exported.run, batch) for batch in _BATCHES]
        if not all(difference <= _TOLERANCE for difference in differences):  # NaN is refused too
            raise ModelError(
                f"the exported {format} file differs from the model: logits by up to {max(differences):.1e}",
                hint="nothing was kept; please report this, with the output of `vit env`",
            )
        unlike, shift = (
            _input_difference(loaded.checkpoint.preprocessing, exported.prepare) if exported.prepare else (None, 0)
        )
        if unlike is not None and not unlike <= _MOST_UNLIKE:
            raise ModelError(
                f"{format} would prepare photos in another way: inputs differ by {unlike:.1f} of 255 grey levels",
                hint="nothing was kept; --format onnx leaves preprocessing to you",
            )
        if entry.is_folder:
            mark(written)
        before = Path(folder) / "replaced"
        if path.is_dir():
            path.replace(before)
        try:
            written.replace(path)
        except OSError:
            if before.exists():
                before.replace(path)
            raise
    geometry = loaded.checkpoint.preprocessing.geometry
    if exported.prepare and geometry.size != loaded.checkpoint.preprocessing.image_size:
        size = format_size(geometry.size)
        shrunk = f"vit first resizes every image to {size} pixels, and {format} does not"
        emit(Warned(text=f"{shrunk}: give it images of that size, else its predictions differ"))
    if loaded.checkpoint.preprocessing.geometry.value_range and exported.prepare:
        emit(
            Warned(text=f"{format} reads images with more than 8 bits per value in its own way: convert them to 8 bits")
        )
    return ExportResult(
        model=loaded.name,
        format=format,
        path=path,
        max_difference=max(differences),
        input_difference=unlike,
        input_shift=shift,
    )


@contextmanager
def _folder_beside(path: Path) -> Iterator[str]:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".export-", dir=path.parent) as folder:
        yield folder


def _destination(output: Path | None, entry: ExportEntry, loaded: LoadedModel, *, overwrite: bool) -> Path:
    """Return the file or folder to write; an existing one must be an earlier export, and ``overwrite`` must be set."""
    path = expanded(output or _usual_place(entry, loaded))
    if path.is_symlink():
        raise FileError(f"{path} is a link, which is never replaced", hint="--output writes elsewhere")
    path = path.resolve()
    if path.is_dir() and not entry.is_folder:
        path /= entry.name
    suffix = Path(entry.name).suffix
    if path.suffix != suffix and not entry.is_folder:
        raise UsageError(
            f"{path} does not end in {suffix}", hint=f"--output {shlex.quote(str(path.with_suffix(suffix)))}"
        )
    if not path.exists():
        return path
    if path.is_dir() != entry.is_folder or (entry.is_folder and not _is_export(path)):
        raise FileError(f"{path} is not an earlier export, so it is not replaced", hint="--output writes elsewhere")
    if not overwrite:
        raise FileError(f"{path} already exists", hint="--overwrite replaces it, --output writes elsewhere")
    return path


def _is_export(folder: Path) -> bool:
    """Tell whether a folder holds an export of vit and nothing else."""
    try:
        config = read_json(folder / "config.json")
    except (OSError, ValueError):
        return False
    return {file.name for file in folder.iterdir()} <= _EXPORTED and MADE_BY in config


def _usual_place(entry: ExportEntry, loaded: LoadedModel) -> Path:
    if not loaded.run:
        return Path(f"{loaded.name}.{entry.name}")
    is_best = loaded.path.resolve() == loaded.run.best_checkpoint.resolve()
    return loaded.run.exports / (entry.name if is_best else f"{loaded.path.stem}-{entry.name}")


@torch.no_grad()
def _difference(model: VisionTransformer, run: Callable[[Tensor], Tensor], batch: int) -> float:
    """Compute the largest difference of logits on random images."""
    generator = torch.Generator().manual_seed(batch)
    images = torch.randn(batch, model.config.in_channels, *model.config.image_size, generator=generator)
    return float((model(images) - run(images)).abs().max())


def _input_difference(preprocessing: Preprocessing, prepare: Callable[[Image.Image], Tensor]) -> tuple[float, int]:
    """Compare the model inputs that vit and another library make of photos.

    A model for images of one small size gets photos of that size.

    Returns:
        The mean difference in grey levels, for the photo where it is largest; and the shift in pixels with which it was
        computed: 1 if the other library's crops lie a pixel further up or left for any of the photos.
    """
    geometry, to_input = preprocessing.geometry, InputTransform(preprocessing, torch.device("cpu"))
    differences, shifts = [], []
    for name, box in _PHOTOS.items():
        with Image.open(Path(sklearn.__file__).parent / "datasets" / "images" / name) as photo:
            image = photo.crop(box or (0, 0, *photo.size)).convert("L" if geometry.channels == 1 else "RGB")
        if geometry.size != preprocessing.image_size:
            image = image.resize(geometry.size[::-1])
        ours, theirs = to_input(torch.from_numpy(to_array(image, geometry))[None])[0], prepare(image)
        if ours.shape != theirs.shape:
            return float("inf"), 0
        ours, theirs = to_input.undone(ours), to_input.undone(theirs)
        height, width = preprocessing.image_size
        by_shift = {
            (down, right): float((ours[:, : height - down, : width - right] - theirs[:, down:, right:]).abs().mean())
            for down in (0, 1)
            for right in (0, 1)
        }
        shift = min(by_shift, key=lambda each: by_shift[each])
        differences.append(by_shift[shift])
        shifts.append(max(shift))
    return max(differences), max(shifts)
