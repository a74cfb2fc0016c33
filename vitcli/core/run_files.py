"""The entries of the JSON files of a run that are read again, and their types."""

from typing import Literal, NotRequired, TypedDict

from vitcli.core.events import EpochRecord
from vitcli.core.stored import JsonObject

Status = Literal["running", "finished", "interrupted", "failed"]


class Gpu(TypedDict):
    """The entries of a GPU in ``run.json``."""

    name: str


class Hardware(TypedDict):
    """The entries of the machine in ``run.json``."""

    cpu: NotRequired[str | None]
    cores: NotRequired[int | None]
    gpus: NotRequired[list[Gpu]]


class ImageCounts(TypedDict):
    """The numbers of images by split in ``run.json``."""

    train: int
    val: NotRequired[int]
    test: NotRequired[int]


class RunFile(TypedDict):
    """The entries of ``run.json``."""

    status: Status
    started: str
    ended: str | None
    dataset: str
    model: str
    recipe: str
    fold: NotRequired[int]
    nth_seed: NotRequired[int]
    fingerprint: NotRequired[str | None]
    resumed: NotRequired[list[str]]
    versions: NotRequired[dict[str, str]]
    computed: NotRequired[JsonObject | None]
    teacher: NotRequired[JsonObject | None]
    class_weights: NotRequired[list[float] | None]
    seconds: NotRequired[float]
    parameters: NotRequired[int]
    device: NotRequired[str]
    classes: NotRequired[int]
    images: NotRequired[ImageCounts]
    hardware: NotRequired[Hardware | None]
    command: NotRequired[list[str]]
    git_commit: NotRequired[str | None]


class DataSection(TypedDict):
    """The entries of the data in ``config.json`` that are read without the others."""

    name: NotRequired[str]
    folds: NotRequired[int]


class ModelSection(TypedDict):
    """The same for the model."""

    name: NotRequired[str]


class OptimSection(TypedDict):
    """The same for the optimization."""

    epochs: NotRequired[int | None]


class TeacherSection(TypedDict):
    """The same for the teacher."""

    name: NotRequired[str]


class RunSection(TypedDict):
    """The same for the run itself."""

    init_from: NotRequired[str]
    seeds: NotRequired[int]


class ConfigFile(TypedDict):
    """The sections of ``config.json``."""

    data: NotRequired[DataSection]
    augment: NotRequired[JsonObject]
    model: NotRequired[ModelSection]
    optim: NotRequired[OptimSection]
    teacher: NotRequired[TeacherSection]
    run: NotRequired[RunSection]
    resolved_model: NotRequired[JsonObject]
    preprocessing: NotRequired[JsonObject]


class MetricsFile(TypedDict):
    """The entries of ``metrics.json``."""

    best: EpochRecord | None
    epochs: list[EpochRecord]


class SplitFile(TypedDict):
    """The entries of ``split.json``."""

    fingerprint: str
    held_out: dict[str, list[str | int]]
    val_is_test: NotRequired[bool]


class EvaluatedClass(TypedDict):
    """The entries of a class in a file in ``evaluations/``."""

    name: str
    images: int


class EvaluationFile(TypedDict):
    """The entries of a file in ``evaluations/``."""

    top1: float
    epoch: NotRequired[int | None]
    held_out: NotRequired[bool | None]
    model: NotRequired[str]
    models: NotRequired[list[str]]
    checkpoint: NotRequired[str]
    dataset: NotRequired[str]
    data: NotRequired[str]
    table: NotRequired[list[str]]
    fingerprint: NotRequired[str]
    split: NotRequired[str]
    part: NotRequired[str]
    found_in: NotRequired[str]
    views: NotRequired[str]
    class_choice: NotRequired[str]
    trained_on: NotRequired[int]
    chose_epoch_by: NotRequired[int]
    temperature: NotRequired[float | None]
    images: NotRequired[int]
    classes: NotRequired[list[EvaluatedClass]]
    loss: NotRequired[float]
    balanced_accuracy: NotRequired[float]
    macro_f1: NotRequired[float]
    intervals: NotRequired[dict[str, tuple[float, float]]]
