"""Measure the judging of models: time and memory of the metrics, and what calibration is worth.

    uv run python benchmarks/judging.py metrics                 # 1,000,000 images x 1,000 classes
    uv run python benchmarks/judging.py calibration digits      # five seeds: error before and after, coverage
    uv run python benchmarks/judging.py overhead DATASET RUN    # the share of `vit eval` outside model and decoding

``calibration`` trains with the recipe of the data set, calibrates on the validation images, and counts on the test
images how often sets have the true class, and how many images are answered. With the numbers of validation and test
images, these counts follow a beta-binomial distribution if the promise holds; its central 95 % are printed beside.
"""

import argparse
import math
import resource
import tempfile
import time
from pathlib import Path

import torch
from scipy import stats
from sklearn.metrics import log_loss

import vitcli
from vitcli.core.calibration import Calibration
from vitcli.core.events import ignore
from vitcli.engine.checkpoint import load_checkpoint
from vitcli.judging.answers import AnswerCollector
from vitcli.judging.judge import judge
from vitcli.judging.metrics import metrics_of
from vitcli.trained.judged_images import choose_images
from vitcli.trained.loading import load_model

_BATCH = 5000


def metrics(images: int, classes: int) -> None:
    """Time all metrics of random logits, which are made batch by batch."""
    generator = torch.Generator().manual_seed(0)
    collector, seconds = AnswerCollector(tuple(map(str, range(classes)))), 0.0
    for _ in range(images // _BATCH):
        logits = 2 * torch.randn(_BATCH, classes, generator=generator)
        truth = torch.randint(classes, (_BATCH,), generator=generator)
        logits[torch.arange(_BATCH), truth] += 5
        started = time.perf_counter()
        collector.add(logits, truth)
        seconds += time.perf_counter() - started
    started = time.perf_counter()
    found = metrics_of(collector.answers())
    last = time.perf_counter() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(
        f"{images:,} x {classes:,}: {seconds:.1f} s for batches, {last:.1f} s for metrics and intervals, {peak:.2f} GB"
    )
    print(f"top-1 {100 * found.top1:.2f} %, macro F1 {100 * found.macro_f1:.2f} %, ROC-AUC {found.roc_auc:.4f}")


def calibration(dataset: str, seeds: int, share: float) -> None:
    """Train, calibrate, and compare promises with the test images."""
    for seed in range(seeds):
        with tempfile.TemporaryDirectory() as folder:
            run = vitcli.train(dataset, seed=seed, output_dir=folder, quiet=True)
            assert isinstance(run, vitcli.TrainResult)
            before = vitcli.evaluate(model=run, quiet=True).metrics
            fitted = vitcli.calibrate(run, quiet=True)
            after = vitcli.evaluate(model=run, quiet=True).metrics
            kept = load_checkpoint(fitted.checkpoint).calibration
            assert kept
            print(
                f"seed {seed}: top-1 {100 * after.top1:.2f} %, temperature {fitted.temperature:.3f}, ECE"
                f" {100 * before.ece:.2f} -> {100 * after.ece:.2f} %, loss {before.loss:.4f} -> {after.loss:.4f};"
                f" {_coverage(Path(folder), kept, share)}"
            )


def _coverage(folder: Path, kept: Calibration, share: float) -> str:
    loaded = load_model(output_dir=folder)
    chosen = choose_images(loaded, dataset="", split="test", directory="", offline=True, hint="", emit=ignore)
    judged = judge([loaded], chosen, batch_size=256, keeps_logits=True, emit=ignore)
    probabilities, truth = judged.logits.double().softmax(dim=1), torch.from_numpy(judged.answers.truth)
    assert math.isclose(
        log_loss(truth, probabilities, labels=range(probabilities.shape[1])), judged.answers.loss.mean()
    )
    images, fitted_on = len(truth), kept.doubt.images
    rank = math.ceil((fitted_on + 1) * share)
    low, high = stats.betabinom(images, rank, fitted_on + 1 - rank).interval(0.95)
    sets = probabilities >= kept.least_probability(share)
    in_set = int(sets[torch.arange(images), truth].sum())
    answered = int((probabilities.amax(dim=1) > kept.least_confidence(share)).sum())
    return (
        f"sets {100 * share:g} %: {100 * in_set / images:.2f} % ({sets.sum(dim=1).double().mean():.2f} classes), coverage"
        f" {100 * share:g} %: {100 * answered / images:.2f} %; expected {100 * low / images:.2f} to"
        f" {100 * high / images:.2f} %"
    )


def overhead(dataset: str, run: str) -> None:
    """Compare the time of ``vit eval`` with that of its pass over the images."""
    loaded = load_model(run)
    chosen = choose_images(loaded, dataset=dataset, split="auto", directory="", offline=True, hint="", emit=ignore)
    times = []
    for _ in range(3):
        started = time.perf_counter()
        judge([loaded], chosen, batch_size=256, emit=ignore)
        middle = time.perf_counter()
        vitcli.evaluate(dataset, model=run, quiet=True)
        times.append((middle - started, time.perf_counter() - middle))
    alone, whole = (sorted(column)[1] for column in zip(*times, strict=True))
    print(f"the pass over the images {alone:.2f} s, all {whole:.2f} s: {100 * (whole - alone) / whole:.1f} % outside")


def main() -> None:
    """Parse the words, and run one of the measurements."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["metrics", "calibration", "overhead"])
    parser.add_argument("names", nargs="*")
    parser.add_argument("--images", type=int, default=1_000_000)
    parser.add_argument("--classes", type=int, default=1000)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--share", type=float, default=0.9)
    given = parser.parse_args()
    if given.what == "metrics":
        metrics(given.images, given.classes)
    elif given.what == "calibration":
        calibration(given.names[0] if given.names else "digits", given.seeds, given.share)
    else:
        overhead(given.names[0], given.names[1])


if __name__ == "__main__":
    main()
