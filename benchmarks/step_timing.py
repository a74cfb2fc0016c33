"""Measure the speed of steps, and the use of a GPU; part of other benchmarks."""

import shutil
import statistics
import subprocess
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Self

import torch

from vitcli.data.loader import Batch
from vitcli.engine.device import synchronize

SECONDS_BETWEEN_SAMPLES = 0.1
Span = tuple[float, float]


class TimedBatches:
    """The batches of an epoch, which also record the time that the device takes for the measured steps.

    Args:
        epoch: a function from the number of an epoch to its batches.
        batch_size: the number of images in a batch.
        warm_up: the number of steps before the measured steps.
        steps: the number of measured steps.
        device: the device that takes the steps.
    """

    def __init__(
        self,
        epoch: Callable[[int], Iterable[Batch]],
        *,
        batch_size: int,
        warm_up: int,
        steps: int,
        device: torch.device,
    ) -> None:
        self.batch_size = batch_size
        self.steps = steps
        self.spans: list[Span] = []
        """The start and end of the measured steps, for all epochs except the first, which only warms up."""
        self._epoch = epoch
        self._warm_up = warm_up
        self._device = device
        self._is_first = True

    @property
    def num_images(self) -> int:
        """The number of images in an epoch."""
        return self.batch_size * len(self)

    @property
    def images_per_second(self) -> float:
        """The median speed of the epochs."""
        return self.batch_size * self.steps / statistics.median(ended - began for began, ended in self.spans)

    def __len__(self) -> int:
        return self._warm_up + self.steps

    def epoch(self, number: int, *, start: int = 0) -> Iterator[Batch]:
        """Yield the batches of an epoch; the caller takes a step between two batches."""
        assert not start
        began, taken = 0.0, 0
        for batch in self._epoch(number):
            yield batch
            taken += 1
            if taken == self._warm_up:
                began = self._now()
        assert taken == len(self), taken
        if not self._is_first:
            self.spans.append((began, self._now()))
        self._is_first = False

    def _now(self) -> float:
        """Wait until the device has finished all its work, and return the time."""
        synchronize(self._device)
        return time.perf_counter()


class Utilisation:
    """The share of time in which a GPU computes, sampled in a thread; without a GPU or nvidia-smi, it is unknown."""

    def __init__(self, device: torch.device) -> None:
        self._samples: list[tuple[float, int]] = []
        self._over = threading.Event()
        self._thread: threading.Thread | None = None
        if device.type == "cuda" and shutil.which("nvidia-smi"):
            gpu = f"--id=GPU-{torch.cuda.get_device_properties(device).uuid}"
            words = ["nvidia-smi", gpu, "--query-gpu=utilization.gpu", "--format=csv,noheader,nounits"]
            self._thread = threading.Thread(target=self._sample, args=[words])

    def __enter__(self) -> Self:
        if self._thread:
            self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._over.set()
        if self._thread:
            self._thread.join()

    def during(self, spans: Sequence[Span]) -> str:
        """Describe the mean of the samples within spans of time."""
        shares = [share for when, share in self._samples if any(began < when < ended for began, ended in spans)]
        return f"GPU busy {statistics.mean(shares):.0f} % of the time" if shares else "utilisation not known"

    def _sample(self, words: Sequence[str]) -> None:
        while not self._over.wait(SECONDS_BETWEEN_SAMPLES):
            answer = subprocess.run(words, capture_output=True, text=True, check=False).stdout.strip()
            if answer.isdecimal():
                self._samples.append((time.perf_counter(), int(answer)))
