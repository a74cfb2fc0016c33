"""The options of ``vit train``, one row each.

A row names the setting that its flag sets. The type, and some of the defaults in ``--help``, come from the setting's
field. The recipe and the defaults decide settings whose flags are not given.
"""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import Annotated, Any, NamedTuple, get_type_hints

import typer
from typer.models import OptionInfo

from vitcli.cli.options import (
    DataDirOption,
    DatasetArgument,
    ImageColumnOption,
    JsonOption,
    LabelColumnOption,
    LabelMapOption,
    LabelsOption,
    OnBadImageOption,
    TestFractionOption,
    ValFractionOption,
)
from vitcli.cli.usage_errors import flag_of, read_number
from vitcli.core.config import TrainConfig
from vitcli.core.config_files import example
from vitcli.core.errors import UsageError
from vitcli.core.model_config import ModelChoice, ModelConfig

_DATA, _MODEL, _TUNE, _TEACHER, _OPTIM = "Data", "Model", "Fine-tuning", "Teacher", "Optimisation"
_AUGMENT, _RUN = "Augmentation and regularisation", "Run and machine"
_OWN = "the default of the field"


class Row(NamedTuple):
    """One option of ``vit train``."""

    setting: str
    """The setting, ``SECTION.KEY``; empty: the option chooses what the command does."""
    annotation: Any
    """The type, with the help text for typer."""
    name: str = ""
    """Name of the parameter; empty: the setting's key."""
    value: Callable[[Any], Any] = lambda given: given
    """Function that turns the given value into the setting's value; it returns None to leave the setting alone."""
    otherwise: Any = None
    """Default of the parameter."""

    @property
    def parameter(self) -> str:
        """The name of the parameter."""
        return self.name or self.setting.partition(".")[2]


def _row(
    panel: str,
    setting: str,
    flags: str,
    words: str,
    *,
    default: str = "",
    kind: type | None = None,
    value: Callable[[Any], Any] = lambda given: given,
) -> Row:
    """Make an option for a setting; the first flag names the parameter, ``words`` is the help text."""
    section, _, key = setting.partition(".")
    owner: Any = {field.name: field.type for field in fields(TrainConfig)}[section]
    owner = ModelConfig if owner is ModelChoice else owner
    hint = kind or get_type_hints(owner)[key]
    kind = hint if hint in {bool, int, float} else str
    if default == _OWN:
        own = getattr(owner(), key)
        default = f"{own:g}" if kind is float else str(own)
    option = typer.Option(*flags.split(), help=words, rich_help_panel=panel, show_default=default or False)
    if kind in {int, float}:
        option.parser = partial(read_number, kind, None, None, flag_of(option), example(section, key))
    name = flags.split(maxsplit=1)[0].partition("/")[0].removeprefix("--").replace("-", "_")
    return Row(setting, Annotated[kind | None, option], name=name, value=value)


def _command(panel: str, kind: Any, name: str, flags: str, words: str, *, metavar: str | None = None) -> Row:
    """Make an option that is not a setting."""
    option = typer.Option(*flags.split(), help=words, rich_help_panel=panel, show_default=False, metavar=metavar)
    if kind is bool:
        return Row("", Annotated[bool, option], name=name, otherwise=False)
    return Row("", Annotated[kind | None, option], name=name)


def _head_width(head: str) -> int:
    """Parse the value of ``--head``: ``linear`` gives 0, ``mlp:512`` gives 512."""
    kind, _, width = head.partition(":")
    if head == "linear":
        return 0
    if kind != "mlp" or not width.isdecimal() or not int(width):
        raise UsageError(f"--head {head!r} is not a head", hint="expected: linear, or mlp:WIDTH, for example mlp:512")
    return int(width)


