"""Training with several processes: each computes a share of every batch, and all take the same steps.

``torchrun``, or any launcher that sets the same variables (``core.launch``), starts the processes. They differ only in
their rank: each builds the same model from the same seed, draws the same batches, and computes the gradients of its
share. ``DistributedDataParallel`` averages the gradients while they are computed, or, if the model is compiled as a
whole, after that; so does FSDP2, if each process holds a shard of the model (``sharding``). Only the first process
writes files.
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

from vitcli.core.devices import parse_device
from vitcli.core.errors import DeviceError, EndedElsewhere, Interrupted, UsageError, VitError
from vitcli.core.interrupts import StopRequest
from vitcli.core.launch import ALONE, Place, launched_as
from vitcli.core.memory import is_out_of_memory, out_of_memory
from vitcli.engine.compiling import Forward
from vitcli.engine.device import choose_device
from vitcli.engine.sharding import is_sharded

_PATIENCE = timedelta(days=1)
"""The longest time that processes wait, for example while the first one downloads; launchers notice a lost process earlier."""

_HESITATION = timedelta(seconds=20)
"""The time that a failed process waits for the first one: if that has not failed by then, only this process failed."""

_POLL_SECONDS = 0.02
_trainings = itertools.count()
"""Number of trainings of this process; a restarted process counts the same, so that each training finds its run."""

T = TypeVar("T")


class Processes:
    """The processes that train together; all of them call its methods in the same order.

    Args:
        place: the rank of this process, and the number of processes.
        store: the key-value store that they share; None: there is only one process.
        start: the name of this start of all processes; a launcher may start them several times.
    """

    def __init__(self, place: Place = ALONE, store: Any = None, start: str = "") -> None:
        self.place = place
        self._store = store
        self.start = start
        self._run_key = f"vitcli/run/{next(_trainings)}" if store is not None else ""
        self.rank, self.size = place.rank, place.size
        self.how_to_resume = ""
        """The command that resumes the training after a process is lost."""

    def device(self, name: str) -> torch.device:
        """Return the device of this process; each process gets one GPU, in the order of the processes.

        Raises:
            DeviceError: the machine has too few GPUs, or one GPU is named for several processes.
        """
        if self.size == 1:
            return choose_device(name)
        if parse_device(name)[1]:
            raise DeviceError(
                f"{name} is one device for {self.size} processes", hint="--device cuda gives each a GPU of its own"
            )
        device = choose_device(name)
        if device.type == "cuda":
            device = choose_device(f"cuda:{self.place.local_rank}")
            torch.cuda.set_device(device)
        return device

    def in_turn(self, work: Callable[[], T]) -> T:
        """Run work that writes to disk in turn, so that later processes find the files; return its result.

        The first process begins, then the first one of every other machine, which may have another disk, then the rest.

        Raises:
            EndedElsewhere: the work of a process failed; if it was the first one, that one raises its own error.
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
        """Return the value of the first process to all processes; the others wait for it."""
        if self.size == 1:
            return value
        values = [value]
        dist.broadcast_object_list(values)
        return values[0]

    def gathered(self, value: T) -> list[T]:
        """Gather one value from every process, in the order of the ranks."""
        values = [value] * self.size
        if self.size > 1:
            dist.all_gather_object(values, value)
        return values

    def sum(self, *values: Tensor) -> tuple[Tensor, ...]:
        """Sum each value over all processes; the sums have the type and the device of the first value."""
        if self.size == 1:
            return values
        total = torch.stack([value.to(values[0]) for value in values])
        dist.all_reduce(total)
        return total.unbind()

    def agreed(self, stop: StopRequest) -> StopRequest:
        """Return a stop request that is the same in all processes: a signal to any of them stops all."""
        return stop if self.size == 1 else _AgreedStop(stop)

    @property
    def begun_run(self) -> str:
        """The run that this launch began before its processes were restarted; empty: none, or not known."""
        begun = ""
        if not self.rank and self._store is not None and self._store.check([self._run_key]):
            begun = self._store.get(self._run_key).decode()
        return str(self.broadcast(begun))

    def remember(self, run: str) -> None:
        """Store which run this launch has begun; torchrun keeps this until it ends."""
        if self._store is not None:
            self._store.set(self._run_key, run)

    def first_ends(self, *, patience: timedelta) -> bool:
        """Wait for the first process, which may save first, and tell whether it fails too and reports the error."""
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
    """Join the processes that were launched with this one to a group while the block runs.

    Args:
        devices: the expected number of processes on this machine; 0: any number.
        shard: each process is to hold a shard of the model.

    Raises:
        UsageError: another number of processes was launched, or only one, although the model is to be sharded.
        EndedElsewhere: another process ended.
    """
    place = launched_as()
    if devices not in {0, place.local_size}:
        raise UsageError(
            f"devices = {devices}, but {place.local_size} process(es) were launched on this machine",
            hint=f"`vit train --devices {devices}` launches them, and so does torchrun --nproc-per-node {devices}",
        )
    if shard and place.size == 1:
        raise UsageError(
            "--shard needs several processes, but there is only one",
            hint="--devices N starts N of them, torchrun any number; on one device, --grad-checkpointing saves memory",
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
    except VitError as error:  # launchers end all processes as soon as one has ended
        is_common = isinstance(error, EndedElsewhere | Interrupted)
        if not processes.first_ends(patience=_PATIENCE if is_common else _HESITATION):
            error.rank = processes.rank
        raise
    if place.size > 1:
        dist.destroy_process_group()


def _name_of_start(store: Any, place: Place) -> str:
    """Agree on a name that no earlier start of these processes had.

    The store outlives the processes, so it still contains requests of ended processes. The first process answers every
    request, these too, until all running processes have confirmed the name.
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
    """Turn a lost connection into EndedElsewhere, and a lack of memory into a VitError that all processes handle."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if is_out_of_memory(error):
            raise out_of_memory(error) from error
        if not isinstance(error, dist.DistError) and "gloo" not in str(error):
            raise
        raise EndedElsewhere("another process of this training ended", hint=processes.how_to_resume) from error


class _AgreedStop(StopRequest):
    """A stop request that all processes check equally often, and that gives all of them the same answer.

    The answer is the state at the previous check: it is exchanged while the next step is computed, so that no process
    has to wait for it.
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
    """The forward pass of a model that trains in several processes: each computes a share of the batch.

    Args:
        model: the model, which may be sharded; its gradients become the means over all processes.
        forward: the function that calls the model, for example compiled.
        processes: the processes that train together.
    """

    def __init__(self, model: nn.Module, forward: Forward, processes: Processes) -> None:
        self.model = model
        self._forward = forward
        self.processes = processes
        self._parallel: nn.parallel.DistributedDataParallel | None = None
        self._is_called_as_it_is = processes.size == 1 or is_sharded(next(model.parameters()))

    def __call__(self, images: Tensor, *, is_last: bool) -> Tensor:
        """Compute logits, (B, C, H, W) -> (B, classes); only the last micro-batch of a step exchanges its gradients.

        A sharded model exchanges them after every micro-batch; otherwise each device would hold all gradients.
        """
        if self._is_called_as_it_is:
            return self._forward(images)
        if self._parallel is None:  # DDP would wait for parameters that are not used
            warnings.filterwarnings("ignore", message="Grad strides do not match")  # of tokens, which are small
            self._parallel = nn.parallel.DistributedDataParallel(
                _Called(self.model, self._forward),
                gradient_as_bucket_view=True,
                find_unused_parameters=_has_unused(self.model, images[:1]),
            )
        with nullcontext() if is_last else self._parallel.no_sync():
            logits: Tensor = self._parallel(images)
        return logits


class _Called(nn.Module):
    """A model that is called through another function, for example compiled."""

    def __init__(self, model: nn.Module, forward: Forward) -> None:
        super().__init__()
        self.model = model
        self.forward = lambda images: forward(images)  # noqa: PLW0108 - assigned directly, a module would be registered


def _has_unused(model: nn.Module, image: Tensor) -> bool:
    """Tell whether some trained parameters get no gradient."""
    weights = [parameter for parameter in model.parameters() if parameter.requires_grad]
    with (
        torch.random.fork_rng([image.device] if image.device.type == "cuda" else []),
        torch.autocast(image.device.type, enabled=False),
    ):
        gradients = torch.autograd.grad(model(image).sum(), weights, allow_unused=True)
    return any(gradient is None for gradient in gradients)
