"""vit train"""

from pathlib import Path
from typing import Annotated, Any

import typer

from vitcli.cli import recipe_options
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
from vitcli.cli.train_kinds import carry_out
from vitcli.cli.train_values import batch_settings, head_width
from vitcli.core.errors import UsageError

_DATA, _MODEL, _TUNE, _OPTIM = "Data", "Model", "Fine-tuning", "Optimisation"
_AUGMENT, _RUN = "Augmentation and regularisation", "Run and machine"


def _option(*names: str, help: str, panel: str, default: str = "", **more: Any) -> Any:  # noqa: A002 - typer's name
    """An option that leaves what is not given to recipe and defaults."""
    return typer.Option(*names, help=help, rich_help_panel=panel, show_default=default or False, **more)


def train(
    dataset: DatasetArgument = None,
    labels: LabelsOption = None,
    image_column: ImageColumnOption = None,
    label_column: LabelColumnOption = None,
    label_map: LabelMapOption = None,
    val_fraction: ValFractionOption = None,
    test_fraction: TestFractionOption = None,
    folds: Annotated[
        int | None, _option("--folds", help="Cut the training images into parts that validate in turn.", panel=_DATA)
    ] = None,
    fold: Annotated[
        int | None,
        _option("--fold", help="Train with this part held out, from 1.", panel=_DATA, default="each in turn"),
    ] = None,
    balanced_sampling: Annotated[
        bool | None,
        _option("--balanced-sampling", help="Draw every class equally often.", panel=_DATA),
    ] = None,
    class_weights: Annotated[
        str | None,
        _option("--class-weights", help="Weigh classes: balanced, effective, or a JSON file.", panel=_DATA),
    ] = None,
    on_bad_image: OnBadImageOption = None,
    cache: Annotated[
        str | None,
        _option("--cache", help="Where decoded photos are kept: auto, ram, disk or off.", panel=_DATA, default="auto"),
    ] = None,
    workers: Annotated[
        int | None, _option("--workers", "-j", help="Threads that decode images.", panel=_DATA, default="all cores")
    ] = None,
    model: Annotated[str | None, _option("--model", "-m", help="A name of `vit models`.", panel=_MODEL)] = None,
    image_size: Annotated[
        str | None,
        _option("--image-size", "--img-size", help="Model input in pixels: 32, or HEIGHTxWIDTH.", panel=_MODEL),
    ] = None,
    init_from: Annotated[
        str | None,
        _option(
            "--init-from",
            help="Weights to start from: a name of `vit download`, a run, a file or folder, hf:OWNER/NAME, an address.",
            panel=_TUNE,
        ),
    ] = None,
    pretrained: Annotated[
        bool | None, _option("--pretrained", help="Start from the weights that suit --model.", panel=_TUNE)
    ] = None,
    offline: Annotated[bool | None, _option("--offline", help="Fetch nothing.", panel=_TUNE)] = None,
    freeze_backbone: Annotated[
        bool | None, _option("--freeze-backbone", help="Train the head alone.", panel=_TUNE)
    ] = None,
    train_only: Annotated[
        str | None,
        _option("--train-only", help="Besides the head: norm, bias, attention, or last:N blocks.", panel=_TUNE),
    ] = None,
    lora: Annotated[
        int | None, _option("--lora", help="Rank of changes to frozen matrices, for example 8.", panel=_TUNE)
    ] = None,
    head: Annotated[str | None, _option("--head", help="linear, or mlp:WIDTH for a hidden layer.", panel=_TUNE)] = None,
    head_dropout: Annotated[float | None, _option("--head-dropout", help="Dropout in the head.", panel=_TUNE)] = None,
    head_lr: Annotated[
        float | None, _option("--head-lr", help="Learning rate of the head.", panel=_TUNE, default="as all else")
    ] = None,
    layer_decay: Annotated[
        float | None, _option("--layer-decay", help="Learning-rate factor per block below the head.", panel=_TUNE)
    ] = None,
    feature_views: Annotated[
        int | None,
        _option(
            "--feature-views", help="Views of each image that a frozen backbone sees, once for all epochs.", panel=_TUNE
        ),
    ] = None,
    recipe: Annotated[
        str | None, _option("--recipe", "-r", help="A name of `vit recipes`.", panel=_OPTIM, default="the data set's")
    ] = None,
    config: Annotated[
        Path | None, _option("--config", "-c", help="A TOML file of settings, above the recipe.", panel=_OPTIM)
    ] = None,
    assignments: Annotated[
        list[str] | None,
        _option(
            "--set", metavar="SECTION.KEY=VALUE", help="Any setting, for example optim.momentum=0.8.", panel=_OPTIM
        ),
    ] = None,
    epochs: Annotated[
        int | None, _option("--epochs", "-e", help="Passes over the training images.", panel=_OPTIM)
    ] = None,
    batch_size: Annotated[
        str | None,
        _option("--batch-size", "-b", help="Images per step; auto: in parts that suit the device.", panel=_OPTIM),
    ] = None,
    lr: Annotated[float | None, _option("--lr", help="Peak learning rate.", panel=_OPTIM)] = None,
    opt: Annotated[str | None, _option("--opt", help="muon, adamw, adam, sgd or schedule-free.", panel=_OPTIM)] = None,
    weight_decay: Annotated[float | None, _option("--weight-decay", "--wd", help="Weight decay.", panel=_OPTIM)] = None,
    sched: Annotated[str | None, _option("--sched", help="cosine, step, one-cycle or constant.", panel=_OPTIM)] = None,
    warmup_epochs: Annotated[
        float | None, _option("--warmup-epochs", help="Epochs of linear warm-up.", panel=_OPTIM)
    ] = None,
    step_size: Annotated[
        int | None, _option("--step-size", help="Epochs between drops of the step schedule.", panel=_OPTIM)
    ] = None,
    gamma: Annotated[float | None, _option("--gamma", help="Factor of each drop.", panel=_OPTIM)] = None,
    clip_grad: Annotated[
        float | None, _option("--clip-grad", help="Greatest gradient norm; 0: no clipping.", panel=_OPTIM)
    ] = None,
    grad_accum_steps: Annotated[
        int | None, _option("--grad-accum-steps", help="Parts to cut a batch into, to save memory.", panel=_OPTIM)
    ] = None,
    patience: Annotated[
        int | None,
        _option("--patience", help="Stop after so many epochs without a better one; 0: never.", panel=_OPTIM),
    ] = None,
    mixup: Annotated[float | None, _option("--mixup", help="MixUp's alpha; 0: off.", panel=_AUGMENT)] = None,
    cutmix: Annotated[float | None, _option("--cutmix", help="CutMix's alpha; 0: off.", panel=_AUGMENT)] = None,
    label_smoothing: Annotated[
        float | None, _option("--label-smoothing", help="Share of the label spread over all classes.", panel=_AUGMENT)
    ] = None,
    drop_path: Annotated[
        float | None, _option("--drop-path", help="Stochastic depth of the last block.", panel=_AUGMENT)
    ] = None,
    ema: Annotated[
        bool | None, _option("--ema/--no-ema", help="Judge and keep an average of the weights.", panel=_AUGMENT)
    ] = None,
    ema_decay: Annotated[float | None, _option("--ema-decay", help="Decay of that average.", panel=_AUGMENT)] = None,
    swa_epochs: recipe_options.SwaEpochs = None,
    progressive: recipe_options.Progressive = None,
    teacher: recipe_options.Teacher = None,
    distillation: recipe_options.Distillation = None,
    alpha: recipe_options.DistillationAlpha = None,
    temperature: recipe_options.DistillationTemperature = None,
    name: Annotated[
        str | None, _option("--name", "-n", help="The run's name.", panel=_RUN, default="generated")
    ] = None,
    output_dir: Annotated[
        str | None,
        _option("--output-dir", "-o", help="Folder of all runs.", panel=_RUN, default="experiments"),
    ] = None,
    overwrite: Annotated[bool | None, _option("--overwrite", help="Replace a run of that name.", panel=_RUN)] = None,
    resume: Annotated[
        str | None, _option("--resume", help="Train on where this run ended, with its own settings.", panel=_RUN)
    ] = None,
    from_run: Annotated[
        str | None,
        _option("--from-run", help="Train anew with this run's settings; options change some.", panel=_RUN),
    ] = None,
    save_every: Annotated[
        int | None, _option("--save-every", help="Keep a checkpoint every so many epochs.", panel=_RUN)
    ] = None,
    save_steps: Annotated[
        int | None,
        _option("--save-steps", help="Save the state for --resume every so many steps, not only epochs.", panel=_RUN),
    ] = None,
    tensorboard: Annotated[
        bool | None, _option("--tensorboard/--no-tensorboard", help="Log curves for TensorBoard.", panel=_RUN)
    ] = None,
    wandb: Annotated[
        bool | None, _option("--wandb/--no-wandb", help="Log curves to Weights & Biases.", panel=_RUN)
    ] = None,
    log_steps: Annotated[
        int | None, _option("--log-steps", help="Steps between two points of these curves.", panel=_RUN, default="50")
    ] = None,
    seed: Annotated[int | None, _option("--seed", help="Seed of everything random.", panel=_RUN, default="42")] = None,
    deterministic: Annotated[
        bool | None, _option("--deterministic", help="Refuse what may differ from run to run (GPU).", panel=_RUN)
    ] = None,
    device: Annotated[
        str | None, _option("--device", help="auto, cpu, cuda, cuda:N or mps.", panel=_RUN, default="auto")
    ] = None,
    devices: Annotated[
        int | None,
        _option(
            "--devices", help="Devices of this machine that train together; with --device cpu, processes.", panel=_RUN
        ),
    ] = None,
    shard: recipe_options.Shard = None,
    amp: Annotated[
        str | None,
        _option("--amp", help="Mixed precision: auto (where it is faster), on or off.", panel=_RUN, default="auto"),
    ] = None,
    amp_dtype: Annotated[str | None, _option("--amp-dtype", help="bfloat16 or float16.", panel=_RUN)] = None,
    compile: Annotated[  # noqa: A002 - the option's name
        str | None,
        _option("--compile", help="Compile the model: auto (where it pays), on or off.", panel=_RUN, default="auto"),
    ] = None,
    grad_checkpointing: Annotated[
        bool | None,
        _option("--grad-checkpointing", help="Compute blocks twice: less memory, more time.", panel=_RUN),
    ] = None,
    dry_run: Annotated[
        bool,
        _option("--dry-run", help="Check every image, look for duplicates, take two steps; train nothing.", panel=_RUN),
    ] = False,
    find_lr: Annotated[
        bool, _option("--find-lr", help="Look for the learning rate with 120 steps; train nothing.", panel=_RUN)
    ] = False,
    data_dir: DataDirOption = "",
    as_json: JsonOption = False,
) -> None:
    """Train a Vision Transformer, and keep it as a run.

    Without options this trains on the data set downloaded last, else on the bundled digits, with the recipe that suits it.
    Settings come from the recipe, then --config, then options; the later win, and what no option says is the recipe's.
    """
    parts = {"--freeze-backbone": freeze_backbone, "--train-only": train_only, "--lora": lora}
    if len(both := [flag for flag, value in parts.items() if value]) > 1:
        raise UsageError(f"{' and '.join(both)} each say what is trained", hint="give one of them")
    flags: dict[str, dict[str, Any]] = {
        "data": {
            "name": dataset,
            "dir": data_dir or None,
            "labels": labels,
            "image_column": image_column,
            "label_column": label_column,
            "label_map": label_map,
            "val_fraction": val_fraction,
            "test_fraction": test_fraction,
            "folds": folds,
            "fold": fold,
            "balanced_sampling": balanced_sampling,
            "on_bad_image": on_bad_image,
            "cache": cache,
            "workers": workers,
        },
        "augment": {"mixup": mixup, "cutmix": cutmix, "feature_views": feature_views},
        "model": {
            "name": model,
            "image_size": image_size,
            "drop_path": drop_path,
            "head_width": head_width(head),
            "head_dropout": head_dropout,
        },
        "optim": {
            "epochs": epochs,
            **batch_settings(batch_size, grad_accum_steps),
            "optimizer": opt,
            "lr": lr,
            "weight_decay": weight_decay,
            "schedule": sched,
            "warmup_epochs": warmup_epochs,
            "step_size": step_size,
            "gamma": gamma,
            "label_smoothing": label_smoothing,
            "class_weights": class_weights,
            "clip_grad": clip_grad,
            "layer_decay": layer_decay,
            "train_only": "head" if freeze_backbone else train_only,
            "lora": lora,
            "head_lr": head_lr,
            "ema": ema,
            "ema_decay": ema_decay,
            "swa_epochs": swa_epochs,
            "progressive": progressive,
            "patience": patience,
        },
        "teacher": {"name": teacher, "kind": distillation, "alpha": alpha, "temperature": temperature},
        "run": {
            "name": name,
            "output_dir": output_dir,
            "overwrite": overwrite,
            "recipe": recipe,
            "init_from": init_from,
            "pretrained": pretrained,
            "offline": offline,
            "seed": seed,
            "deterministic": deterministic,
            "device": device,
            "devices": devices,
            "shard": shard,
            "amp": amp,
            "amp_dtype": amp_dtype,
            "compile": compile,
            "grad_checkpointing": grad_checkpointing,
            "save_every": save_every,
            "save_steps": save_steps,
            "tensorboard": tensorboard,
            "wandb": wandb,
            "log_steps": log_steps,
        },
    }
    from vitcli.core.config_files import configure, layers_of

    layers = layers_of(flags, config=config, assignments=assignments or ())
    settings = configure(*layers)  # what is wrong with them is said before torch is imported
    carry_out(layers, settings, resume=resume, from_run=from_run, dry_run=dry_run, find_lr=find_lr, as_json=as_json)
