"""Train a Vision Transformer: settings to a run on disk."""

from pathlib import Path

from vitcli.core.config_files import Settings, configure
from vitcli.core.events import Emit, ignore
from vitcli.engine.distributed import joined
from vitcli.training.folds import FoldsResult, train_folds
from vitcli.training.result import TrainResult
from vitcli.training.resumed_run import resume_begun
from vitcli.training.run import start
from vitcli.training.settings import settle


def train(*layers: Settings, emit: Emit = ignore) -> TrainResult | FoldsResult:
    """Train a model and keep it as a run; with ``data.folds`` and without ``data.fold``, one run for every fold.

    Args:
        layers: settings, the later the stronger: ``{"data": {"name": "digits"}, "optim": {"epochs": 3}}``. Below
            them lies the recipe that ``run.recipe`` names, else the data set's own; below that the defaults.
        emit: told about the progress.

    Raises:
        UsageError, DataError, ModelError, RunError, DeviceError: before anything is written.
        TrainingError, Interrupted: the run is marked so, and keeps its checkpoints; folds that ended before stay.
    """
    data = configure(*layers).data
    if data.folds and not data.fold:
        return train_folds(*layers, emit=emit, train_one=_train_one)
    return _train_one(*layers, emit=emit)


def _train_one(*layers: Settings, emit: Emit) -> TrainResult:
    asked = configure(*layers).run
    with joined(asked.devices, shard=asked.shard) as processes:
        emit = ignore if processes.rank else emit
        if begun := processes.begun_run:  # these were started in place of some that were lost
            return resume_begun(Path(begun), processes, emit)
        config, dataset = processes.in_turn(lambda: settle(layers, emit))
        return start(config, dataset, processes=processes, emit=emit)