def _batch_size(batch_size: str | int) -> int | None:
    """Parse ``--batch-size``; ``auto`` gives None, which leaves the size to the recipe and the defaults."""
    if batch_size == "auto":
        return None
    if not str(batch_size).isdecimal():
        raise UsageError(f"--batch-size {batch_size!r} is not a number of images", hint="expected: a number, or auto")
    return int(batch_size)


ROWS = (
    Row("data.name", DatasetArgument, name="dataset"),
    Row("data.labels", LabelsOption),
    Row("data.image_column", ImageColumnOption),
    Row("data.label_column", LabelColumnOption),
    Row("data.label_map", LabelMapOption),
    Row("data.val_fraction", ValFractionOption),
    Row("data.test_fraction", TestFractionOption),
    _row(_DATA, "data.folds", "--folds", "Number of folds for cross-validation."),
    _row(_DATA, "data.fold", "--fold", "Train with this fold held out, counted from 1.", default="each in turn"),
    _row(_DATA, "data.balanced_sampling", "--balanced-sampling", "Draw every class equally often."),
    _row(
        _DATA,
        "optim.class_weights",
        "--class-weights",
        "Class weights in the loss: balanced, effective, or a JSON file.",
    ),
    Row("data.on_bad_image", OnBadImageOption),
    _row(_DATA, "data.cache", "--cache", "Where to keep decoded photos: auto, ram, disk or off.", default=_OWN),
    _row(_DATA, "data.workers", "--workers -j", "Threads that decode images.", default="all cores"),
    _row(_MODEL, "model.name", "--model -m", "A name of `vit models`."),
    _row(_MODEL, "model.image_size", "--image-size --img-size", "Model input in pixels: 32, or HEIGHTxWIDTH."),
    _row(
        _TUNE,
        "run.init_from",
        "--init-from",
        "Weights to start from: a run, or best (on the data of the newest), a name of `vit download`, a file or folder, hf:OWNER/NAME, or an address.",
    ),
    _row(_TUNE, "run.pretrained", "--pretrained", "Start from the weights that suit --model."),
    _row(_TUNE, "run.offline", "--offline", "Download nothing."),
    _row(
        _TUNE,
        "optim.train_only",
        "--freeze-backbone",
        "Train the head alone.",
        kind=bool,
        value=lambda is_on: "head" if is_on else None,
    ),
    _row(
        _TUNE, "optim.train_only", "--train-only", "Train only the head and: norm, bias, attention, or last:N blocks."
    ),
    _row(_TUNE, "optim.lora", "--lora", "Train with LoRA of this rank, for example 8."),
    _row(_TUNE, "model.head_width", "--head", "linear, or mlp:WIDTH for a hidden layer.", kind=str, value=_head_width),
    _row(_TUNE, "model.head_dropout", "--head-dropout", "Dropout in the head."),
    _row(_TUNE, "optim.head_lr", "--head-lr", "Learning rate of the head.", default="as for the other weights"),
    _row(_TUNE, "optim.layer_decay", "--layer-decay", "Factor on the learning rate for each block below the head."),
    _row(
        _TUNE,
        "augment.feature_views",
        "--feature-views",
        "Augmented views per image whose features a frozen backbone computes once.",
    ),
    _row(_OPTIM, "run.recipe", "--recipe -r", "A name of `vit recipes`, or a TOML file.", default="the data set's"),
    _command(_OPTIM, Path, "config", "--config -c", "A TOML file of settings, which override the recipe."),
    _command(
        _OPTIM,
        list[str],
        "assignments",
        "--set",
        "Any setting, for example optim.betas=[0.9,0.99].",
        metavar="KEY=VALUE",
    ),
    _row(_OPTIM, "optim.epochs", "--epochs -e", "Passes over the training images."),
    _row(
        _OPTIM,
        "optim.batch_size",
        "--batch-size -b",
        "Images per step; auto: split into micro-batches that suit the device.",
        kind=str,
        value=_batch_size,
    ),
    _row(_OPTIM, "optim.lr", "--lr", "Peak learning rate."),
    _row(_OPTIM, "optim.optimizer", "--opt", "muon, adamw, adam, sgd or schedule-free."),
    _row(_OPTIM, "optim.weight_decay", "--weight-decay --wd", "Weight decay."),
    _row(_OPTIM, "optim.schedule", "--sched", "cosine, step, one-cycle or constant."),
    _row(_OPTIM, "optim.warmup_epochs", "--warmup-epochs", "Epochs of linear warm-up."),
    _row(_OPTIM, "optim.step_size", "--step-size", "Epochs between drops of the step schedule."),
    _row(_OPTIM, "optim.gamma", "--gamma", "Learning-rate factor of each drop."),
    _row(_OPTIM, "optim.clip_grad", "--clip-grad", "Maximum gradient norm; 0: no clipping."),
    _row(_OPTIM, "optim.grad_accum_steps", "--grad-accum-steps", "Micro-batches per batch, to save memory."),
    _row(
        _OPTIM,
        "optim.patience",
        "--patience",
        "Stop after this many epochs without a better validation score; 0: never.",
    ),
    _row(_AUGMENT, "augment.mixup", "--mixup", "MixUp's alpha; 0: off."),
    _row(_AUGMENT, "augment.cutmix", "--cutmix", "CutMix's alpha; 0: off."),
    _row(_AUGMENT, "optim.label_smoothing", "--label-smoothing", "Share of the label spread over all classes."),
    _row(_AUGMENT, "model.drop_path", "--drop-path", "Probability that the last block is skipped (stochastic depth)."),
    _row(_AUGMENT, "optim.ema", "--ema/--no-ema", "Validate and keep a moving average of the weights."),
    _row(_AUGMENT, "optim.ema_decay", "--ema-decay", "Decay of that average."),
    _row(
        _AUGMENT,
        "optim.swa_epochs",
        "--swa-epochs",
        "Average the weights of this many last epochs, at a constant learning rate; kept if better.",
    ),
    _row(
        _OPTIM, "optim.progressive", "--progressive", "Start with images of this share of height and width; they grow."
    ),
    _row(
        _TEACHER,
        "teacher.name",
        "--teacher",
        "A model with the same classes to learn from, besides the labels; values as for --init-from.",
    ),
    _row(
        _TEACHER,
        "teacher.kind",
        "--distillation",
        "Learn the teacher's probabilities (soft) or predicted classes (hard).",
        default="hard if the model has a distillation head, else soft",
    ),
    _row(_TEACHER, "teacher.alpha", "--distillation-alpha", "Share of the teacher in the loss.", default=_OWN),
    _row(
        _TEACHER,
        "teacher.temperature",
        "--distillation-temperature",
        "Temperature that softens probabilities.",
        default=_OWN,
    ),
    _row(_RUN, "run.name", "--name -n", "The run's name.", default="generated"),
    _row(_RUN, "run.output_dir", "--output-dir", "Folder of all runs.", default=_OWN),
    _row(_RUN, "run.overwrite", "--overwrite", "Replace an existing run with this name."),
    _command(
        _RUN,
        str,
        "resume",
        "--resume",
        "Resume this run where it ended, with its own settings; without a name, the newest unfinished run.",
    ),
    _command(_RUN, str, "from_run", "--from-run", "Train a new run with this run's settings; options override them."),
    _row(_RUN, "run.save_every", "--save-every", "Keep a checkpoint every this many epochs."),
    _row(
        _RUN,
        "run.save_steps",
        "--save-steps",
        "Save the training state for --resume every this many steps, besides every epoch.",
    ),
    _row(_RUN, "run.tensorboard", "--tensorboard/--no-tensorboard", "Log curves for TensorBoard."),
    _row(_RUN, "run.wandb", "--wandb/--no-wandb", "Log curves to Weights & Biases."),
    _row(_RUN, "run.log_steps", "--log-steps", "Steps between two points of the logged curves.", default=_OWN),
    _row(_RUN, "run.seed", "--seed", "Seed of all random numbers.", default=_OWN),
    _row(_RUN, "run.seeds", "--seeds", "Train this many runs with different seeds, from 0 on, or from --seed."),
    _row(
        _RUN, "run.deterministic", "--deterministic", "Refuse operations whose results may vary from run to run (GPU)."
    ),
    _row(_RUN, "run.device", "--device", "auto, cpu, cuda, cuda:N (or only N) or mps.", default=_OWN),
    _row(
        _RUN, "run.devices", "--devices", "Devices of this machine that train together; with --device cpu, processes."
    ),
    _row(
        _RUN,
        "run.shard",
        "--shard/--no-shard",
        "Each device holds a shard of the model (FSDP2), for models that do not fit on one.",
    ),
    _row(_RUN, "run.amp", "--amp", "Mixed precision: auto (if it is faster), on or off.", default=_OWN),
    _row(_RUN, "run.amp_dtype", "--amp-dtype", "bfloat16 or float16."),
    _row(_RUN, "run.compile", "--compile", "Compile the model: auto (if it saves time), on or off.", default=_OWN),
    _row(_RUN, "run.grad_checkpointing", "--grad-checkpointing", "Compute blocks twice: less memory, more time."),
    _command(
        _RUN, bool, "dry_run", "--dry-run", "Check every image, look for duplicates, take two steps; train nothing."
    ),
    _command(
        _RUN, bool, "find_lr", "--find-lr", "Search for a good learning rate with at most 120 steps; train nothing."
    ),
    Row("data.dir", DataDirOption, name="data_dir", value=lambda given: given or None, otherwise=""),
    Row("", JsonOption, name="as_json", otherwise=False),
)


