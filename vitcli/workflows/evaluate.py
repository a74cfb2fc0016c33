"""Judge a trained model on a split that did not choose it."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import torch

from vitcli.core.config import DataConfig
from vitcli.core.errors import DataError, UsageError
from vitcli.core.events import Emit, TaskProgress, Warned, ignore
from vitcli.core.files import write_json
from vitcli.data.cache import PreparedSplit
from vitcli.data.dataset import Dataset, canonical_name, open_dataset
from vitcli.data.loader import Batches
from vitcli.data.raw import SplitName
from vitcli.data.splits import Part, Plan, plan_splits, restored_plan
from vitcli.data.store import data_dir
from vitcli.engine.evaluate import predict_logits
from vitcli.engine.metrics import Metrics, compute_metrics
from vitcli.figures.confusion import draw_confusion
from vitcli.workflows.loading import LoadedModel, load_model


@dataclass(frozen=True, kw_only=True, slots=True)
class EvalResult:
    """The metrics of one model on one split, and where they are stored."""

    model: str
    checkpoint: Path
    dataset: str
    split: SplitName
    metrics: Metrics
    stored: Path | None
    """The JSON file in the run; None for a checkpoint that lies in no run."""
    figure: Path | None


def evaluate(
    *,
    dataset: str = "",
    model: str = "",
    split: Literal["auto", "train", "val", "test"] = "auto",
    output_dir: Path = Path("experiments"),
    directory: str = "",
    device: str = "auto",
    batch_size: int = 256,
    offline: bool = False,
    emit: Emit = ignore,
) -> EvalResult:
    """Evaluate a model, store the numbers in its run and draw the confusion matrix.

    Args:
        dataset: a data set or folder; empty: the one that the model was trained on.
        model: a run or checkpoint; empty: the newest finished run.
        split: auto takes the test split, else the validation split.
        output_dir: where runs are.
        directory: where data sets are kept; empty: as in training.
        device: auto, cpu, cuda, cuda:N or mps.
        batch_size: images per batch.
        offline: fetch no weights.
        emit: told about the progress.

    Raises:
        DataError: the data set has no such split, or other classes than the model.
    """
    loaded = load_model(model, output_dir=output_dir, device=device, offline=offline, emit=emit)
    provenance = loaded.checkpoint.provenance
    trained_on = provenance.get("data")  # absent for weights from elsewhere
    if not dataset and not trained_on:
        raise UsageError(
            f"{loaded.name} comes from elsewhere, so its data set is not known",
            hint=f"vit eval DATASET --model {model}",
        )
    before = loaded.data
    same_data = not dataset or canonical_name(dataset) == before.name
    config = before if same_data else _elsewhere(dataset, before)
    kept_in = before.dir if Path(before.dir).is_dir() else ""  # the model may come from elsewhere
    opened = open_dataset(config, directory=data_dir(directory or kept_in), offline=offline, emit=emit)
    plan = (
        _plan(opened, config, loaded, emit) if same_data else {name: Part(found=name) for name in opened.facts.counts}
    )
    chosen = _choose_split(opened, plan, split, same_data=same_data, emit=emit)
    part = plan[chosen]
    images = opened.split(part.found, loaded.checkpoint.preprocessing.geometry, members=part.members, emit=emit)
    labels = _labels_of_model(images, opened.facts.classes, loaded.checkpoint.classes)
    batches = Batches(
        images.images,
        labels,
        members=torch.from_numpy(images.readable()),
        batch_size=batch_size,
        transform=loaded.to_input,
        device=loaded.device,
    )
    task, total, done = f"evaluating on {opened.facts.name} ({chosen})", batches.num_images, 0
    emit(TaskProgress(task=task, done=0, total=total))

    def on_batch(count: int) -> None:
        nonlocal done
        done += count
        emit(TaskProgress(task=task, done=done, total=total))

    logits, targets = predict_logits(loaded.model, batches, loaded.precision, on_batch)
    metrics = compute_metrics(logits, targets, loaded.checkpoint.classes)
    stem = chosen if same_data else f"{opened.facts.name}-{chosen}"
    if loaded.run and loaded.path.resolve() != loaded.run.best_checkpoint.resolve():
        stem += f"-{loaded.path.stem}"  # the plain names are those of the best epoch
    stored = figure = None
    if loaded.run:
        stored, figure = loaded.run.evaluation(stem), loaded.run.figure(f"confusion-{stem}")
        write_json(
            stored,
            {
                "dataset": opened.facts.name,
                "split": chosen,
                "checkpoint": loaded.path.name,
                "epoch": loaded.checkpoint.provenance.get("epoch"),
                "precision": loaded.precision.name,
                **asdict(metrics),
            },
        )
        draw_confusion(
            metrics.confusion,
            loaded.checkpoint.classes,
            figure,
            title=f"{loaded.name}: {100 * metrics.top1:.2f} % of {metrics.images:,} {chosen} images",
        )
    return EvalResult(
        model=loaded.name,
        checkpoint=loaded.path,
        dataset=opened.facts.name,
        split=chosen,
        metrics=metrics,
        stored=stored,
        figure=figure,
    )


def _elsewhere(name: str, before: DataConfig) -> DataConfig:
    """Another data set than the model's: read the same way, and all of it to judge by."""
    return DataConfig(
        name=name, on_bad_image=before.on_bad_image, cache=before.cache, workers=before.workers, test_fraction=0
    )


def _plan(dataset: Dataset, config: DataConfig, loaded: LoadedModel, emit: Emit) -> Plan:
    """The splits that the model was trained with: those stored in its run, else the same ones found again."""
    stored = loaded.run.split if loaded.run else None
    if dataset.facts.fingerprint != loaded.checkpoint.provenance["fingerprint"]:
        kept = "what was held out then still is" if stored else "its splits may differ"
        emit(Warned(text=f"{dataset.facts.name} has changed since this model was trained: {kept}"))
    if stored:
        return restored_plan(stored, dataset)
    return plan_splits(dataset, config, seed=loaded.checkpoint.provenance["seed"])


def _choose_split(
    dataset: Dataset, plan: Plan, asked: Literal["auto", "train", "val", "test"], *, same_data: bool, emit: Emit
) -> SplitName:
    """The split to judge; of another data set than the model's without a test split, all that there is."""
    if asked != "auto":
        if asked in plan:
            return asked
        raise DataError(f"{dataset.facts.name} has no {asked} split", hint=f"it has {', '.join(plan)}")
    if "test" in plan:
        return "test"
    if same_data and "val" not in plan:
        raise DataError(
            f"none of the images of {dataset.facts.name} that were held out are there any more",
            hint="vit eval DATASET judges the model on another data set",
        )
    if same_data:
        emit(Warned(text="there is no test split: these images chose the epoch, so they flatter the model"))
        return "val"
    return "val" if "val" in plan else "train"


def _labels_of_model(split: PreparedSplit, classes: tuple[str, ...], known: tuple[str, ...]) -> torch.Tensor:
    """Labels as indices into the model's classes: the two are aligned by name."""
    unknown = [name for name in classes if name not in known]
    if unknown:
        raise DataError(
            f"the model does not know {len(unknown)} of the classes, for example {unknown[0]!r}",
            hint=f"it knows {', '.join(known[:10])}" + (" ..." if len(known) > 10 else ""),
        )
    return torch.tensor([known.index(name) for name in classes])[split.labels]
