"""Batches of images and labels: gathered, moved to the device and transformed, one batch at a time."""

import math
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Protocol

import torch
from torch import Tensor

from vitcli.core.launch import ALONE, Place
from vitcli.core.seeds import derived_seed
from vitcli.data.cache import Images
from vitcli.data.shares import Share, share_of
from vitcli.data.threaded import to_device

_FITS_DEVICE = 0.5
"""The share of the free device memory that the images may take."""
_AT_HAND = 2**30
"""Tensors up to this many bytes are read directly; batches of larger ones are fetched in advance."""
_AHEAD = 3
"""The number of batches that are fetched in advance."""

Batch = tuple[Tensor, Tensor]
"""Model input (B, C, H, W) and labels (B,)."""


class Transform(Protocol):
    """A function from a uint8 batch on the device, or a share of it, to model input.

    The transform of training draws its random changes from the generator.
    """

    def __call__(  # noqa: D102
        self, images: Tensor, generator: torch.Generator, stretch: Tensor | None, share: Share | None, /
    ) -> Tensor: ...


class Batches:
    """Batches of a split's images and labels: in order by iteration, or shuffled by epoch.

    Args:
        images: uint8, (N, C, H, W), in memory, memory-mapped or decoded on access; tensors move to a GPU if they fit.
        labels: int64, (N,).
        stretch: float32, (N,), as in ``PreparedSplit``; None: all 1.
        members: indices of the images to use; None: all.
        batch_size: images per batch; the last batch may be smaller.
        transform: the function that turns a batch into model input.
        device: the device of the batches.
        seed: the seed of the order and the transform; the same seed, epoch and step give the same batch.
        balanced: draw shuffled epochs with replacement, all classes equally often; their length does not change.
        place: the rank among several processes. Each process takes a share of every shuffled batch. If the batches are
            in order, each takes whole batches in turn, so that every image is computed once, as in a single process.
    """

    def __init__(
        self,
        images: Images,
        labels: Tensor,
        *,
        stretch: Tensor | None = None,
        members: Tensor | None = None,
        batch_size: int,
        transform: Transform,
        device: torch.device,
        seed: int = 0,
        balanced: bool = False,
        place: Place = ALONE,
    ) -> None:
        self.images = _placed(images, device)
        self.labels = labels.to(device)
        self.stretch = torch.ones(len(labels)) if stretch is None else stretch
        self.members = torch.arange(len(labels)) if members is None else members
        self.batch_size = min(batch_size, len(self.members))
        self.device = device
        self.seed = seed
        self.place = place
        self._transform = transform
        present = labels.cpu()[self.members]
        self._chances = 1 / present.bincount().double()[present] if balanced else None

    @property
    def num_images(self) -> int:
        """The number of images that one pass yields."""
        return len(self.members)

    def __len__(self) -> int:
        return math.ceil(self.num_images / self.batch_size)

    def __iter__(self) -> Iterator[Batch]:
        batches = self.members.split(self.batch_size)
        none = [self.members[:0]] * (-len(batches) % self.place.size)  # so that all processes have equally many batches
        mine = [*batches, *none][self.place.rank :: self.place.size]
        return self._batches(mine, [self.stretch[batch] for batch in mine], epoch=0)

    def epoch(self, number: int, *, start: int = 0) -> Iterator[Batch]:
        """Iterate over the batches of an epoch in its random order, starting at step ``start``."""
        generator = torch.Generator().manual_seed(derived_seed("order", self.seed, number))
        if self._chances is None:
            order = torch.randperm(self.num_images, generator=generator)
        else:
            below = self._chances.cumsum(0)
            draws = torch.rand(self.num_images, generator=generator, dtype=torch.float64) * below[-1]
            order = torch.searchsorted(below, draws).clamp(max=self.num_images - 1)
        batches: Sequence[Tensor] = self.members[order].split(self.batch_size)
        stretches = [self.stretch[batch] for batch in batches]
        if self.place.size == 1:
            return self._batches(batches, stretches, epoch=number, start=start)
        shares = [share_of(len(batch), self.place) for batch in batches]
        mine = [batch[share.members] for batch, share in zip(batches, shares, strict=True)]
        return self._batches(mine, stretches, shares, epoch=number, start=start)

    def _batches(
        self,
        batches: Sequence[Tensor],
        stretches: Sequence[Tensor],
        shares: Sequence[Share] = (),
        *,
        epoch: int,
        start: int = 0,
    ) -> Iterator[Batch]:
        """Iterate over batches of images.

        Args:
            batches: the indices of the images of each batch, or of this process's share of it.
            stretches: the stretch of each image of the whole batches.
            shares: this process's share of each batch; empty: the whole batch.
            epoch: the number of the epoch.
            start: the first step.
        """
        sizes = [len(batch) for batch in batches]
        order = torch.cat([self.members[:0], *batches])
        here, there = order.to(self.images.device), order.to(self.device)  # one copy per epoch, not one per batch
        gathered = self._gathered(here.split(sizes)[start:])
        for step, (images, from_labels) in enumerate(zip(gathered, there.split(sizes)[start:], strict=True), start):
            generator = torch.Generator().manual_seed(derived_seed("transform", self.seed, epoch, step))
            share = shares[step] if shares else None
            changed = self._transform(to_device(images, self.device), generator, stretches[step], share)
            yield changed, self.labels[from_labels]

    def _gathered(self, batches: Iterable[Tensor]) -> Iterator[Tensor]:
        """Gather the images of each batch of indices; fetch in advance those that are not in memory."""
        if isinstance(self.images, Tensor) and (self.images.is_cuda or self.images.nbytes <= _AT_HAND):
            yield from (self.images.index_select(0, batch) for batch in batches)  # far faster than images[batch]
            return
        take = partial(self.images.index_select, 0) if isinstance(self.images, Tensor) else self.images.__getitem__

        def fetch(batch: Tensor) -> Tensor:
            images = take(batch)
            # Without pinned memory, the copy to the GPU would block.
            return images.pin_memory() if self.device.type == "cuda" else images

        ahead: deque[Future[Tensor]] = deque()
        with ThreadPoolExecutor(1) as fetcher:
            for batch in batches:
                ahead.append(fetcher.submit(fetch, batch))
                if len(ahead) > _AHEAD:
                    yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()


def _free_bytes(device: torch.device) -> int:
    """Return the free memory of a GPU, and what torch keeps of earlier tensors, such as those of a trial."""
    kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return int(torch.cuda.mem_get_info(device)[0]) + kept


def _placed(images: Images, device: torch.device) -> Images:
    if isinstance(images, Tensor) and device.type == "cuda" and images.nbytes < _FITS_DEVICE * _free_bytes(device):
        return images.to(device)
    return images
