"""The images to explain: files, or a split of a data set."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from vitcli.core.errors import UsageError
from vitcli.core.events import Emit, Note
from vitcli.core.preprocessing import Size
from vitcli.data.cache import PreparedSplit
from vitcli.data.decoding import read_header
from vitcli.data.image_files import image_files
from vitcli.data.preprocess import load_array
from vitcli.data.samples import whole_image, whole_images
from vitcli.data.value_range import with_value_range
from vitcli.trained.judged_images import AskedSplit, choose_images
from vitcli.trained.loading import LoadedModel, load_model

_LONGEST = 1024
"""Pixels of the longer side of a whole picture when it is drawn, at most."""
_LONGEST_STEM = 120
"""Bytes of an image's name in the names of its output files, at most."""
_ON_HINT = "vit attention-map IMAGE..., or --dataset NAME"


@dataclass(frozen=True, kw_only=True)
class ImageToExplain:
    """One image to explain; it is read when it is needed."""

    name: str
    stem: str
    """The start of the names of the image's output files; unique among the images."""
    truth: int | None
    """The true class, as an index of the model's classes; None: unknown."""
    seed: int
    file: Path | None
    """The image file; None: the data set has no image files."""
    read: Callable[[], NDArray[np.uint8]]
    """A function that reads the pixels that the model sees, (C, H, W); raises DataError."""
    read_whole: Callable[[], NDArray[np.uint8]]
    """A function that reads the original picture, (C, H, W), made smaller if it is large; raises DataError."""

    @property
    def source(self) -> str:
        """The origin of the image: the path of its file, else its name."""
        return str(self.file.resolve()) if self.file else self.name

    def size(self) -> Size:
        """Return the height and width of the original picture; raises DataError."""
        if self.file is not None:
            return read_header(self.file)[0]
        _, height, width = self.read_whole().shape
        return height, width


@dataclass(frozen=True, kw_only=True)
class ImageSource:
    """A model, and the images that it explains."""

    inputs: Sequence[str] = ()
    """Files, folders and patterns; empty: a split of a data set."""
    model: str = ""
    """A run or checkpoint; empty: the newest finished run."""
    dataset: str = ""
    """The data set; empty: the one that the model was trained on."""
    split: AskedSplit = "auto"
    limit: int = 0
    """The number of images to choose at random from the split or the files; 0: all."""
    seed: int = 0
    """The seed for the choice of images."""
    output_dir: Path = field(default=Path("experiments"))
    """The folder of all runs."""
    directory: str = ""
    """The folder of data sets; empty: as in training."""
    device: str = "auto"
    offline: bool = False

    def open(self, emit: Emit, *, needs_head: bool = False) -> tuple[LoadedModel, list[ImageToExplain]]:
        """Load the model onto its device, and list the images.

        Raises:
            UsageError, DataError, ModelError, RunError: something does not exist, or settings contradict each other.
        """
        if self.inputs and (self.dataset or self.split != "auto"):
            raise UsageError("images come from files or from a data set, not from both", hint=_ON_HINT)
        if self.limit < 0:
            raise UsageError(f"limit {self.limit} is negative")
        files = image_files(self.inputs, emit) if self.inputs else []
        loaded = load_model(
            self.model,
            output_dir=self.output_dir,
            device=self.device,
            offline=self.offline,
            needs_head=needs_head,
            emit=emit,
        )
        images = self._of_files(files, loaded, emit) if files else self._of_split(loaded, emit)
        return loaded, images

    def _chosen(self, count: int) -> NDArray[np.int64]:
        """Choose images out of ``count``, and return their indices in order."""
        chosen = np.arange(count)
        if self.limit and self.limit < count:
            chosen = np.sort(np.random.default_rng(self.seed).permutation(count)[: self.limit])
        return chosen

    def _of_files(self, files: Sequence[Path], loaded: LoadedModel, emit: Emit) -> list[ImageToExplain]:
        """List files as images; the true class is known if a file's folder has the name of a class."""
        chosen = [int(number) for number in self._chosen(len(files))]
        stored = loaded.checkpoint.preprocessing.geometry
        geometry = with_value_range([stored], [files[number] for number in chosen], emit)[stored]
        classes = loaded.checkpoint.classes
        stems = _stems()
        if any(files[number].parent.name in classes for number in chosen):
            emit(Note(text="the true class of an image is the name of its folder, where that is a class of the model"))
        return [
            ImageToExplain(
                name=str(file),
                stem=stems(file.stem),
                truth=classes.index(file.parent.name) if file.parent.name in classes else None,
                seed=number,
                file=file,
                read=partial(load_array, file, geometry),
                read_whole=partial(whole_image, file, geometry.channels, _LONGEST, geometry.value_range),
            )
            for number, file in ((number, files[number]) for number in chosen)
        ]

    def _of_split(self, loaded: LoadedModel, emit: Emit) -> list[ImageToExplain]:
        judged = choose_images(
            [loaded],
            dataset=self.dataset,
            split=self.split,
            directory=self.directory,
            offline=self.offline,
            hint=_ON_HINT,
            emit=emit,
        )
        dataset, found = judged.dataset, judged.subset.found
        everything = judged.subset.indices(dataset)
        members = everything[self._chosen(len(everything))]
        prepared = dataset.split(found, loaded.checkpoint.preprocessing.geometry, members=members, emit=emit)
        truths = _truths(prepared, dataset.facts.classes, loaded.checkpoint.classes, emit)
        names = dataset.names(found, members)
        stems = _stems()

        files = dataset.raw.splits[found].files if dataset.raw else None

        def read(at: int) -> NDArray[np.uint8]:
            pixels: NDArray[np.uint8] = prepared.images[torch.tensor([at])][0].numpy()
            return pixels

        def read_whole(at: int) -> NDArray[np.uint8]:
            return whole_images(dataset, found, members[[at]], longest=_LONGEST)[int(members[at])]

        return [
            ImageToExplain(
                name=f"{dataset.facts.name} {judged.split} {name}" if isinstance(name, int) else name,
                stem=stems(f"{judged.split}-{name}" if isinstance(name, int) else Path(name).stem),
                truth=truths[at],
                seed=int(members[at]),
                file=files[members[at]] if files else None,
                read=partial(read, at),
                read_whole=partial(read_whole, at),
            )
            for at, name in ((int(at), names[at]) for at in prepared.readable())
        ]


def _shortened(name: str) -> str:
    """Cut a name to ``_LONGEST_STEM`` bytes, between two letters; names that are not UTF-8 are kept."""
    if len(os.fsencode(name)) <= _LONGEST_STEM:
        return name
    return name.encode(errors="replace")[:_LONGEST_STEM].decode(errors="ignore")


def _stems() -> Callable[[str], str]:
    """Return a function that makes file names unique: a number is added to a name that was used before."""
    taken: set[str] = set()

    def stem(name: str) -> str:
        short = _shortened(name)
        chosen, number = short, 2
        while chosen in taken:
            chosen, number = f"{short}-{number}", number + 1
        taken.add(chosen)
        return chosen

    return stem


def _truths(split: PreparedSplit, found: tuple[str, ...], known: tuple[str, ...], emit: Emit) -> list[int | None]:
    """Return the true class of each image, as an index of the model's classes; None: the model does not know it."""
    index = {name: at for at, name in enumerate(known)}
    unknown = [name for name in found if name not in index]
    if known and unknown:
        of = f"{len(unknown):,} of the {len(found):,} classes, for example {unknown[0]!r}"
        emit(Note(text=f"the model does not know {of}: their images have no true class here"))
    return [index.get(found[label]) for label in split.labels.tolist()]
