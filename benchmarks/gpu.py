"""Run all tests and measurements that need a GPU, in one command of at most six minutes.

    python benchmarks/gpu.py --data PATH/TO/cifar10 --output gpu.json
    python benchmarks/gpu.py --parts 32-pixels-steps cifar-best --minutes 4 --data PATH/TO/cifar10 --output gpu.json
    uv run python benchmarks/gpu.py --device cpu --quick --data PATH/TO/cifar10       (a rehearsal)

Only the libraries have to be installed: no part needs the network, or ``vit`` on the path. The data are CIFAR-10, as
a folder of train/CLASS/*.jpg and test/CLASS/*.jpg, or an archive of such a folder. Without the data, the parts that
need them are left out.

The parts, the most important first; each is a separate process, and is stopped after its own time or the time of all
parts:

facts: device, driver, versions, and the measured peak of a large matrix product.
tests: tests/gpu.
32-pixels: images/s of the 119k model with augmentation, compared with timm's loop and loader; the goal is at least 5
    times.
photos: images/s of ViT-S and ViT-B at 224 pixels and of ViT-B at 384, compared with timm's loop, steps only, both
    compiled; the goal is at least 1.3 times at 224, and 30 to 40 % of the peak.
cifar-75.5: the seconds until 75.5 % validation accuracy on CIFAR-10, and the test accuracy.
32-pixels-steps: images/s of the 119k model, steps only, both compiled.
cifar-best: the best accuracy on CIFAR-10 in the rest of the time.

Compiling takes most of the time, so six minutes may not be enough for the last parts: the second command above runs
only these, and keeps the other results in the file. After every part, all results are written to one JSON file, also
those of a part that was stopped. If the library of a part is missing, only this part fails. The table at the end
gives the reasons.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
_GRACE = 5.0
"""Seconds that a part has to end by itself before it is killed."""
_OUTPUT = 6000
"""The number of characters that are kept from the end of a part's output."""
_FEW_STEPS = ("--steps", "1", "--rounds", "1", "--depth", "2", "--workers", "1", "--images", "4")


@dataclass(frozen=True, kw_only=True)
class Part:
    """A script in this folder that writes its results to the file given as ``--json``."""

    script: str
    words: tuple[str, ...] = ()
    full: tuple[str, ...] = ()
    """Extra arguments, except in a rehearsal."""
    quick: tuple[str, ...] = ()
    """Extra arguments in a rehearsal."""
    limit: float
    """The time limit in seconds; the part stops earlier if the time of all parts is over."""
    on_cifar: bool = False
    """Whether the part needs CIFAR-10; it then gets the data, and a folder shared by all such parts."""
    takes_rest: bool = False
    """Whether the part uses its whole time limit; it then gets the end of its time."""


def _speed(*words: str, limit: float, compiles: str, few: str) -> Part:
    """Describe a part that measures images per second; in a rehearsal, with few images in a batch."""
    full, quick = ("--compile", compiles, "--torchcompile", "--rounds", "3"), ("--batch", few, *_FEW_STEPS)
    return Part(script="training_throughput.py", words=words, full=full, quick=quick, limit=limit)


PARTS = {
    "facts": Part(script="gpu_facts.py", limit=30),
    "tests": Part(script="gpu_tests.py", limit=120),
    "32-pixels": _speed("--model", "cifar", "--source", "cached", compiles="auto", few="6", limit=80),
    "photos": _speed(
        "--model", "small", "base", "base-384", "--source", "synthetic", compiles="on", few="1", limit=220
    ),
    "cifar-75.5": Part(script="gpu_cifar.py", quick=("--quick",), limit=90, on_cifar=True),
    "32-pixels-steps": _speed("--model", "cifar", "--source", "synthetic", compiles="on", few="6", limit=60),
    "cifar-best": Part(script="gpu_cifar.py", quick=("--quick",), limit=600, on_cifar=True, takes_rest=True),
}


def words_of(part: Part, options: argparse.Namespace, *, work: Path, found: Path, limit: float) -> list[str]:
    """Build the command of a part."""
    words = [sys.executable, str(ROOT / "benchmarks" / part.script)]
    words += [str(options.data), "--work", str(work)] if part.on_cifar else []
    words += ["--until", str(time.time() + limit)] if part.takes_rest else []
    words += [*part.words, *(part.quick if options.quick else part.full)]
    return [*words, "--device", options.device, "--json", str(found)]


