"""The model that training starts with: fresh, or from weights."""

from collections.abc import Iterable
from dataclasses import asdict, replace
from pathlib import Path

from vitcli.core.config import DataConfig, TrainConfig
from vitcli.core.errors import ModelError
from vitcli.core.events import Emit, Note, Warned
from vitcli.core.model_config import OF_THE_WEIGHTS, ModelChoice, ModelConfig
from vitcli.core.preprocessing import Preprocessing
from vitcli.data.dataset import Facts
from vitcli.data.store import weights_dir
from vitcli.engine.checkpoint import Checkpoint, load_checkpoint
from vitcli.models.adapt import Adapted, adapt_weights
from vitcli.models.finetune import add_low_rank, train_only
from vitcli.models.hub import find_pretrained, find_weights
from vitcli.models.pretrained import PRETRAINED
from vitcli.models.registry import listed_config, model_config
from vitcli.models.vit import VisionTransformer
from vitcli.models.weights import preprocessing_of
from vitcli.trained.loading import read_model
from vitcli.trained.model_names import is_run

_SIZE_FOR_PHOTOS = (64, 64)
"""Image size of models that take it from the data, where the data is photos."""
_FUNCTION = ("num_heads", "activation", "block_norm", "norm_eps", "pooling", "positions")
"""What weights were made with, without a tensor that shows it."""
_HELD_OUT_BY = ("val_fraction", "test_fraction", "folds", "fold")
"""Settings that decide which images validate."""


def starting_model(
    config: TrainConfig, facts: Facts, emit: Emit, *, settings: ModelConfig | None = None
) -> tuple[VisionTransformer, TrainConfig, Checkpoint | None]:
    """Build the model, take over weights, and freeze what is not trained.

    Args:
        config: which model, which weights, and what is trained.
        facts: how many classes and channels there are.
        emit: told what became of the weights.
        settings: the architecture, where it is known already.

    Returns:
        The model, on the CPU; the configuration, with the architecture's name; the weights' checkpoint, if any.

    Raises:
        UsageError, ModelError, RunError, DataError: no such model, or weights that cannot be had or do not fit.
    """
    source = None
    if config.run.init_from:
        output_dir = Path(config.run.output_dir).expanduser()
        found = read_model(config.run.init_from, output_dir=output_dir, offline=config.run.offline, emit=emit)
        source = found.checkpoint
    settings = settings or _model_settings(config.model, facts, source.model if source else None)
    config = replace(config, model=ModelChoice(name=settings.name, changes=config.model.changes))
    model = VisionTransformer(settings)
    if source:
        _take_over(found.path, source, model, config, facts, emit)
    _set_up(model, config)
    return model, config, source


def resumed_model(config: TrainConfig, settings: ModelConfig, last: Path) -> VisionTransformer:
    """The model of a run, for a training state; what no state has, the backbone of a head, is read from a checkpoint."""
    model = VisionTransformer(settings)
    if config.sees_images_once:
        model.load_state_dict(load_checkpoint(last).weights)
    _set_up(model, config)
    return model


def _set_up(model: VisionTransformer, config: TrainConfig) -> None:
    """Mark what is trained, and tell each head from what it learns."""
    model.heads_apart = bool(config.teacher.name)
    model.grad_checkpointing = config.run.grad_checkpointing  # a way of computing is not a part of the architecture
    if config.optim.lora:
        add_low_rank(model, config.optim.lora)
    else:
        train_only(model, config.optim.train_only)


def model_input(config: TrainConfig, facts: Facts, emit: Emit) -> tuple[ModelConfig, Preprocessing | None]:
    """Describe what ``starting_model`` would build, without fetching anything or reading named pretrained weights.

    Returns:
        The architecture; what the weights are used to that training starts from, if any.

    Raises:
        UsageError, ModelError, RunError: no such model, or weights of which nothing is known on this machine.
    """
    name, source, seen = config.run.init_from, None, None
    output_dir = Path(config.run.output_dir).expanduser()
    is_ours = Path(name).is_file() or is_run(name, output_dir)
    if name in PRETRAINED and not is_ours:
        source, seen = published(name)
    elif name:
        if not is_ours and (entry := find_pretrained(name)) and not find_weights(entry, weights_dir()):
            raise ModelError(
                f"{name} is not on this machine, so what it is used to is not known", hint=f"vit download {name}"
            )
        checkpoint = read_model(name, output_dir=output_dir, offline=True, emit=emit).checkpoint
        source, seen = checkpoint.model, checkpoint.preprocessing
    return _model_settings(config.model, facts, source), seen


def published(name: str) -> tuple[ModelConfig, Preprocessing]:
    """Architecture and images of pretrained weights, from the table alone; tensors may say more of the former."""
    entry = PRETRAINED[name]
    usual = listed_config(entry.model)
    size = entry.traits.image_size or usual.image_size
    model = replace(usual, **{**entry.traits.settings, "name": name, "image_size": size})
    return model, preprocessing_of(model, entry.traits)


def _model_settings(choice: ModelChoice, facts: Facts, source: ModelConfig | None) -> ModelConfig:
    """The architecture: of the registry, or that of the weights."""
    if choice.name != OF_THE_WEIGHTS:
        return model_config(
            choice,
            image_size=facts.native_size or _SIZE_FOR_PHOTOS,
            in_channels=facts.channels,
            num_classes=len(facts.classes),
        )
    assert source is not None
    fields = {**choice.changes, "in_channels": facts.channels, "num_classes": len(facts.classes)}
    return replace(source, **fields)


def _take_over(
    path: Path, source: Checkpoint, model: VisionTransformer, config: TrainConfig, facts: Facts, emit: Emit
) -> None:
    adapted = adapt_weights(
        source.weights,
        source.model,
        model.config,
        fresh=model.state_dict(),
        classes=(source.classes, facts.classes),
    )
    model.load_state_dict(adapted.weights, strict=False)
    emit(Note(text=f"weights from {path}:\n{_in_words(adapted, source.model)}"))
    if differing := [
        f"{name} = {getattr(source.model, name)}, not {getattr(model.config, name)}"
        for name in _FUNCTION
        if getattr(source.model, name) != getattr(model.config, name)
    ]:
        emit(Warned(text=f"these weights were made with {'; '.join(differing)}: they will not compute the same"))
    before = source.provenance
    if before.get("fingerprint") != facts.fingerprint or "val" in facts.counts:
        return
    then = asdict(DataConfig()) | before["data"]
    held_out_alike = all(then[name] == getattr(config.data, name) for name in _HELD_OUT_BY)
    if before["seed"] != config.run.seed or not held_out_alike:
        emit(Warned(text="these weights have seen some of the validation images, so validation will flatter them"))


def _in_words(adapted: Adapted, source: ModelConfig) -> str:
    """A short table of what became of the weights."""
    total = len(adapted.weights) + len(adapted.new)

    def names(keys: Iterable[str], head: str) -> str:
        return ", ".join(dict.fromkeys(head if key.startswith("head.") else key for key in keys))

    rows = {
        "as they are": f"{len(adapted.loaded)} of {total} tensors",
        "adapted": ", ".join(f"{name} ({what})" for name, what in adapted.changed),
        "new": names(adapted.new, "head"),
        "left over": names(adapted.left_over, f"head (of {source.num_classes:,} classes)"),
    }
    return "\n".join(f"  {what:12}{words}" for what, words in rows.items() if words)
