"""The end of a search for settings: finalists against the default on fresh seeds, the answer, and a recipe of the winner."""

import json
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import mean
from typing import Any

from vitcli.core.addresses import without_secrets
from vitcli.core.config import DataConfig, TrainConfig
from vitcli.core.config_files import settings_of
from vitcli.core.errors import counted, visible
from vitcli.core.means import MeanDifference, differences_from_first
from vitcli.core.words import percent
from vitcli.data.store import words_of
from vitcli.training.result import TrainResult

DEFAULT = "default"
_OF_THE_DATA = frozenset(
    {
        *("name", "dir", "labels", "image_column", "label_column", "label_map", "value_range"),
        *("folds", "fold", "on_bad_image", "cache", "workers"),
    }
)
"""Settings of data that belong to one data set or one machine, so that no recipe has them."""


@dataclass(frozen=True, kw_only=True, slots=True)
class FinalRow:
    """The final runs of one configuration, one for each fresh seed."""

    name: str
    """Name of the group of runs; ``default`` has the default settings."""
    path: Path
    """The folder of the runs."""
    trial: int | None
    """The trial whose settings they have; None: the default settings."""
    settings: Mapping[str, Any]
    """The values of the searched settings; empty: the default settings."""
    val_accuracies: tuple[float, ...]
    """Validation accuracy of the kept epoch, by seed."""
    val_accuracy: float
    """Mean of these."""
    difference: float | None
    """Mean difference from the default, in 0..1; None: it is the default."""
    interval: tuple[float, float] | None
    """The 95 % interval of the difference; the intervals of all finalists hold together."""


def compared(
    results: Mapping[str, Sequence[TrainResult]],
    trials: Mapping[str, tuple[int | None, Mapping[str, Any]]],
    *,
    folder: Path,
    images: int,
) -> list[FinalRow]:
    """Compare finalists with the default, which comes first.

    Args:
        results: the runs of each configuration by seed, by the name of their group; the same seeds for all.
        trials: the trial and the searched settings of each of them.
        folder: the folder of the search.
        images: the number of different validation images of all seeds.
    """
    accuracies = {name: tuple(each.best.val_accuracy for each in runs) for name, runs in results.items()}
    others: list[MeanDifference | None] = []
    if len(results) > 1:
        others = [*differences_from_first([*accuracies.values()], images=images)]
    return [
        FinalRow(
            name=name,
            path=folder / name,
            trial=trials[name][0],
            settings=trials[name][1],
            val_accuracies=scores,
            val_accuracy=mean(scores),
            difference=found.mean if found else None,
            interval=found.interval if found else None,
        )
        for (name, scores), found in zip(accuracies.items(), [None, *others], strict=True)
    ]


def best_finalist(rows: Sequence[FinalRow]) -> FinalRow | None:
    """Return the finalist with the highest mean; None: there are no finalists."""
    return max((row for row in rows if row.difference is not None), key=lambda row: row.val_accuracy, default=None)


def is_better(row: FinalRow | None) -> bool:
    """Tell whether a finalist is better than the default by more than chance."""
    return bool(row and row.interval and row.interval[0] > 0)


def answer(row: FinalRow | None) -> str:
    """Say in plain words whether the best finalist is better than the default."""
    if row is None or row.difference is None or row.interval is None:
        return "no better than the default: no other settings were trained to their end with every fresh seed"
    low, high = row.interval
    points = f"by {100 * row.difference:.1f} points ({100 * low:.1f} to {100 * high:.1f})"
    if is_better(row):
        return f"better than the default {points}: trial {row.trial}"
    doubt = f", as far as {len(row.val_accuracies)} seeds can tell" if high >= 0 else ""
    return f"no better than the default{doubt}: trial {row.trial}, the best finalist, differs {points}"


def train_command(data: DataConfig, recipe: str) -> str:
    """Return the command that trains with a recipe on these data, with every option that the recipe leaves out."""
    words = ["vit", "train", *words_of(data)]
    if data.on_bad_image != DataConfig().on_bad_image:
        words += ["--on-bad-image", data.on_bad_image]
    if any(data.value_range):
        words += ["--set", f"data.value_range={json.dumps(data.value_range)}"]
    return shlex.join([*words, "--recipe", recipe])


def recipe_text(
    name: str, config: TrainConfig, rows: Sequence[FinalRow], *, facts: Sequence[str], seeds: Sequence[int]
) -> str:
    """Return the settings of the winner as a recipe for ``vit train --recipe FILE``, without passwords in addresses.

    Args:
        name: the name of the file.
        config: the complete configuration of the winner.
        rows: the final runs, the default first.
        facts: how it was found, one line each.
        seeds: the fresh seeds.
    """
    winner = best_finalist(rows)
    assert winner
    numbers = ", ".join(map(str, seeds))
    scores = [
        f"validation accuracy, {each.name}: {', '.join(map(percent, each.val_accuracies))}; mean {percent(each.val_accuracy)}"
        for each in rows
    ]
    comments = [
        f"Found by `vit tune` on {datetime.now(UTC):%Y-%m-%d}.",
        *facts,
        f"seeds of the comparison: {numbers}",
        *scores,
        f"{answer(winner)}, in points of validation accuracy, with the 95 % interval",
    ]
    about = {
        "summary": f"tuned for {Path(config.data.name).name} by `vit tune`",
        "command": train_command(config.data, f"./{name}"),
        "time": counted(config.optim.epochs, "epoch"),
        "accuracy": f"{percent(winner.val_accuracy)} of the validation images on average over {counted(len(seeds), 'seed')}",
    }
    lines = [f"# {' '.join(visible(line).split())}" for line in comments]
    for section, table in {"about": about, **recipe_settings(config)}.items():
        lines += ["", f"[{section}]", *(f"{key} = {_toml(value)}" for key, value in table.items())]
    return str(without_secrets("\n".join(lines) + "\n"))


def recipe_settings(config: TrainConfig) -> dict[str, dict[str, Any]]:
    """Return the settings of a recipe: all that differ from the defaults, without those of one data set or machine."""
    usual = settings_of(TrainConfig())
    return {section: table for section, table in _recipe_tables(settings_of(config), usual) if table}


def _recipe_tables(
    settings: Mapping[str, Mapping[str, Any]], usual: Mapping[str, Mapping[str, Any]]
) -> Iterator[tuple[str, dict[str, Any]]]:
    left_out: dict[str, frozenset[str]] = {
        "data": _OF_THE_DATA,
        "model": frozenset() if settings["model"]["name"] else frozenset({"name"}),  # that of the weights
        "optim": frozenset({"min_images"}),  # the epochs are given
        "run": frozenset(settings["run"]) - {"init_from"},
    }
    for section, table in settings.items():
        kept = {key: value for key, value in table.items() if key not in left_out.get(section, ())}
        always = {"name", "epochs", "optimizer", "lr"} if section in {"model", "optim"} else set()
        yield section, {key: each for key, each in kept.items() if key in always or each != usual[section].get(key)}


def _toml(value: object) -> str:
    """Write a value as TOML, which is JSON for text, numbers, booleans and lists."""
    return json.dumps(value, ensure_ascii=False)
