"""Training of a Vision Transformer, from settings to a run on disk."""

from pathlib import Path

from vitcli.core.config_files import Settings, configure
from vitcli.core.events import Emit, ignore
from vitcli.core.groups import members_of_settings, with_first_seed
from vitcli.engine.distributed import joined
from vitcli.training.groups import FoldsResult, SeedsResult, sum_up_last, train_group
from vitcli.training.result import TrainResult
from vitcli.training.resumed_run import resume_begun
from vitcli.training.run import start
from vitcli.training.settings import settle


def train(*layers: Settings, emit: Emit = ignore) -> TrainResult | FoldsResult | SeedsResult:
    """Train a model and store it as a run; with ``data.folds`` or ``run.seeds``, train several.

    Args:
        layers: settings such as ``{"data": {"name": "digits"}, "optim": {"epochs": 3}}``; later layers win. They
            override the recipe (``run.recipe``, else the data set's own), which overrides the defaults.
        emit: receives the progress.

    Raises:
        UsageError, DataError, ModelError, RunError, DeviceError: a setting is wrong, or something does not exist; found
            before anything is written.
        TrainingError, Interrupted: training failed or was stopped; the run is marked so and keeps its checkpoints, and
            runs of a group that ended before are kept.
    """
    layers = with_first_seed(layers)
    if members_of_settings(configure(*layers)):
        return train_group(*layers, emit=emit, train_one=_train_one)
    result = _train_one(*layers, emit=emit)
    sum_up_last(result, emit)
    return result


def _train_one(*layers: Settings, emit: Emit) -> TrainResult:
    asked = configure(*layers).run
    with joined(asked.devices, shard=asked.shard) as processes:
        emit = ignore if processes.rank else emit
        if begun := processes.begun_run:  # the launcher has restarted the processes after one was lost
            return resume_begun(Path(begun), processes, emit)
        config, dataset, _ = processes.in_turn(lambda: settle(layers, emit))
        return start(config, dataset, processes=processes, emit=emit)