def settings_in(given: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Turn the given options into a layer of settings.

    Raises:
        UsageError: two options contradict each other.
    """
    parts = {flag: given[name] for flag, name in _WHAT_IS_TRAINED.items()}
    if len(both := [flag for flag, value in parts.items() if value]) > 1:
        raise UsageError(f"{' and '.join(both)} each say what is trained", hint="give one of them")
    layer: dict[str, dict[str, Any]] = {}
    for row in ROWS:
        section, _, key = row.setting.partition(".")
        if section and given[row.parameter] is not None:
            layer.setdefault(section, {})[key] = row.value(given[row.parameter])
    if given["batch_size"] == "auto":
        if given["grad_accum_steps"] is not None:
            raise UsageError(
                "--batch-size auto and --grad-accum-steps both say how a batch is cut", hint="leave one out"
            )
        layer["optim"]["grad_accum_steps"] = 0
    return layer


def flags_in(given: Mapping[str, Any]) -> dict[str, str]:
    """Return the options that were given, by the setting that they set; for ``--set``, with ``SECTION.KEY=``."""
    words = (word.partition("=")[0].strip() for word in given["assignments"] or ())
    rows = [row for row in ROWS if row.setting and given.get(row.parameter) is not None]
    options = {row.setting: row.annotation.__metadata__[0] for row in rows}
    typed = {setting: flag_of(option) for setting, option in options.items() if isinstance(option, OptionInfo)}
    return {setting: f"--set {setting}=" for setting in words} | typed


_WHAT_IS_TRAINED = {"--freeze-backbone": "freeze_backbone", "--train-only": "train_only", "--lora": "lora"}


def with_options(command: Callable[..., None], rows: Sequence[Row] = ROWS) -> Callable[..., None]:
    """Give a function that takes keyword arguments the signature from which typer makes the options."""
    parameters = [
        inspect.Parameter(
            row.parameter, inspect.Parameter.KEYWORD_ONLY, default=row.otherwise, annotation=row.annotation
        )
        for row in rows
    ]
    vars(command)["__signature__"] = inspect.Signature(parameters)
    return command
