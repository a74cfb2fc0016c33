"""The facts about this machine and this installation that a bug report needs."""

import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import Any

from vitcli.core.errors import DeviceError
from vitcli.core.events import Emit, Warned, ignore
from vitcli.core.importing import importing
from vitcli.core.measurements import measurements
from vitcli.core.provenance import environment
from vitcli.core.version import __version__
from vitcli.data.store import data_dir, weights_dir

_SHOWN = (
    *("VIT_DATA_DIR", "VIT_BFLOAT16", "VIT_DEBUG", "XDG_CACHE_HOME", "PYTHONPATH", "LD_LIBRARY_PATH"),
    *("HF_HOME", "HF_HUB_CACHE", "HF_HUB_OFFLINE", "KAGGLE_CONFIG_DIR"),
)
"""Variables whose values are shown, besides those that a run records."""
_HIDDEN = (
    *("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_ENDPOINT", "WANDB_API_KEY", "WANDB_BASE_URL"),
    *("KAGGLE_API_TOKEN", "KAGGLE_API_V1_TOKEN", "KAGGLE_USERNAME", "KAGGLE_KEY"),
    *("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"),
)
"""Variables whose values are secrets, or addresses that may contain a password."""
_WAIT_SECONDS = 10


@dataclass(frozen=True, kw_only=True, slots=True)
class Gpu:
    """A GPU that torch can use."""

    name: str
    memory: int
    """Its memory in bytes."""
    capability: str
    """Its compute capability, for example 9.0."""
    bfloat16: bool
    """True if it computes in bfloat16."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Folder:
    """A folder in use."""

    path: Path
    """Its place."""
    exists: bool
    """True if it exists; it is made when something is stored there."""
    free: int | None
    """Bytes that are free on its disk; None: not known."""


@dataclass(frozen=True, kw_only=True, slots=True)
class MeasuredPrecision:
    """The precision of one kind of model and work, as measured and recorded on this machine for ``--amp auto``."""

    device: str
    """The processor or the GPU."""
    work: str
    """The kind of work: training or inference."""
    chosen: str
    """The precision that is used: float32, bfloat16 or float16."""
    seconds: Mapping[str, float]
    """Seconds per image by precision."""
    model: Mapping[str, Any]
    """The sizes of the model."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Environment:
    """The report of ``vit env``."""

    vit: str
    """The version of vit."""
    package: Path
    """The folder from which vit is run."""
    python: str
    """The version of Python."""
    executable: Path
    """The program of Python."""
    system: str
    """The operating system, its version, and the architecture of the processor."""
    versions: Mapping[str, str | None]
    """The versions of the libraries that vit can use; None: not installed."""
    torch_error: str
    """The reason why torch cannot be imported; then all fields about hardware are None or empty. Empty: it can."""
    processor: str | None = None
    """The model of the processor."""
    cores: int | None = None
    """Number of cores that this process may use; None: not known."""
    memory: int | None = None
    """Memory of the machine in bytes; None: not known."""
    instructions: str | None = None
    """The instructions that torch uses on the processor, for example AVX512."""
    bfloat16: bool | None = None
    """True if the processor counts as having instructions for bfloat16, also by ``$VIT_BFLOAT16``; None: not known."""
    threads: int | None = None
    """Number of threads that torch computes with."""
    cuda: str | None = None
    """The version of CUDA that torch was built for; None: none."""
    mps: bool | None = None
    """True if torch can use the GPU of a Mac."""
    gpus: tuple[Gpu, ...] = ()
    """The GPUs that torch can use through CUDA or ROCm."""
    nvidia: tuple[str, ...]
    """Name, memory and driver of each GPU, as ``nvidia-smi`` lists them, also if torch cannot use them; empty: none."""
    folders: Mapping[str, Folder]
    """The folders in use: of data, of weights, of the weights from hubs, and of runs."""
    variables: Mapping[str, str]
    """The environment variables that are set and can change what vit does."""
    hidden: tuple[str, ...]
    """Further variables that are set; their values are not read, because they are secrets or may contain one."""
    precisions: tuple[MeasuredPrecision, ...] = ()
    """The measured choices of precision that apply to this machine as it is now."""


