"""The origin of a run: its command, git state, and environment variables that may change its result."""

import os
import shlex
import subprocess
import sys
from collections.abc import Collection, Sequence
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

_VARIABLES = (
    *("CUDA_VISIBLE_DEVICES", "CUDA_LAUNCH_BLOCKING", "CUBLAS_WORKSPACE_CONFIG", "NVIDIA_TF32_OVERRIDE"),
    *("PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF", "OMP_NUM_THREADS", "MKL_NUM_THREADS"),
)
"""Environment variables that decide on devices, threads and the order of sums."""


def command() -> list[str]:
    """Return the words of this process's command, without the folder of the program."""
    program, *words = sys.argv or [""]
    is_module = Path(program).name == "__main__.py"
    called = ["python", "-m", Path(program).parent.name] if is_module else [Path(program).name]
    return [*called, *words]


def program() -> str:
    """Return the words that start this program, as typed: ``vit``, ``uv run vit`` or ``python -m vitcli``."""
    is_module = _is_module((sys.argv or [""])[0])
    by_uv = "UV_RUN_RECURSION_DEPTH" in os.environ  # set by `uv run`
    python = "python" if by_uv else shlex.quote(sys.orig_argv[0])
    return ("uv run " if by_uv else "") + (f"{python} -m vitcli" if is_module else "vit")


def retyped(
    words: Sequence[str], *, options: Collection[str] = (), flags: Collection[str] = (), sections: Collection[str] = ()
) -> list[str]:
    """Return the words of a command without some of them.

    Args:
        words: the words.
        options: the options to leave out, with their values.
        flags: the options without a value to leave out.
        sections: the sections whose settings, given by ``--set``, are left out.
    """
    kept, rest = list[str](), iter(words)
    for word in rest:
        name, has_value, value = word.partition("=")
        typed = [word]
        if name in {"--set", *options} and not has_value:
            typed.append(value := next(rest, ""))
        is_setting = name == "--set" and value.partition(".")[0] in sections
        kept += [] if is_setting or name in {*options, *flags} else typed
    return kept


def typed_again(
    *more: str, options: Collection[str] = (), flags: Collection[str] = (), sections: Collection[str] = ()
) -> str:
    """Return the command that was typed, without some words and with others at its end; empty: none was, as in Python.

    Args:
        more: the words at the end.
        options, flags, sections: the words to leave out, as for ``retyped``.
    """
    if not (words := _typed()):
        return ""
    return f"`{shlex.join(['vit', *retyped(words, options=options, flags=flags, sections=sections), *more])}`"


def typed_with(inner: Path) -> str:
    """Return the command that was typed, with a folder in place of the one around it; else ``vit train FOLDER``."""
    words = _typed()
    for at, (before, word) in enumerate(pairwise(words), start=1):  # the word after an option is its value
        if word and before[:1] != "-" and Path(word).resolve() in inner.resolve().parents:
            return f"`{shlex.join(['vit', *words[:at], str(inner), *words[at + 1 :]])}`"
    return f"`{shlex.join(['vit', 'train', str(inner)])}`"


def _typed() -> list[str]:
    """Return the words after ``vit`` on the command line; empty: another program runs, as in Python."""
    path, *words = sys.argv or [""]
    return words if Path(path).stem == "vit" or _is_module(path) else []


def _is_module(path: str) -> bool:
    """Tell whether a program's path is that of ``python -m vitcli``."""
    return Path(path).parts[-2:] == ("vitcli", "__main__.py")


def environment() -> dict[str, str]:
    """Return the relevant environment variables that are set."""
    return {name: os.environ[name] for name in _VARIABLES if name in os.environ}


def git_state() -> dict[str, Any]:
    """Return the commit of the working directory and whether tracked files differ from it; None: not a repository."""
    commit = _git("rev-parse", "HEAD") or None
    changes = _git("--no-optional-locks", "status", "--porcelain", "--untracked-files=no") if commit else None
    return {"git_commit": commit, "git_dirty": None if changes is None else bool(changes)}


def now() -> str:
    """Return the date and the time, ISO 8601."""
    return datetime.now(UTC).isoformat(timespec="microseconds")


def _git(*words: str) -> str | None:
    """Run git and return its output; None: git is missing, fails or takes too long."""
    try:
        answer = subprocess.run(["git", *words], capture_output=True, text=True, timeout=5, check=False)  # noqa: S603
    except (OSError, ValueError, subprocess.TimeoutExpired):
        return None
    return answer.stdout.strip() if answer.returncode == 0 else None
