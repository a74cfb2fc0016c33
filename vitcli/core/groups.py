"""Groups of runs in one folder: the folds of a cross-validation, or runs that differ only in their seed."""

from collections.abc import Sequence
from dataclasses import replace

from vitcli.core.config import TrainConfig
from vitcli.core.config_files import Settings, configure


def with_first_seed(layers: Sequence[Settings]) -> tuple[Settings, ...]:
    """Return layers of settings in which the seeds of a group count from 0, unless a layer has the first one."""
    has_seed = any("seed" in layer.get("run", {}) for layer in layers)
    return tuple(layers) if has_seed or not configure(*layers).run.seeds else ({"run": {"seed": 0}}, *layers)


def members_of_settings(config: TrainConfig) -> dict[str, Settings]:
    """Return the settings of each run of the group that a configuration asks for, by folder; empty: it asks for one run."""
    data, run = config.data, config.run
    if data.folds and not data.fold:
        return {f"fold-{fold}": {"data": {"fold": fold}} for fold in range(1, data.folds + 1)}
    if run.seeds and not run.nth_seed:
        return {
            f"seed-{run.seed + at}": {"run": {"seed": run.seed + at, "nth_seed": at + 1}} for at in range(run.seeds)
        }
    return {}


def member_folder(config: TrainConfig) -> str:
    """Return the folder of a run within its group; empty: it belongs to none."""
    if config.data.fold:
        return f"fold-{config.data.fold}"
    return f"seed-{config.run.seed}" if config.run.nth_seed else ""


def whole_group(config: TrainConfig) -> TrainConfig:
    """Return the configuration of the whole group that a run belongs to."""
    run = config.run
    first = run.seed - max(run.nth_seed - 1, 0)
    return replace(config, data=replace(config.data, fold=0), run=replace(run, seed=first, nth_seed=0))


def one_of(config: TrainConfig) -> TrainConfig:
    """Return the configuration of a run of several seeds as that of a run of its own; a fold stays a fold."""
    return replace(config, run=replace(config.run, seeds=0, nth_seed=0)) if config.run.nth_seed else config