def run(words: Sequence[str], *, work: Path, limit: float) -> tuple[int | None, str]:
    """Run a command in its own process group, for at most ``limit`` seconds.

    Returns:
        The exit code, None if the command was stopped at the limit; the end of its output.
    """
    places = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    own = {"PYTHONPATH": places, "PYTHONUNBUFFERED": "1", "VIT_DATA_DIR": str(work / "data")}
    environment = {"OMP_WAIT_POLICY": "PASSIVE", **os.environ, **own}  # as vit sets it
    log = work / "output.txt"
    with log.open("wb") as output:
        process = subprocess.Popen(
            words, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=environment, start_new_session=True
        )
        code = None
        try:
            code = process.wait(limit)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGTERM)
            with suppress(subprocess.TimeoutExpired):
                process.wait(_GRACE)
        finally:
            with suppress(ProcessLookupError):  # the command and its child processes
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    return code, log.read_text(encoding="utf-8", errors="replace")[-_OUTPUT:]


def outcome(part: Part, options: argparse.Namespace, *, work: Path, limit: float) -> dict[str, Any]:
    """Run a part, and return its status, figures and output."""
    if part.on_cifar and not options.data:
        return {"status": "left out", "why": "no data: --data PATH/TO/cifar10"}
    if limit <= 0:
        return {"status": "left out", "why": "no time is left: --parts runs only this part"}
    found, began = work / "found.json", time.time()
    found.unlink(missing_ok=True)
    code, output = run(words_of(part, options, work=work, found=found, limit=limit), work=work, limit=limit)
    figures = json.loads(found.read_text(encoding="utf-8")) if found.exists() else {}
    status = "ended" if code is None else "failed" if code else "done"
    lines = [line for line in output.splitlines() if line.strip()] or ["nothing was printed"]
    why = {"ended": f"not done after {limit:.0f} s; {lines[-1]}", "failed": lines[-1], "done": ""}[status]
    facts = {"status": status, "why": why, "began": began, "seconds": time.time() - began, "quick": options.quick}
    return {**figures, **facts, "output": output}


def run_parts(options: argparse.Namespace, write: Callable[[Path, Any], None]) -> dict[str, Any]:
    """Run the requested parts, and write the file again after each part."""
    output: Path = options.output
    known = json.loads(output.read_text(encoding="utf-8"))["parts"] if options.parts and output.exists() else {}
    until = time.monotonic() + 60 * options.minutes
    with tempfile.TemporaryDirectory() as work:
        for name in options.parts or PARTS:
            part = PARTS[name]
            print(f"{name} ...", end=" ", flush=True)
            limit = min(part.limit, until - time.monotonic() - _GRACE)
            known[name] = outcome(part, options, work=Path(work), limit=limit)
            print(f"{known[name]['status']}, {known[name].get('seconds', 0):.0f} s", flush=True)
            write(output, {"command": sys.argv, "device": options.device, "parts": known})
    return known


def show(parts: dict[str, Any]) -> None:
    """Print a table of all parts."""
    print()
    for name, found in parts.items():
        lines = [*found.get("says", ()), *([found["why"]] if found["why"] else [])] or [""]
        print(f"{name:16} {found['status']:8} {found.get('seconds', 0):5.0f} s  {lines[0]}")
        for line in lines[1:]:
            print(f"{'':34}{line}")


def stop(number: int, _frame: FrameType | None) -> None:
    """Raise an exception, so that the running part is stopped too."""
    raise SystemExit(128 + number)


def main() -> int:
    """Run the parts; the exit code is 0 if all of them are done."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--data", type=Path, default=None, help="CIFAR-10: a folder with train/ and test/, or an archive"
    )
    parser.add_argument("--output", type=Path, default=Path("gpu.json"), help="the file of all results")
    parser.add_argument("--minutes", type=float, default=6.0, help="the time for all parts together")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=None, help="run only these; keep other results")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--quick", action="store_true", help="a rehearsal: few steps of small models, few images")
    options = parser.parse_args()
    options.data = options.data and options.data.resolve()
    signal.signal(signal.SIGTERM, stop)
    sys.path.insert(0, str(ROOT))
    from vitcli.core.files import write_json

    parts = run_parts(options, write_json)
    show(parts)
    return int(any(found["status"] != "done" for found in parts.values()))


if __name__ == "__main__":
    raise SystemExit(main())
