"""The settings of a run that is to go on: its own, but for where things are, what computes, and how long it trains."""

from dataclasses import replace

from vitcli.core.config import TrainConfig
from vitcli.core.config_files import Settings, configure, settings_of
from vitcli.core.errors import RunError, UsageError
from vitcli.core.runs import Run
from vitcli.data.dataset import canonical_name
from vitcli.data.registry import find_entry
from vitcli.data.store import data_dir
from vitcli.workflows.loggers import require_loggers
from vitcli.workflows.settings import paths_of
from vitcli.workflows.teacher import teacher_path

DERIVED = ("resolved_model", "preprocessing")
"""What ``config.json`` has besides settings."""
_FREE = frozenset(
    {
        *("data.name", "data.dir", "data.labels", "data.label_map", "data.cache", "data.workers", "teacher.name"),
        *(
            "run.device",
            "run.devices",
            "run.shard",
            "run.output_dir",
            "run.offline",
            "run.save_every",
            "run.save_steps",
            "run.grad_checkpointing",
        ),
        *("run.tensorboard", "run.wandb", "run.log_steps", "optim.grad_accum_steps"),
    }
)
"""Where things are (fingerprints tell whether data and teacher are the same), what computes, and what is kept; data sets
with a name of their own have no other."""
_LENGTH = frozenset({"optim.epochs", "optim.patience"})
"""How long to train, which may be thought over."""


def stored_settings(run: Run) -> TrainConfig:
    """The settings of a run."""
    content = run.config
    if any(name not in content for name in DERIVED):
        raise RunError(
            f"run {run.name} is of an earlier version, which kept no training state",
            hint=f"vit train --init-from {run.path} starts a new run from its weights",
        )
    return configure({name: table for name, table in content.items() if name not in DERIVED})


def resumed_settings(run: Run, layers: tuple[Settings, ...], *, length_too: bool = True) -> TrainConfig:
    """Those of a run, with what may be different.

    Raises:
        UsageError: what is asked for would make it another run.
    """
    stored = stored_settings(run)
    asked = configure(settings_of(stored), *layers)
    require_loggers(asked.run)
    folder = run.path.parent.parent if stored.data.folds else run.path.parent
    pretrained = asked.run.pretrained and not stored.run.init_from  # which came of it
    data: Settings = {
        "data": {
            **paths_of(asked.data),
            "name": canonical_name(asked.data.name),
            "dir": str(data_dir(asked.data.dir).resolve()),
        }
    }
    asked = configure(
        settings_of(asked),
        data,
        {"run": {"output_dir": str(folder), "pretrained": pretrained}},
        {"teacher": {"name": teacher_path(asked.teacher.name, folder)}},
    )
    replace(asked, run=replace(asked.run, overwrite=False)).check_together()  # which is refused below
    before = settings_of(stored)
    may_change = _FREE | _LENGTH if length_too else _FREE
    may_change -= set() if stored.teacher.name else {"teacher.name"}
    may_change -= {"data.name"} if find_entry(asked.data.name) else set()
    changed = [
        f"{section}.{key} = {value!r} (was {before[section].get(key)!r})"
        for section, table in settings_of(asked).items()
        for key, value in table.items()
        if value != before[section].get(key) and f"{section}.{key}" not in may_change
    ]
    if changed:
        raise UsageError(
            f"run {run.name} goes on with its own settings, but these are others: {', '.join(changed)}",
            hint=f"leave them out, or start a new run: --from-run {run.path} trains anew with them,"
            f" --init-from {run.path} starts from its weights",
        )
    return asked
