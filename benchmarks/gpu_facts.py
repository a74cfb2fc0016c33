"""Describe the machine and its software, and measure the peak of its GPU; part of benchmarks/gpu.py."""

import argparse
import platform
import shutil
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from vitcli.core.files import write_json
from vitcli.core.provenance import git_state
from vitcli.engine.device import choose_device, describe, has_bfloat16
from vitcli.engine.hardware import hardware, matmul_peak

LIBRARIES = ("torch", "torchvision", "timm", "transformers", "triton", "numpy", "pillow", "simplejpeg", "safetensors")
ASKED = "driver_version,power.limit,clocks.max.sm,temperature.gpu"


def versions() -> dict[str, str]:
    """Return the versions of Python and of the libraries."""
    found = {"python": platform.python_version(), "cuda": str(torch.version.cuda), "nccl": ""}
    if torch.cuda.is_available():
        found["nccl"] = ".".join(map(str, torch.cuda.nccl.version()))
    for name in LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found


def driver() -> dict[str, str]:
    """Ask nvidia-smi about the first GPU; the answer is empty if there is no GPU."""
    if not shutil.which("nvidia-smi"):
        return {}
    words = ["nvidia-smi", f"--query-gpu={ASKED}", "--format=csv,noheader"]
    answer = subprocess.run(words, capture_output=True, text=True, check=False).stdout.partition("\n")[0]
    return dict(zip(ASKED.split(","), map(str.strip, answer.split(",")), strict=False))


def main() -> None:
    """Measure the peak, and write all facts to the file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--json", type=Path, required=True)
    options = parser.parse_args()
    device = choose_device(options.device)
    dtype = torch.bfloat16 if has_bfloat16(device) else torch.float32
    peak, found, of_driver = matmul_peak(device, dtype), versions(), driver()
    says = f"{describe(device)}, driver {of_driver.get('driver_version', 'none')}, torch {found['torch']}, Python {found['python']}"
    write_json(
        options.json,
        {
            "says": [
                says,
                f"a large matrix product: {peak / 1e12:,.1f} TFLOP/s in {str(dtype).removeprefix('torch.')}",
            ],
            "peak": peak,
            "versions": found,
            "driver": of_driver,
            "compiler": next(filter(None, map(shutil.which, ("cc", "gcc", "clang"))), None),
            "hardware": hardware(),
            **git_state(),
        },
    )


if __name__ == "__main__":
    main()
