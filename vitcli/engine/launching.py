"""Start of several processes for ``vit train --devices N``: a short form of torchrun, on this machine."""

import logging
import os
import signal
import sys
import uuid
from collections.abc import Sequence
from dataclasses import fields
from typing import Any

import torch
from torch.distributed.elastic.multiprocessing.api import DefaultLogsSpecs, SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from vitcli.core.config import RunConfig
from vitcli.core.errors import DeviceError, TrainingError, counted
from vitcli.engine.device import choose_device
from vitcli.engine.hardware import usable_cores

_SAVING_SECONDS = 600
"""Seconds that processes may take to save after they are told to stop."""
_TRIED_OUT = 2
"""Processes that any CPU may run, to try several out."""


def check_devices(config: RunConfig) -> None:
    """Raise DeviceError if the machine has fewer devices, or cores, than processes are to be started."""
    count, device = config.devices, choose_device(config.device)
    if device.type == "mps" or (device.type == "cuda" and torch.cuda.device_count() < count):
        here = torch.cuda.device_count() or 1
        raise DeviceError(
            f"devices = {count}, but this machine has {here} of kind {device.type}",
            hint=f"--devices {here}, or --device cpu",
        )
    cores = usable_cores() or 1
    if device.type == "cpu" and count > max(cores, _TRIED_OUT):  # each takes half a gigabyte of memory
        raise DeviceError(
            f"devices = {count}, but this machine has {counted(cores, 'core')} for these processes",
            hint="one process uses all cores of a CPU: leave out --devices",
        )


def launch(words: Sequence[str], config: RunConfig) -> int:
    """Run ``vit WORDS`` in one process for each device; the processes share the threads of this one.

    Returns:
        The exit code; the processes have printed the reason themselves.

    Raises:
        DeviceError: the machine has too few devices, or cores.
        TrainingError: a process was killed.
    """
    check_devices(config)
    count = config.devices
    os.environ["OMP_NUM_THREADS"] = str(max(torch.get_num_threads() // count, 1))
    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)  # it repeats printed errors
    known = {field.name for field in fields(LaunchConfig)}  # torch 2.11 has no such setting
    patience: dict[str, Any] = {"shutdown_timeout": _SAVING_SECONDS} if "shutdown_timeout" in known else {}
    settings = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=count,
        run_id=uuid.uuid4().hex,
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        max_restarts=0,
        logs_specs=DefaultLogsSpecs(log_dir=os.devnull),
        **patience,
    )
    try:
        elastic_launch(settings, sys.executable)("-m", "vitcli", *words)
    except SignalException as stopped:
        return 128 + stopped.sigval
    except ChildFailedError as failed:
        rank, failure = failed.get_first_failure()
        if failure.exitcode < 0:
            name = signal.Signals(-failure.exitcode).name
            raise TrainingError(
                f"process {rank} of {count} was ended by {name}", hint="`vit train --resume RUN` continues the run"
            ) from None
        return failure.exitcode
    return 0
