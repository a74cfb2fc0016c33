"""The settings that a search varies if it is not told which: what the default settings use."""

from collections.abc import Collection, Iterable

from vitcli.core.config import TrainConfig
from vitcli.core.config_files import Settings
from vitcli.core.search_space import STRENGTH, Choices, Dimension, Range, rounded

_RATE, _DECAY = 5, 10
"""Factors by which the space reaches below and above a learning rate, and a weight decay."""


def usual_space(config: TrainConfig, *, given: Collection[str], images: int) -> list[Dimension]:
    """Return the space to search if none is given: what the configuration uses, without the settings that were given.

    Args:
        config: the default settings.
        given: names of settings that the user has chosen, which stay as they are.
        images: the number of training images.
    """
    optim, space = config.optim, list[Dimension]()

    def add_range(setting: str, low: float, high: float, *, is_log: bool = False) -> None:
        space.append(Range(setting=setting, low=rounded(low), high=rounded(high), is_log=is_log))

    rates = {"lr": optim.peak_lr, "head_lr": optim.head_lr}
    if optim.optimizer == "muon":
        rates["adamw_lr"] = optim.adamw_lr
    for key, rate in rates.items():
        if rate:
            add_range(f"optim.{key}", rate / _RATE, rate * _RATE, is_log=True)
    if decay := optim.weight_decay:
        add_range("optim.weight_decay", decay / _DECAY, decay * _DECAY, is_log=True)
    else:
        space.append(Choices(setting="optim.weight_decay", values=("0", "0.001", "0.01", "0.1")))
    add_range("optim.label_smoothing", 0, max(0.2, min(2 * optim.label_smoothing, 0.9)))
    if optim.layer_decay < 1:
        add_range("optim.layer_decay", optim.layer_decay**2, optim.layer_decay**0.5)
    if drop_path := config.model.changes.get("drop_path"):
        add_range("model.drop_path", 0, min(2 * drop_path, 0.9))
    if config.augment.strengths(2):
        add_range(STRENGTH, 0, 2)
    batch = optim.batch_size
    if sizes := {batch, *(size for size in (batch // 2, 2 * batch) if 1 < size <= images)} - {0}:
        space.append(Choices(setting="optim.batch_size", values=tuple(map(str, sorted(sizes)))))
    sections = {"augment" for setting in given if setting.startswith("augment.")}
    stays = {*given, *({STRENGTH} if sections else ())}
    return [
        each for each in space if each.setting not in stays and not (isinstance(each, Choices) and len(each.values) < 2)
    ]


def settings_in(layers: Iterable[Settings]) -> set[str]:
    """Return the names of all settings that layers have."""
    return {f"{section}.{key}" for layer in layers for section, table in layer.items() for key in table}
