"""Options of ``vit train`` that add something to plain training: a teacher, an average, growing images, a sharded model."""

from typing import Annotated, Any

import typer

_TEACHER, _OPTIM, _AUGMENT, _RUN = "Teacher", "Optimisation", "Augmentation and regularisation", "Run and machine"


def _option(*names: str, help: str, panel: str, default: str = "") -> Any:  # noqa: A002 - typer's name
    """An option that leaves what is not given to recipe and defaults."""
    return typer.Option(*names, help=help, rich_help_panel=panel, show_default=default or False)


Teacher = Annotated[
    str | None,
    _option(
        "--teacher",
        help="A model to learn from besides labels: as for --init-from, of the same classes.",
        panel=_TEACHER,
    ),
]
Distillation = Annotated[
    str | None,
    _option(
        "--distillation",
        help="From its probabilities (soft), or its answers (hard).",
        panel=_TEACHER,
        default="hard where the model has a distillation head, else soft",
    ),
]
DistillationAlpha = Annotated[
    float | None, _option("--distillation-alpha", help="Share of the loss.", panel=_TEACHER, default="0.5")
]
DistillationTemperature = Annotated[
    float | None, _option("--distillation-temperature", help="Softens probabilities.", panel=_TEACHER, default="3")
]
SwaEpochs = Annotated[
    int | None,
    _option(
        "--swa-epochs",
        help="Average the weights of so many last epochs, at a constant rate; kept if better.",
        panel=_AUGMENT,
    ),
]
Progressive = Annotated[
    float | None,
    _option("--progressive", help="Begin with images of this share of height and width, which grow.", panel=_OPTIM),
]
Shard = Annotated[
    bool | None,
    _option(
        "--shard/--no-shard",
        help="Each device holds a part of the model (FSDP2), for models that do not fit on one.",
        panel=_RUN,
    ),
]
