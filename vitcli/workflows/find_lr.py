"""The search for a learning rate: a range test on the data and the model that training would use."""

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from vitcli.core.config_files import Settings
from vitcli.core.errors import UsageError, visible
from vitcli.core.events import Emit, Note, TaskProgress, Warned, ignore
from vitcli.core.files import expanded, unused_end, with_end
from vitcli.core.groups import members_of_settings
from vitcli.core.interrupts import stop_requests
from vitcli.core.notebooks import picture_of
from vitcli.core.optim_config import OptimConfig
from vitcli.core.runs import slug
from vitcli.data.store import preview_of
from vitcli.engine.device import describe
from vitcli.engine.distributed import Processes
from vitcli.engine.rate_finder import STEPS, RatePoint, range_test
from vitcli.figures.rates import draw_rates
from vitcli.models.registry import changed_sizes
from vitcli.training.assembly import assemble
from vitcli.training.settings import settle

_TASK = "trying learning rates"


@dataclass(frozen=True, kw_only=True, slots=True)
class FoundRate:
    """The report of ``vit train --find-lr``."""

    dataset: str
    model: str
    """Name of the architecture."""
    changed_sizes: str
    """The sizes that differ from those of the name, such as ``depth 2``; empty: none does."""
    recipe: str
    optimizer: str
    """Name of the optimizer."""
    lr: float
    """The suggested ``optim.lr``; with muon, the rate of the matrices."""
    settings: dict[str, float]
    """All suggested rates: ``optim.lr``, and in proportion to it ``optim.adamw_lr`` and ``optim.head_lr`` if used."""
    configured: float
    """The value of ``optim.lr`` in the configuration."""
    least: float
    """The rate with the lowest loss; at higher rates training becomes unstable."""
    diverged: float | None
    """The rate at which the loss had lost half of its fall again, and more than single batches differ by; None: it did not
    rise so far at any tested rate."""
    points: tuple[RatePoint, ...]
    """Every step of the test, by increasing rate."""
    figure: Path
    """The file of the figure."""

    def __repr__(self) -> str:
        return visible(
            f"<FoundRate for {self.dataset}: lr {self.lr:g} is suggested, {self.configured:g} is configured>"
        )

    def _repr_png_(self) -> bytes | None:
        """Return the curve; None if it is not there any more."""
        return picture_of(self.figure)


def find_lr(*layers: Settings, emit: Emit = ignore) -> FoundRate:
    """Find a learning rate with training steps whose result is discarded; no run is made.

    The figure is drawn into ``previews/DATASET`` beside the runs.

    Args:
        layers: settings as for ``train``; rates from 1/1000 to 1000 times the configured one are tried.
        emit: receives the progress.

    Raises:
        The errors that ``train`` raises before training begins.
        TrainingError: the loss does not fall at any rate.
    """
    config, dataset, _ = settle(layers, emit)
    if members_of_settings(config):
        hint = "--fold 1" if config.data.folds else "leave out --seeds"
        raise UsageError("--find-lr needs one run, not a fold or a seed each in turn", hint=hint)

    # Assemble a training without averages, growth and compilation, which a few steps do not need
    facts = dataset.facts
    folder = expanded(config.run.output_dir) / "previews" / slug(facts.name)
    config = replace(
        config,
        optim=replace(config.optim, ema=False, swa_epochs=0, progressive=0.0),
        run=replace(config.run, compile="off"),
    )
    training = assemble(config, dataset, processes=Processes(), emit=emit)
    config = training.config
    emit(Note(text=f"looking for a learning rate on {describe(training.computing.device)}; the weights are not kept"))

    # Try the rates
    with TemporaryDirectory() as cache, stop_requests() as stop:
        trainer = training.trainer(features=Path(cache) / "features", saver=None, emit=emit, stop=stop)

        def on_step(done: int) -> None:
            if stop:
                raise stop.error(f"after {done} of {STEPS} learning rates; nothing is kept")
            emit(TaskProgress(task=_TASK, done=done, total=STEPS))

        found = range_test(trainer, preview_of(config.data), on_step=on_step)
    emit(TaskProgress(task=_TASK, done=STEPS, total=STEPS))

    # Report the result
    if found.fall < found.noise:
        differ = f"single batches differ by {found.noise:.2g} from the smoothed loss"
        emit(
            Warned(
                text=f"the loss falls by {found.fall:.2g} at most, and {differ}, so the suggestion is uncertain: a larger --batch-size makes it surer"
            )
        )
    if found.least == found.points[-1].lr:
        emit(
            Warned(
                text=f"the loss still falls at {found.least:.2g}, the highest rate tried: a higher --lr may be better"
            )
        )
    usual, model = folder / "learning-rate.png", training.model.config
    figure = with_end(usual, unused_end(usual))
    draw_rates(
        [point.lr for point in found.points],
        [point.loss for point in found.points],
        [point.smoothed for point in found.points],
        figure,
        suggested=found.suggested,
        configured=config.optim.peak_lr,
        least=found.least,
        diverged=found.diverged,
        title=f"{facts.name}, {model.name}, {config.optim.optimizer}: loss at increasing learning rates",
    )
    settings = _in_proportion(config.optim, found.suggested)
    return FoundRate(
        dataset=facts.name,
        model=model.name,
        changed_sizes=changed_sizes(model.name, asdict(model)),
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
    """Scale all rates of a configuration to a new peak rate, rounded to two digits: the test is not more precise."""
    rates = {"optim.lr": config.peak_lr, "optim.head_lr": config.head_lr}
    if config.optimizer == "muon":
        rates["optim.adamw_lr"] = config.adamw_lr
    return {name: float(f"{rate * lr / config.peak_lr:.2g}") for name, rate in rates.items() if rate}
