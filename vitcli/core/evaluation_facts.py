"""The facts of a stored evaluation: its images, how they were judged, and the command that stores it again."""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vitcli.core.runs import slug

_PARTS = ("out-of-fold", "train", "val", "test")
_BEST = "best.safetensors"


def eval_command(
    model: str,
    *,
    data: Sequence[str] = (),
    split: str = "test",
    views: str = "none",
    classes: str = "all",
    where: str = "",
) -> str:
    """Return the command that evaluates a model.

    Args:
        model: the name or the path of a run, a group or a checkpoint.
        data: the data set and its table of labels; empty: those that the model was trained on.
        split: the split; test: the usual one; out-of-fold: the validation split of a cross-validation.
        views: views of each image.
        classes: all or shared.
        where: the option of the folder of all runs.
    """
    words = ["vit", "eval", *data, "--model", model]
    for option, value, usual in (("split", split, "test"), ("tta", views, "none"), ("classes", classes, "all")):
        words += [f"--{option}", "val" if value == "out-of-fold" else value] * (value != usual)
    return shlex.join(words) + where


@dataclass(frozen=True, kw_only=True)
class EvaluationFacts:
    """A stored evaluation by its name and the content of its JSON file; early versions stored less."""

    stem: str
    """The name of the file: the split, after the name of the data set if it is not the run's own."""
    facts: Mapping[str, Any]
    """The content of the file; empty: it is not there."""

    @property
    def part(self) -> str:
        """The images in a word: a split, ``out-of-fold``, or ``all``."""
        named = next((part for part in _PARTS if f"{self.stem}-".startswith(f"{part}-")), "all")
        part: str = self.facts.get("part") or self.facts.get("split") or named
        return part

    @property
    def is_own(self) -> bool:
        """Tell whether the images are of the data that the run was trained on: else the name begins with theirs."""
        of_others = f"{slug(self.facts.get('dataset', ''))}-{self.part}"
        return f"{self.stem}-".startswith(f"{self.part}-") and not self.stem.startswith(of_others)

    @property
    def words(self) -> list[str]:
        """The data set and its table of labels as commands take them; empty: not known."""
        name = self.facts.get("data") or self.facts.get("dataset")
        return [*filter(None, [name]), *self.facts.get("table", ())]

    @property
    def views(self) -> str:
        """The views of each image, as ``--tta`` takes them."""
        views: str = self.facts.get("views", "none")
        return views

    @property
    def classes(self) -> str:
        """The classes that were chosen among, as ``--classes`` takes them."""
        classes: str = self.facts.get("class_choice") or ("shared" if self.stem.endswith("-shared") else "all")
        return classes

    @property
    def checkpoint(self) -> str:
        """The kind of the checkpoint: best, last, or an epoch."""
        return Path(self.facts.get("checkpoint", _BEST)).stem

    def model_in(self, folder: Path, model: str) -> str:
        """Return the same kind of checkpoint of a run as ``--model`` takes it: the run, or the path of another epoch.

        Args:
            folder: the folder of the run or the group.
            model: its name or its path.
        """
        path = folder / "checkpoints" / f"{self.checkpoint}.safetensors"
        return str(path) if path.name != _BEST and path.exists() else model

    def command(self, folder: Path, model: str, where: str = "") -> str:
        """Return the command that stores the evaluation again.

        Args:
            folder: the folder of the run or the group.
            model: its name or its path.
            where: the option of the folder of all runs.
        """
        return eval_command(
            self.model_in(folder, model),
            data=() if self.is_own else self.words,
            split="test" if self.part == "all" else self.part,
            views=self.views,
            classes=self.classes,
            where=where,
        )
