"""Everything that is asked of a GPU, in one command of at most six minutes, for the minutes in which one can be had.

    python benchmarks/gpu.py --data PATH/TO/cifar10 --output gpu.json
    python benchmarks/gpu.py --parts 32-pixels-steps cifar-best --minutes 4 --data PATH/TO/cifar10 --output gpu.json
    uv run python benchmarks/gpu.py --device cpu --quick --data PATH/TO/cifar10       (a rehearsal)

Nothing has to be installed but the libraries: no part needs the network or ``vit`` itself to be on the path. The data are
CIFAR-10 as a folder of train/CLASS/*.jpg and test/CLASS/*.jpg, or an archive of it; without them their parts are left out.

The parts, by what they are worth; each is a process of its own, and is ended after its time or that of all:

facts: device, driver, versions, and the measured peak of a large matrix product.
tests: tests/gpu.
32-pixels: images/s of the 119k model, augmentation included, beside timm's loop and loader; at least 5 times is the goal.
photos: images/s of ViT-S and ViT-B at 224 pixels and of ViT-B at 384 beside timm's loop, steps alone, both compiled; at
    least 1.3 times at 224 is the goal, and 30 to 40 % of the peak.
cifar-75.5: the seconds in which CIFAR-10 is learnt to 75.5 %, and the test accuracy.
32-pixels-steps: images/s of the 119k model, steps alone, both compiled.
cifar-best: the best accuracy on CIFAR-10 in the rest of the time.

Compiling takes most of the time, so six minutes may not reach the last parts: the second command above runs them, and keeps
what the file has of the others. After every part all results are written to one JSON file, and so are those of a part that
was ended. A part whose library is missing fails alone. The table at the end says why.
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
"""Seconds in which a part may end by itself before it is killed."""
_OUTPUT = 6000
"""Characters of a part's output that are kept, from its end."""
_FEW_STEPS = ("--steps", "1", "--rounds", "1", "--depth", "2", "--workers", "1", "--images", "4")


@dataclass(frozen=True, kw_only=True)
class Part:
    """A script beside this one, which writes what it finds to the file that ``--json`` names."""

    script: str
    words: tuple[str, ...] = ()
    full: tuple[str, ...] = ()
    """Extra arguments, but not in a rehearsal."""
    quick: tuple[str, ...] = ()
    """Extra arguments in a rehearsal."""
    limit: float
    """Seconds; those of all parts come first."""
    on_cifar: bool = False
    """It is given the data, and a folder that such parts share."""
    takes_rest: bool = False
    """It is told when to be done."""


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
    """Run a command in a group of its own.

    Returns:
        The exit code, None where it was ended after so many seconds; the end of its output.
    """
    places = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    own = {"PYTHONPATH": places, "PYTHONUNBUFFERED": "1", "VIT_DATA_DIR": str(work / "data")}
    environment = {"OMP_WAIT_POLICY": "PASSIVE", **os.environ, **own}  # as vit itself waits
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
            with suppress(ProcessLookupError):  # what it has started, and itself
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    return code, log.read_text(encoding="utf-8", errors="replace")[-_OUTPUT:]


def outcome(part: Part, options: argparse.Namespace, *, work: Path, limit: float) -> dict[str, Any]:
    """Run a part, and say what came of it."""
    if part.on_cifar and not options.data:
        return {"status": "left out", "why": "no data: --data PATH/TO/cifar10"}
    if limit <= 0:
        return {"status": "left out", "why": "no time is left: --parts runs it alone"}
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
    """Run the parts that are asked for, and write the file again after each."""
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
    """End as an exception does, so that the part under way is ended too."""
    raise SystemExit(128 + number)


def main() -> int:
    """Run the parts; the exit code is 0 where all of them are done."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--data", type=Path, default=None, help="CIFAR-10: a folder with train/ and test/, or an archive"
    )
    parser.add_argument("--output", type=Path, default=Path("gpu.json"), help="the file of all results")
    parser.add_argument("--minutes", type=float, default=6.0, help="for all parts together")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=None, help="these alone, beside what the file has")
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
