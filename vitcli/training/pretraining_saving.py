"""Saving of the weights and states of a pretraining, and reading of states."""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

from vitcli.core.config_files import recipe_names
from vitcli.core.errors import RunError
from vitcli.core.files import writing_in
from vitcli.engine.checkpoint import Checkpoint, provenance_in, save_checkpoint
from vitcli.engine.state import State, copied, save_state
from vitcli.models.masked import MaskedModel
from vitcli.trained.model_names import find_model
from vitcli.training.pretraining import OBJECTIVE, Pretraining
from vitcli.training.recipe import FOR_WEIGHTS


def recipe_of_pretrained(init_from: str, output_dir: Path) -> str | None:
    """Return the recipe of weights that were pretrained without labels; None: they were not.

    It is empty if the recipe is not one of vit's for training from random weights.

    Args:
        init_from: the name of the weights, as for ``find_model``; empty: there are none.
        output_dir: the folder of all runs.
    """
    found = find_model(init_from, output_dir) if init_from else None
    provenance = provenance_in(found) if isinstance(found, Path) else {}
    if provenance.get("objective") != OBJECTIVE:
        return None
    recipe = str(provenance.get("recipe", ""))
    return recipe if recipe in recipe_names() and recipe not in FOR_WEIGHTS else ""


class PretrainingSaver:
    """A saver of states; after an epoch, it saves the weights too.

    Args:
        work: the pretraining to save in.
        model: the model that is pretrained.
        provenance: the origin of the weights.
        seconds: a function that returns the time taken so far.
    """

    def __init__(
        self, work: Pretraining, model: MaskedModel, provenance: Mapping[str, Any], seconds: Callable[[], float]
    ) -> None:
        self.work, self.model, self.provenance, self._seconds = work, model, provenance, seconds

    def save_epoch(self, state: State) -> None:
        """Save the weights, the state and the results of the epochs."""
        self.work.remember(state["records"])
        last, model = self.work.stored.epochs[-1], self.model.model
        checkpoint = Checkpoint(
            model=replace(model.config, num_classes=0),
            classes=(),
            preprocessing=self.work.preprocessing,
            provenance={
                **self.provenance,
                "epoch": last.epoch,
                "train_loss": last.train_loss,
                "val_loss": last.val_loss,
            },
            weights={name: value for name, value in model.state_dict().items() if not model.is_head(name)},
        )
        with self._writing():
            save_checkpoint(self.work.weights, checkpoint, makes_folder=False)
            self.save_step(state)

    def save_step(self, state: State) -> None:
        """Save the state in the middle of an epoch."""
        self.work.stored.seconds = self._seconds()
        with self._writing():
            path, before = self.work.states
            path.parent.mkdir(exist_ok=True)
            kept = copied({**state, "seconds": self.work.stored.seconds})
            save_state(path, kept, before=before, makes_folder=False)
            self.work.save()

    def _writing(self) -> AbstractContextManager[None]:
        then = f"then `{self.work.resume_command}` continues"
        return writing_in(self.work.path, fault=RunError, what_then=then)
