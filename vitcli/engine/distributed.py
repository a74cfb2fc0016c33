"""Several processes that train one model: each computes a share of every batch, and all take the same steps.

They are started by ``torchrun``, or by whatever sets the same variables (``core.launch``), and differ in nothing but
their rank: each builds the same model from the same seed, draws the same batches, and computes the gradients of its
share of them; ``DistributedDataParallel`` sums these up while they are computed, and so does FSDP2 where each holds a shard
of the model (``sharding``). The first process alone writes.
"""

import itertools
import os
import signal
import time
import uuid
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from datetime import timedelta
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch import distributed as dist

from vitcli.core.errors import DeviceError, EndedElsewhere, Interrupted, UsageError, VitError
from vitcli.core.interrupts import StopRequest
from vitcli.core.launch import ALONE, Place, launched_as
from vitcli.core.memory import is_out_of_memory, out_of_memory
from vitcli.engine.compiling import Forward
from vitcli.engine.device import choose_device
from vitcli.engine.sharding import is_sharded

_PATIENCE = timedelta(days=1)
"""Others wait so long while the first process fetches and decodes; launchers notice earlier what is gone."""

_HESITATION = timedelta(seconds=20)
"""What one process meets and the first does not in that time, it has met alone."""

_POLL_SECONDS = 0.02
_trainings = itertools.count()
"""Of this process: a process in its place counts alike, so that each finds its own run again."""

T = TypeVar("T")


class Processes:
    """The processes that train together; all of them call its methods in the same order.

    Args:
        place: which of them this is.
        store: where they leave each other word; None: there is only one.
        start: a name for this start of all of them, of which there may be several.
    """

    def __init__(self, place: Place = ALONE, store: Any = None, start: str = "") -> None:
        self.place = place
        self._store = store
        self.start = start
        self._run_key = f"vitcli/run/{next(_trainings)}" if store is not None else ""
        self.rank, self.size = place.rank, place.size
        self.how_to_resume = ""
        """What to type once one of them is lost."""

    def device(self, name: str) -> torch.device:
        """The device of this process; GPUs are handed out in their order.

        Raises:
            DeviceError: there are not so many, or one is named for all.
        """
        if self.size == 1:
            return choose_device(name)
        if ":" in name:
            raise DeviceError(
                f"{name} is one device for {self.size} processes", hint="--device cuda gives each a GPU of its own"
            )
        device = choose_device(name)
        if device.type == "cuda":
            device = choose_device(f"cuda:{self.place.local_rank}")
            torch.cuda.set_device(device)
        return device

    def in_turn(self, work: Callable[[], T]) -> T:
        """The result of work that leaves things on disk: one process does it first, and the others find them.

        The very first one begins, then the first of every other machine, where disks may be others, then the rest.

        Raises:
            EndedElsewhere: another process could not do it; the first one tells.
        """
        if self.size == 1:
            return work()
        turn = 0 if self.rank == 0 else 1 if self.place.local_rank == 0 else 2
        for number in range(3):
            error: VitError | None = None
            if number == turn:
                try:
                    result = work()
                except VitError as caught:
                    error = caught
            failures: list[tuple[str, str] | None] = [None] * self.size
            dist.all_gather_object(failures, (error.message, error.hint) if error else None)
            if error and not self.rank:
                raise error
            for rank, failure in enumerate(failures):
                if failure:
                    raise EndedElsewhere(f"process {rank}: {failure[0]}", hint=failure[1]) from error
        return result

    def broadcast(self, value: Any = None) -> Any:
        """The value that the first process gives; the others wait for it."""
        if self.size == 1:
            return value
        values = [value]
        dist.broadcast_object_list(values)
        return values[0]

    def gathered(self, value: T) -> list[T]:
        """Gather one value from every process, in their order."""
        values = [value] * self.size
        if self.size > 1:
            dist.all_gather_object(values, value)
        return values

    def sum(self, *values: Tensor) -> tuple[Tensor, ...]:
        """Numbers of all processes added up, each with the type and on the device of the first one."""
        if self.size == 1:
            return values
        total = torch.stack([value.to(values[0]) for value in values])
        dist.all_reduce(total)
        return total.unbind()

    def agreed(self, stop: StopRequest) -> StopRequest:
        """A request that is answered by all alike; a signal to any of them is one to all."""
        return stop if self.size == 1 else _AgreedStop(stop)

    @property
    def begun_run(self) -> str:
        """The run that this launch has begun before its processes were started again; empty: none, or it is not known."""
        begun = ""
        if not self.rank and self._store is not None and self._store.check([self._run_key]):
            begun = self._store.get(self._run_key).decode()
        return str(self.broadcast(begun))

    def remember(self, run: str) -> None:
        """Let this launch know which run it has begun; torchrun keeps it as long as it lives."""
        if self._store is not None:
            self._store.set(self._run_key, run)

    def first_ends(self, *, patience: timedelta) -> bool:
        """Tell whether the first process ends with an error as this one does, so that it tells; it may have to save before."""
        assert self._store is not None
        key = f"{self.start}/ended"
        deadline = time.monotonic() + patience.total_seconds()
        with suppress(dist.DistError):  # the store may end with the first process
            if not self.rank:
                self._store.set(key, "")
            while not self._store.check([key]):
                if time.monotonic() > deadline:
                    return False
                time.sleep(_POLL_SECONDS)
        return True


