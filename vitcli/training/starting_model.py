"""The model that training starts with: randomly initialised, or from weights."""

from collections.abc import Iterable
from dataclasses import asdict, replace
from pathlib import Path

from vitcli.core.config import DataConfig, TrainConfig
from vitcli.core.errors import ModelError
from vitcli.core.events import Emit, Note, Warned
from vitcli.core.files import expanded
from vitcli.core.fingerprints import is_same_data
from vitcli.core.model_config import OF_THE_WEIGHTS, ModelChoice, ModelConfig
from vitcli.core.preprocessing import Preprocessing
from vitcli.data.dataset import Facts
from vitcli.data.store import weights_dir
from vitcli.engine.checkpoint import Checkpoint, load_checkpoint
from vitcli.models.adapt import Adapted, adapt_weights
from vitcli.models.finetune import add_low_rank, train_only
from vitcli.models.hub import find_pretrained, find_weights
from vitcli.models.pretrained import PRETRAINED
from vitcli.models.registry import SIZE_FOR_PHOTOS, listed_config, model_config, with_its_patches_in_the_name
from vitcli.models.vit import VisionTransformer
from vitcli.models.weights import preprocessing_of
from vitcli.trained.loading import read_model
from vitcli.trained.model_names import is_run

_FUNCTION = (
    *("num_heads", "activation", "block_norm", "norm_eps", "pooling", "positions", "final_norm", "input_norm"),
    "layer_scale",
)
"""Settings of the architecture with which the same weights compute something else."""
_HELD_OUT_BY = ("val_fraction", "test_fraction", "val_split", "folds", "fold")
"""Settings that decide which images are used for validation."""


def starting_model(
    config: TrainConfig, facts: Facts, emit: Emit, *, settings: ModelConfig | None = None
) -> tuple[VisionTransformer, TrainConfig, Checkpoint | None]:
    """Build the model, load weights into it, and freeze the weights that are not trained.

    Args:
        config: the complete configuration.
        facts: the facts about the data set, with its classes and channels.
        emit: receives a note about the loaded weights.
        settings: the architecture; None: choose it by the configuration.

    Returns:
        The model, on the CPU; the configuration, with the architecture's name; the checkpoint of the weights, or None.

    Raises:
        UsageError, ModelError, RunError, DataError: there is no such model, or weights cannot be found or read, or do
            not fit.
    """
    source = None
    if config.run.init_from:
        output_dir = expanded(config.run.output_dir)
        found = read_model(config.run.init_from, output_dir=output_dir, offline=config.run.offline, emit=emit)
        source = found.checkpoint
    settings = settings or _model_settings(config.model, facts, source.model if source else None)
    if config.model.name == OF_THE_WEIGHTS:
        config = replace(config, model=ModelChoice(name=settings.name, changes=config.model.changes))
    model = VisionTransformer(settings)
    if source:
        _take_over(found.path, source, model, config, facts, emit)
    _set_up(model, config)
    return model, config, source


def resumed_model(config: TrainConfig, settings: ModelConfig, last: Path) -> VisionTransformer:
    """Build the model of a resumed run, ready for its training state.

    A state lacks the weights of a frozen backbone; these are loaded from the checkpoint ``last``.
    """
    model = VisionTransformer(settings)
    if config.sees_images_once:
        model.load_state_dict(load_checkpoint(last).weights)
    _set_up(model, config)
    return model


def _set_up(model: VisionTransformer, config: TrainConfig) -> None:
    """Set which weights are trained, whether a second head learns from the teacher, and gradient checkpointing."""
    model.heads_apart = bool(config.teacher.name)
    model.grad_checkpointing = config.run.grad_checkpointing  # a way of computing, not a part of the architecture
    if config.optim.lora:
        add_low_rank(model, config.optim.lora)
    else:
        train_only(model, config.optim.train_only)


def model_input(config: TrainConfig, facts: Facts, emit: Emit) -> tuple[ModelConfig, Preprocessing | None]:
    """Describe the model that ``starting_model`` would build, without building it.

    Listed pretrained weights are not read; other weights are read, but not downloaded.

    Returns:
        The architecture; the preprocessing of the weights that training starts from, or None.

    Raises:
        UsageError, ModelError, RunError: there is no such model, or nothing about the weights is known on this machine.
    """
    name, source, seen = config.run.init_from, None, None
    output_dir = expanded(config.run.output_dir)
    is_ours = Path(name).is_file() or is_run(name, output_dir)
    if name in PRETRAINED and not is_ours:
        source, seen = published(name)
    elif name:
        if not is_ours and (entry := find_pretrained(name)) and not find_weights(entry, weights_dir()):
            raise ModelError(
                f"{name} is not on this machine, so its preprocessing is not known", hint=f"vit download {name}"
            )
        checkpoint = read_model(name, output_dir=output_dir, offline=True, emit=emit).checkpoint
        source, seen = checkpoint.model, checkpoint.preprocessing
    return _model_settings(config.model, facts, source), seen


def published(name: str) -> tuple[ModelConfig, Preprocessing]:
    """Look up the architecture and preprocessing of pretrained weights, without reading them.

    The weights themselves may tell more about the architecture.
    """
    entry = PRETRAINED[name]
    usual = listed_config(entry.model)
    size = entry.traits.image_size or usual.image_size
    model = replace(usual, **{**entry.traits.settings, "name": name, "image_size": size})
    return model, preprocessing_of(model, entry.traits)


def _model_settings(choice: ModelChoice, facts: Facts, source: ModelConfig | None) -> ModelConfig:
    """Return the architecture: from the registry, or from the weights."""
    if choice.name != OF_THE_WEIGHTS:
        return model_config(
            choice,
            image_size=facts.native_size or SIZE_FOR_PHOTOS,
            in_channels=facts.channels,
            num_classes=len(facts.classes),
        )
    assert source is not None
    fields = {**choice.changes, "in_channels": facts.channels, "num_classes": len(facts.classes)}
    return with_its_patches_in_the_name(replace(source, **fields))


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
        emit(
            Warned(text=f"these weights were trained with {'; '.join(differing)}: the model will compute other results")
        )
    before = source.provenance
    if not is_same_data(before.get("fingerprint"), facts.fingerprint) or "val" in facts.counts:
        return
    then = asdict(DataConfig()) | before["data"]
    held_out_alike = all(then[name] == getattr(config.data, name) for name in _HELD_OUT_BY)
    if before["seed"] != config.run.seed or not held_out_alike:
        emit(Warned(text="these weights were trained on some validation images, so validation scores will be too high"))


def _in_words(adapted: Adapted, source: ModelConfig) -> str:
    """Format a short table: which weights were loaded, adapted, new or left over."""
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
