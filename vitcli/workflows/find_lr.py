"""Find a learning rate: a range test, on the data and the model that training would use."""

from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from vitcli.core.config import OptimConfig
from vitcli.core.config_files import Settings
from vitcli.core.errors import UsageError
from vitcli.core.events import Emit, Note, TaskProgress, Warned, ignore
from vitcli.core.interrupts import stop_requests
from vitcli.core.runs import slug
from vitcli.engine.device import describe
from vitcli.engine.distributed import Processes
from vitcli.engine.rate_finder import STEPS, RatePoint, range_test
from vitcli.figures.rates import draw_rates
from vitcli.training.assembly import assemble
from vitcli.training.settings import settle

_TASK = "trying learning rates"


@dataclass(frozen=True, kw_only=True, slots=True)
class FoundRate:
    """The report of ``vit train --find-lr``."""

    dataset: str
    model: str
    recipe: str
    optimizer: str
    lr: float
    """What is suggested for ``optim.lr``: with muon, the rate of the matrices."""
    settings: dict[str, float]
    """That, and the other rates that were varied in proportion: ``optim.adamw_lr``, ``optim.head_lr``."""
    configured: float
    """What ``optim.lr`` is without it."""
    least: float
    """The rate at which the loss is least; beyond it training becomes unstable."""
    diverged: float | None
    """The rate at which the loss was several times as high; None: not up to the highest one."""
    points: tuple[RatePoint, ...]
    figure: Path


def find_lr(*layers: Settings, emit: Emit = ignore) -> FoundRate:
    """Look for the learning rate with the steps of a training that is thrown away; no run is made.

    The figure is drawn into ``previews/DATASET`` beside the runs.

    Args:
        layers: settings as for ``train``; rates up to a thousand times higher and lower than theirs are tried.
        emit: told about the progress.

    Raises:
        what ``train`` raises before it begins; TrainingError: the loss falls at no rate.
    """
    config, dataset = settle(layers, emit)
    if config.data.folds and not config.data.fold:
        raise UsageError("a learning rate is looked for with one fold held out", hint="--fold 1")

    # Assemble a training without what a few steps do not need
    facts = dataset.facts
    folder = Path(config.run.output_dir).expanduser() / "previews" / slug(facts.name)
    config = replace(
        config,
        optim=replace(config.optim, ema=False, swa_epochs=0, progressive=0.0),
        run=replace(config.run, compile="off"),
    )
    training = assemble(config, dataset, processes=Processes(), emit=emit)
    config = training.config
    emit(
        Note(
            text=f"looking for a learning rate on {describe(training.computing.device)}; nothing is kept of the weights"
        )
    )

    # Try the rates
    with TemporaryDirectory() as cache, stop_requests() as stop:
        trainer = training.trainer(features=Path(cache) / "features", saver=None, emit=emit, stop=stop)

        def on_step(done: int) -> None:
            if stop:
                raise stop.error(f"after {done} of {STEPS} learning rates; nothing is kept")
            emit(TaskProgress(task=_TASK, done=done, total=STEPS))

        found = range_test(trainer, on_step=on_step)
    emit(TaskProgress(task=_TASK, done=STEPS, total=STEPS))

    # Say what was found
    if found.diverged is None:
        emit(Warned(text=f"the loss diverges at no rate up to {found.points[-1].lr:.2g}: a higher --lr may be better"))
    figure = folder / "learning-rate.png"
    draw_rates(
        [point.lr for point in found.points],
        [point.loss for point in found.points],
        [point.smoothed for point in found.points],
        figure,
        suggested=found.suggested,
        least=found.least,
        title=f"{facts.name}, {config.model.name}, {config.optim.optimizer}: loss at an ever higher learning rate",
    )
    settings = _in_proportion(config.optim, found.suggested)
    return FoundRate(
        dataset=facts.name,
        model=config.model.name,
        recipe=config.run.recipe,
        optimizer=config.optim.optimizer,
        lr=settings["optim.lr"],
        settings=settings,
        configured=config.optim.peak_lr,
        least=found.least,
        diverged=found.diverged,
        points=found.points,
        figure=figure,
    )


def _in_proportion(config: OptimConfig, lr: float) -> dict[str, float]:
    """All rates of a configuration whose peak is to be another; two digits are as much as can be told."""
    rates = {"optim.lr": config.peak_lr, "optim.head_lr": config.head_lr}
    if config.optimizer == "muon":
        rates["optim.adamw_lr"] = config.adamw_lr
    return {name: float(f"{rate * lr / config.peak_lr:.2g}") for name, rate in rates.items() if rate}
