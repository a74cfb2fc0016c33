"""Measure the cost of training one model in two processes, compared with one process that has all their threads.

    uv run python benchmarks/distributed.py

The 119k CIFAR model, batch 128, fp32, AdamW with clipped gradients, on random images that are cropped and flipped.
Two gloo processes with half of the threads each split the batches that one process with all threads takes whole.
Their epochs alternate, never at the same time, in processes that stay alive. Two ratios are printed: the ratio of the
median times, and the ratio of the CPU times. Other programs on the same cores affect CPU times less, but CPU times do
not include waiting.
"""

import argparse
import multiprocessing
import os
import socket
import statistics
import time
from multiprocessing.connection import Connection

import torch

from vitcli.core.augment_config import AugmentConfig
from vitcli.core.events import ignore
from vitcli.core.interrupts import StopRequest
from vitcli.core.model_config import ModelChoice
from vitcli.core.optim_config import OptimConfig
from vitcli.core.preprocessing import Geometry, Preprocessing
from vitcli.data.augment import TrainTransform
from vitcli.data.loader import Batches
from vitcli.data.preprocess import InputTransform
from vitcli.engine.autocast import Precision
from vitcli.engine.distributed import Processes, joined
from vitcli.engine.mixing import Mixing
from vitcli.engine.trainer import Trainer
from vitcli.engine.trial import time_steps
from vitcli.models.registry import model_config
from vitcli.models.vit import VisionTransformer

CPU = torch.device("cpu")
PREPROCESSING = Preprocessing(
    geometry=Geometry(size=(32, 32), channels=3, resize="squash"), image_size=(32, 32), mean=(0.5,) * 3, std=(0.5,) * 3
)


def build_trainer(processes: Processes, batch: int, steps: int) -> Trainer:
    """Build the trainer of one process; it is the same for one and for two processes."""
    torch.manual_seed(0)
    config = model_config(ModelChoice(name="vit-nano-patch4"), image_size=(32, 32), in_channels=3, num_classes=10)
    batches = Batches(
        torch.randint(256, (batch * steps, 3, 32, 32), dtype=torch.uint8),
        torch.randint(10, (batch * steps,)),
        batch_size=batch,
        transform=TrainTransform(AugmentConfig(crop_padding=4, flip=0.5), InputTransform(PREPROCESSING, CPU)),
        device=CPU,
        place=processes.place,
    )
    return Trainer(
        VisionTransformer(config),
        train=batches,
        val=(),
        config=OptimConfig(batch_size=batch, optimizer="adamw", clip_grad=1.0),
        mixing=Mixing(mixup=0, cutmix=0, seed=0),
        precision=Precision(CPU, amp="off", dtype="bfloat16"),
        saver=None,
        emit=ignore,
        stop=processes.agreed(StopRequest()),
        seed=0,
        processes=processes,
    )


def work(environment: dict[str, str], threads: int, batch: int, steps: int, orders: Connection) -> None:
    """Train for an epoch on each order, and answer with the seconds it took."""
    os.environ.update(environment)
    torch.set_num_threads(threads)
    with joined() as processes:
        trainer = build_trainer(processes, batch, steps)
        while orders.recv():
            started = time.perf_counter(), time.process_time()
            for _ in time_steps(trainer):
                bool(trainer.stop)  # as in training, the processes agree after every step
            orders.send((time.perf_counter() - started[0], time.process_time() - started[1]))


def main() -> None:
    """Measure one and two processes, and print the speeds and ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--steps", type=int, default=16)
    parser.add_argument("--threads", type=int, default=max(torch.get_num_threads(), 2))
    options = parser.parse_args()
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as `vit` does, so that threads wait without spinning
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port = one.getsockname()[1]
    together = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    places: dict[str, list[tuple[dict[str, str], int]]] = {
        "one process": [({}, options.threads)],
        "two processes": [
            ({**together, "RANK": rank, "LOCAL_RANK": rank}, options.threads // 2) for rank in ("0", "1")
        ],
    }
    context = multiprocessing.get_context("spawn")
    workers: dict[str, list[Connection]] = {}
    for name, several in places.items():
        workers[name] = []
        for environment, threads in several:
            ours, theirs = context.Pipe()
            arguments = (environment, threads, options.batch, options.steps, theirs)
            context.Process(target=work, args=arguments, daemon=True).start()
            workers[name].append(ours)
    seconds: dict[str, list[float]] = {name: [] for name in workers}
    work_seconds: dict[str, list[float]] = {name: [] for name in workers}
    for number in range(options.rounds + 1):
        for name, connections in workers.items():
            for connection in connections:
                connection.send(True)
            answers = [connection.recv() for connection in connections]
            if number:  # the first round warms up
                seconds[name].append(max(wall for wall, _ in answers))
                work_seconds[name].append(sum(cpu for _, cpu in answers))
    for connections in workers.values():
        for connection in connections:
            connection.send(False)
    medians = {name: statistics.median(times) for name, times in seconds.items()}
    print(f"batch {options.batch}, {options.threads} threads in all, torch {torch.__version__}")
    for name, median in medians.items():
        print(f"{name:14} {options.batch * options.steps / median:,.0f} images/s")
    print(f"ratio {medians['one process'] / medians['two processes']:.3f}")
    alone, together_seconds = (statistics.median(times) for times in work_seconds.values())
    print(f"ratio of CPU times {alone / together_seconds:.3f}")


if __name__ == "__main__":
    main()
