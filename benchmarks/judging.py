"""Measure the judging of models: time and memory of the metrics, and what calibration is worth.

    uv run python benchmarks/judging.py metrics                 # 1,000,000 images x 1,000 classes
    uv run python benchmarks/judging.py calibration digits      # five seeds: error before and after, coverage
    uv run python benchmarks/judging.py overhead DATASET RUN    # the share of `vit eval` outside model and decoding
    uv run python benchmarks/judging.py report                  # `vit report` of 10,000 photos, and opening it in Chromium

``calibration`` trains with the recipe of the data set, calibrates on the validation images, and counts on the test
images how often sets have the true class, and how many images are answered. With the numbers of validation and test
images, these counts follow a beta-binomial distribution if the promise holds; its central 95 % are printed beside.
``report`` draws photos of smooth noise, which no format makes very small, and trains a tiny model for one epoch, so that
most answers are mistakes. The time to open the page is that of Chromium from the start of loading to the end of its
``load`` event, and then from a click on the largest cell until its pictures are decoded.
"""

import argparse
import math
import resource
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
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

_BATCH = 250  # about as many images as `vit eval` judges at once


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


def calibration(dataset: str, seeds: range, share: float, epochs: int | None) -> None:
    """Train, calibrate, and compare promises with the test images."""
    for seed in seeds:
        with tempfile.TemporaryDirectory() as folder:
            given: dict[str, Any] = {} if epochs is None else {"epochs": epochs}
            run = vitcli.train(dataset, seed=seed, output_dir=folder, quiet=True, **given)
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
    chosen = choose_images([loaded], dataset="", split="test", directory="", offline=True, hint="", emit=ignore)
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


def overhead(dataset: str, run: str, rounds: int) -> None:
    """Compare the time of ``vit eval`` with that of its pass over the images."""
    loaded = load_model(run)
    chosen = choose_images([loaded], dataset=dataset, split="auto", directory="", offline=True, hint="", emit=ignore)
    times = []
    for _ in range(rounds):
        started = time.perf_counter()
        judge([loaded], chosen, batch_size=256, emit=ignore)
        middle = time.perf_counter()
        vitcli.evaluate(dataset, model=run, quiet=True)
        times.append((middle - started, time.perf_counter() - middle))
    alone, whole = (statistics.median(column) for column in zip(*times, strict=True))
    print(f"the pass over the images {alone:.2f} s, all {whole:.2f} s: {100 * (whole - alone) / whole:.1f} % outside")


def report(images: int, pixels: int, classes: int = 20) -> None:
    """Time ``vit report``, and a browser that opens the page."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        random = np.random.default_rng(0)
        for at in range(images + 10 * classes):
            coarse = Image.fromarray(random.integers(0, 256, (12, 12, 3), dtype=np.uint8))
            path = folder / "photos" / ("test" if at < images else "train") / f"class {at % classes}" / f"{at:05d}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            coarse.resize((pixels, pixels), Image.Resampling.BICUBIC).save(path, quality=90)
        small = {"model": {"depth": 1, "width": 16, "num_heads": 2, "mlp_width": 32}}
        where: dict[str, Any] = {"output_dir": folder / "runs", "data_dir": folder / "data", "quiet": True}
        run = vitcli.train(folder / "photos", small, epochs=1, **where)
        assert isinstance(run, vitcli.TrainResult)
        vitcli.evaluate(model=run, **where)
        started = time.perf_counter()
        found = vitcli.report(run, **where)
        took = time.perf_counter() - started
        (only,) = found.evaluations
        print(
            f"{images:,} photos: {took:.1f} s, {found.size / 1e6:.1f} MB, {only.pictures:,} pictures, {only.maps} maps"
        )
        opened = sorted(_open(found.file) for _ in range(5))
        print(
            f"opened in {opened[2][0]:.2f} s ({opened[0][0]:.2f} to {opened[-1][0]:.2f}); a cell in {opened[2][1]:.2f} s"
        )


def _open(page: Path) -> tuple[float, float]:
    """Return the seconds until a fresh browser has loaded the page, and until it shows the pictures of a cell."""
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = "/usr/bin/chromium"
    for flag in ("headless", "no-sandbox", "disable-gpu", "disable-dev-shm-usage", "window-size=1200,1000"):
        options.add_argument(f"--{flag}")
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService("/usr/bin/chromedriver"))
    try:
        driver.get(page.resolve().as_uri())
        loaded = driver.execute_script("return performance.getEntriesByType('navigation')[0].loadEventEnd")
        shown = driver.execute_async_script(
            "const done = arguments[0], began = performance.now();"
            "const sizes = [...document.querySelectorAll('.matrix .open')].map((each) => [Number(each.textContent), each]);"
            "sizes.sort((one, other) => other[0] - one[0])[0][1].click();"
            "Promise.all([...document.querySelectorAll('#cell img')].map((each) => each.decode()))"
            ".then(() => done(performance.now() - began));"
        )
        return loaded / 1000, shown / 1000
    finally:
        driver.quit()


def main() -> None:
    """Parse the words, and run one of the measurements."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["metrics", "calibration", "overhead", "report"])
    parser.add_argument("names", nargs="*")
    parser.add_argument("--images", type=int)
    parser.add_argument("--pixels", type=int, default=256)
    parser.add_argument("--classes", type=int, default=1000)
    parser.add_argument("--seeds", type=int, default=5, help="number of seeds")
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--share", type=float, default=0.9)
    parser.add_argument("--rounds", type=int, default=3, help="rounds of `overhead`; the median counts")
    parser.add_argument("--epochs", type=int, help="epochs of each training; without it, the recipe's")
    given = parser.parse_args()
    if given.what == "metrics":
        metrics(given.images or 1_000_000, given.classes)
    elif given.what == "calibration":
        calibration(
            given.names[0] if given.names else "digits",
            range(given.first_seed, given.first_seed + given.seeds),
            given.share,
            given.epochs,
        )
    elif given.what == "report":
        report(given.images or 10_000, given.pixels)
    else:
        overhead(given.names[0], given.names[1], given.rounds)


if __name__ == "__main__":
    main()
