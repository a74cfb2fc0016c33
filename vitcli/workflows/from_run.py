"""Repetition of an earlier run as a new run: the same settings, initial weights and random numbers."""

from dataclasses import replace
from functools import partial
from pathlib import Path

from vitcli.core.config import TrainConfig
from vitcli.core.config_files import Settings, configure, settings_of
from vitcli.core.events import Emit, Note, Warned, ignore
from vitcli.core.fingerprints import is_same_data
from vitcli.core.groups import members_of_settings
from vitcli.core.model_config import ModelChoice, ModelConfig
from vitcli.core.runs import Run
from vitcli.data.dataset import Facts
from vitcli.data.registry import canonical_name
from vitcli.engine.distributed import Processes, joined
from vitcli.models.registry import with_its_patches_in_the_name
from vitcli.training.assembly import Earlier
from vitcli.training.groups import FoldsResult, SeedsResult, sum_up_last, train_group
from vitcli.training.result import TrainResult
from vitcli.training.resumed_run import architecture_of, resume_begun, tell_other_versions
from vitcli.training.resumed_settings import output_dir_of, run_to_repeat
from vitcli.training.run import start
from vitcli.training.settings import settle_again

_NOT_TOLD = frozenset(
    {
        "data.dir",
        "data.fold",
        "run.nth_seed",
        "run.name",
        "run.output_dir",
        "run.overwrite",
        "run.offline",
        "run.pretrained",
    }
)
"""Settings whose changes are not reported: paths, and settings of the new run itself."""


def from_run(name: str, *layers: Settings, emit: Emit = ignore) -> TrainResult | FoldsResult | SeedsResult:
    """Train again as an earlier run did; with the same data, versions and machine, results on a CPU are identical.

    Args:
        name: a run in ``run.output_dir``, its path, or a group, all of which is trained again.
        layers: settings that replace those of the run.
        emit: receives the progress, the changed settings, and warnings of other reasons for a different result.

    Raises:
        RunError: there is no such run, or it ended before its settings were stored.
        UsageError, DataError, ModelError, DeviceError, TrainingError, Interrupted: as ``train``.
    """
    run, stored = run_to_repeat(name, output_dir_of(layers))
    asked = configure(settings_of(stored), *layers)
    emit(Note(text=f"settings: those of run {run.name}"))
    tell_other_versions(run.info["versions"], emit)
    _tell_changes(stored, asked, emit)
    again = partial(_train_again, run, stored)
    if members_of_settings(asked):
        of_all: Settings = {
            "data": {"folds": asked.data.folds},
            "run": {"seeds": asked.run.seeds, "seed": asked.run.seed},
        }
        return train_group(of_all, *layers, emit=emit, train_one=again)
    result = again(*layers, emit=emit)
    sum_up_last(result, emit)
    return result


def _train_again(run: Run, stored: TrainConfig, *layers: Settings, emit: Emit) -> TrainResult:
    asked = configure(*layers).run
    with joined(asked.devices, shard=asked.shard) as processes:
        return _start_again(run, stored, layers, processes, ignore if processes.rank else emit)


def _start_again(
    run: Run, stored: TrainConfig, layers: tuple[Settings, ...], processes: Processes, emit: Emit
) -> TrainResult:
    if begun := processes.begun_run:
        return resume_begun(Path(begun), processes, emit)
    config, dataset = processes.in_turn(lambda: settle_again(stored, layers, emit))
    facts = dataset.facts
    if not is_same_data(run.fingerprint, facts.fingerprint):
        emit(Warned(text=f"{facts.name} is not the data that run {run.name} was trained on, so the result will differ"))
    is_same = all(getattr(config, name) == getattr(stored, name) for name in ("augment", "model", "optim")) and all(
        getattr(config.run, name) == getattr(stored.run, name) for name in ("amp", "amp_dtype", "compile")
    )
    return start(
        config,
        dataset,
        earlier=Earlier(
            architecture=_architecture(run, stored.model, config.model, facts),
            computed=run.info.get("computed") if is_same else None,
        ),
        processes=processes,
        emit=emit,
    )


def _architecture(run: Run, stored: ModelChoice, asked: ModelChoice, facts: Facts) -> ModelConfig | None:
    """Return the run's architecture with the given changes, for the data's channels and classes.

    None: the settings name another architecture.
    """
    if asked.name != stored.name:
        return None
    before = stored.changes
    changes = {key: value for key, value in asked.changes.items() if key not in before or before[key] != value}
    resolved = architecture_of(run)
    changes |= {"in_channels": facts.channels, "num_classes": len(facts.classes)}
    return with_its_patches_in_the_name(replace(resolved, **changes))


def _tell_changes(stored: TrainConfig, asked: TrainConfig, emit: Emit) -> None:
    before = settings_of(stored)
    asked = replace(asked, data=replace(asked.data, name=canonical_name(asked.data.name)))
    for section, table in settings_of(asked).items():
        for key, value in table.items():
            if value != before[section].get(key) and f"{section}.{key}" not in _NOT_TOLD:
                emit(Note(text=f"{section}.{key} = {value!r} (was {before[section].get(key)!r})"))