@contextmanager
def joined(devices: int = 0, *, shard: bool = False) -> Iterator[Processes]:
    """The processes that were launched with this one, as a group while the block runs.

    Args:
        devices: how many of this machine were asked for; 0: as many as there are.
        shard: each of them is to hold a shard of the model.

    Raises:
        UsageError: not so many were launched, or a single one, which has no other to share a model with.
        EndedElsewhere: another process is gone.
    """
    place = launched_as()
    if devices not in {0, place.local_size}:
        raise UsageError(
            f"devices = {devices}, but {place.local_size} process(es) were launched on this machine",
            hint=f"`vit train --devices {devices}` launches them, and so does torchrun --nproc-per-node {devices}",
        )
    if shard and place.size == 1:
        raise UsageError(
            "--shard: a single process has no other to share the model with",
            hint="--devices N has N of this machine share it, torchrun any number; on one, --grad-checkpointing saves memory",
        )
    is_kept = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == str(True)
    if place.size == 1 and not is_kept:
        yield Processes()
        return
    store, _, _ = next(iter(dist.rendezvous("env://", timeout=_PATIENCE)))  # type: ignore[attr-defined]
    processes = Processes(place, store, _name_of_start(store, place))
    if place.size > 1:
        has_nccl = torch.cuda.is_available() and dist.is_nccl_available()
        dist.init_process_group(
            "cpu:gloo,cuda:nccl" if has_nccl else "gloo",
            store=dist.PrefixStore(processes.start, store),  # type: ignore[attr-defined]
            rank=place.rank,
            world_size=place.size,
            timeout=_PATIENCE,
        )
    try:
        with _losses_told(processes):
            yield processes
    except VitError as error:  # launchers end all processes when one has ended
        is_common = isinstance(error, EndedElsewhere | Interrupted)
        if not processes.first_ends(patience=_PATIENCE if is_common else _HESITATION):
            error.rank = processes.rank
        raise
    if place.size > 1:
        dist.destroy_process_group()


def _name_of_start(store: Any, place: Place) -> str:
    """A name that no earlier start of these processes had: a store that outlives them holds addresses of the dead.

    The first process answers whoever knocks, the dead as well, until all who are alive have said that they heard it.
    """
    own = uuid.uuid4().hex
    if place.rank:
        store.set(f"knock/{place.rank}", own)
        name: str = store.get(f"answer/{own}").decode()
        store.set(f"{name}/{place.rank}", "")
        return name
    missing = set(range(1, place.size))
    while missing:
        for rank in tuple(missing):
            if store.check([f"{own}/{rank}"]):
                missing.remove(rank)
            elif store.check([f"knock/{rank}"]):
                store.set(f"answer/{store.get(f'knock/{rank}').decode()}", own)
        time.sleep(_POLL_SECONDS)
    return own


@contextmanager
def _losses_told(processes: Processes) -> Iterator[None]:
    """Say of a process that is gone what torch says of a connection; and what all have to know of a lack of memory."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if is_out_of_memory(error):
            raise out_of_memory(error) from error
        if not isinstance(error, dist.DistError) and "gloo" not in str(error):
            raise
        raise EndedElsewhere("another process of this training ended", hint=processes.how_to_resume) from error


class _AgreedStop(StopRequest):
    """All processes ask it equally often, and are told the same: what was the case at the question before.

    So no process waits for an answer: it travels while the next step is computed.
    """

    def __init__(self, own: StopRequest) -> None:
        super().__init__(own.hint)
        self._own = own
        self._asked: tuple[Any, Tensor] | None = None

    def __bool__(self) -> bool:
        asked = self._asked
        number = torch.tensor(int(self._own.signal or 0))
        self._asked = dist.all_reduce(number, dist.ReduceOp.MAX, async_op=True), number
        if asked:
            work, number = asked
            work.wait()
            self.signal = signal.Signals(int(number)) if number else None
        return self.signal is not None


class Parallel:
    """The forward pass of a model, of which each process computes a share.

    Args:
        model: its gradients become the means over all processes; it may be sharded.
        forward: how it is called.
        processes: all of them.
    """

    def __init__(self, model: nn.Module, forward: Forward, processes: Processes) -> None:
        self._model = model
        self._forward = forward
        self.processes = processes
        self._parallel: nn.parallel.DistributedDataParallel | None = None
        self._is_called_as_it_is = processes.size == 1 or is_sharded(next(model.parameters()))

    def __call__(self, images: Tensor, *, is_last: bool) -> Tensor:
        """(B, C, H, W) -> (B, classes); only the last micro-batch of a step has the others wait for its gradients.

        Those of a sharded model are exchanged after every micro-batch: until then a device would hold all of them.
        """
        if self._is_called_as_it_is:
            return self._forward(images)
        if self._parallel is None:  # parameters that are not used would be waited for
            warnings.filterwarnings("ignore", message="Grad strides do not match")  # those of tokens, which are small
            self._parallel = nn.parallel.DistributedDataParallel(
                _Called(self._model, self._forward),
                gradient_as_bucket_view=True,
                find_unused_parameters=_has_unused(self._model, images[:1]),
            )
        with nullcontext() if is_last else self._parallel.no_sync():
            logits: Tensor = self._parallel(images)
        return logits


class _Called(nn.Module):
    """A model that is called another way, for example compiled."""

    def __init__(self, model: nn.Module, forward: Forward) -> None:
        super().__init__()
        self.model = model
        self.forward = lambda images: forward(images)  # noqa: PLW0108 - a module would be registered


def _has_unused(model: nn.Module, image: Tensor) -> bool:
    """Tell whether some parameters that are to be trained have no gradient."""
    weights = [parameter for parameter in model.parameters() if parameter.requires_grad]
    with (
        torch.random.fork_rng([image.device] if image.device.type == "cuda" else []),
        torch.autocast(image.device.type, enabled=False),
    ):
        gradients = torch.autograd.grad(model(image).sum(), weights, allow_unused=True)
    return any(gradient is None for gradient in gradients)