def describe_environment(emit: Emit = ignore) -> Environment:
    """Describe this machine and this installation; what cannot be found out is None, and never an error.

    Args:
        emit: receives a warning if a variable has a value that all other commands refuse.
    """
    found = Environment(
        vit=__version__,
        package=Path(__file__).parents[1],
        python=f"{platform.python_version()} ({platform.python_implementation()})",
        executable=Path(sys.executable),
        system=f"{platform.system()} {platform.release()} {platform.machine()}",
        versions=_versions(),
        torch_error="",
        nvidia=_nvidia(),
        folders={name: _folder(path) for name, path in _folders().items()},
        variables=environment() | {name: os.environ[name] for name in _SHOWN if name in os.environ},
        hidden=tuple(name for name in _HIDDEN if name in os.environ),
    )
    try:
        with importing():
            import torch  # noqa: F401 - first alone, because the modules below need it
    except Exception as error:  # noqa: BLE001 - a broken installation fails in many ways
        return replace(found, torch_error=f"{type(error).__name__}: {error}")
    return _with_hardware(found, emit)


def _with_hardware(found: Environment, emit: Emit) -> Environment:
    """Add what only torch knows."""
    import torch

    from vitcli.engine.device import fingerprint, has_bfloat16
    from vitcli.engine.hardware import hardware
    from vitcli.engine.timing import clearly_faster

    facts = hardware()
    devices = [torch.device("cpu"), *(torch.device("cuda", at) for at in range(len(facts["gpus"])))]
    found = replace(
        found,
        versions={**found.versions, "torch": torch.__version__},  # names the build too
        processor=facts["cpu"],
        cores=facts["cores"],
        memory=facts["memory"],
        instructions=torch.backends.cpu.get_cpu_capability(),
        threads=facts["threads"],
        cuda=torch.version.cuda,
        mps=torch.backends.mps.is_available(),
        gpus=tuple(
            Gpu(
                **gpu,
                capability="{}.{}".format(*torch.cuda.get_device_capability(device)),
                bfloat16=has_bfloat16(device),
            )
            for gpu, device in zip(facts["gpus"], devices[1:], strict=True)
        ),
    )
    try:
        machines = [fingerprint(device) for device in devices]
        has = has_bfloat16(devices[0])
    except DeviceError as error:
        emit(Warned(text=f"{error.message}; {error.hint}"))
        return found
    return replace(
        found,
        bfloat16=has,
        precisions=tuple(
            MeasuredPrecision(
                device=str(question["machine"]["device"]),
                work=question["work"],
                chosen=clearly_faster(seconds),
                seconds=seconds,
                model=question["model"],
            )
            for question, seconds in measurements(data_dir() / "measured")
            if question.get("machine") in machines and "float32" in seconds
        ),
    )


def _versions() -> dict[str, str | None]:
    """Return the installed versions of all libraries that the package names, required or optional."""
    names = ["torch", "torchvision"]
    with suppress(metadata.PackageNotFoundError):  # run from a folder without installation
        names += [re.split(r"[^\w.-]", each, maxsplit=1)[0] for each in metadata.requires("vitcli") or ()]
    versions: dict[str, str | None] = {}
    for name in names:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            versions[name] = None
    return versions


def _nvidia() -> tuple[str, ...]:
    """Ask the driver for its GPUs; empty: there is no driver, or it does not answer."""
    words = ["nvidia-smi", "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader"]
    try:
        answer = subprocess.run(words, capture_output=True, text=True, timeout=_WAIT_SECONDS, check=True)  # noqa: S603
    except (OSError, ValueError, subprocess.SubprocessError):
        return ()
    return tuple(line.strip() for line in answer.stdout.splitlines() if line.strip())


def _folders() -> dict[str, Path]:
    from huggingface_hub.constants import HF_HUB_CACHE

    return {
        "data": data_dir(),
        "weights": weights_dir(),
        "weights of hubs": Path(HF_HUB_CACHE),
        "runs": Path("experiments"),
    }


def _folder(path: Path) -> Folder:
    path, free = path.absolute(), None
    with suppress(OSError):  # of a disk that is gone, or a folder that must not be read
        there = next(each for each in (path, *path.parents) if os.path.exists(each))  # noqa: PTH110 - it never raises
        free = shutil.disk_usage(there).free
    return Folder(path=path, exists=os.path.exists(path), free=free)  # noqa: PTH110
