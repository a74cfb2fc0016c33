"""From what a user calls a model (nothing, a run, a file) to a model that is ready for use."""

from dataclasses import dataclass
from pathlib import Path

import torch

from vitcli.core.errors import ModelError, RunError
from vitcli.core.events import Emit, Note
from vitcli.core.runs import Run, find_run, newest_finished, run_of_checkpoint
from vitcli.data.preprocess import InputTransform
from vitcli.engine.checkpoint import Checkpoint, load_checkpoint
from vitcli.engine.device import Precision, choose_device
from vitcli.models.vit import VisionTransformer


@dataclass(frozen=True, kw_only=True)
class LoadedModel:
    """A trained model on its device, in evaluation mode."""

    model: VisionTransformer
    checkpoint: Checkpoint
    path: Path
    run: Run | None
    """The run that the checkpoint lies in, where it lies in one."""
    device: torch.device
    precision: Precision

    @property
    def name(self) -> str:
        """The run's name, else the file's."""
        return self.run.name if self.run else self.path.stem

    @property
    def to_input(self) -> InputTransform:
        """From uint8 batches on the device to model input."""
        return InputTransform(self.checkpoint.preprocessing, self.device)


def load_model(name: str, *, output_dir: Path, device: str, emit: Emit) -> LoadedModel:
    """The model of a run or of a checkpoint file; of the newest finished run if none is named.

    Args:
        name: a run's name or path, a checkpoint file, or nothing.
        output_dir: where runs are.
        device: auto, cpu, cuda, cuda:N or mps.
        emit: told which model was taken.
    """
    chosen_device = choose_device(device)
    path, run = find_checkpoint(name, output_dir)
    checkpoint = load_checkpoint(path)
    if not name:
        assert run is not None
        epoch = checkpoint.provenance.get("epoch")
        emit(Note(text=f"model: the newest finished run, {run.name} (epoch {epoch}, its best)"))
    model = VisionTransformer(checkpoint.model)
    try:
        model.load_state_dict(dict(checkpoint.weights))
    except RuntimeError as error:
        raise ModelError(f"the weights in {path} do not fit its configuration: {error}") from None
    return LoadedModel(
        model=model.to(chosen_device).eval(),
        checkpoint=checkpoint,
        path=path,
        run=run,
        device=chosen_device,
        precision=Precision(
            chosen_device,
            amp=checkpoint.provenance.get("amp", "auto"),
            dtype=checkpoint.provenance.get("amp_dtype", "bfloat16"),
        ),
    )


def find_checkpoint(name: str, output_dir: Path) -> tuple[Path, Run | None]:
    """The file of a model: the best checkpoint of a run, or the file itself."""
    path = Path(name)
    if name and (path.is_file() or path.suffix == ".safetensors"):
        return path, run_of_checkpoint(path)
    run = find_run(name, output_dir) if name else newest_finished(output_dir)
    for checkpoint in (run.best_checkpoint, run.checkpoint("last")):  # no best one when the first epoch was cut short
        if checkpoint.exists():
            return checkpoint, run
    raise RunError(f"run {run.name} has no checkpoint yet (it is {run.status})")
