"""What a run says of where it comes from."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from vitcli.core.provenance import command, environment, git_state, program

NO_REPOSITORY = {"git_commit": None, "git_dirty": None}


def git(folder: Path, *words: str) -> str:
    who = ("-c", "user.name=somebody", "-c", "user.email=somebody@example.org")
    done = subprocess.run(["git", *who, *words], cwd=folder, capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with one commit."""
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    git(tmp_path, "init")
    (tmp_path / "code.py").write_text("1\n")
    git(tmp_path, "add", "code.py")
    git(tmp_path, "commit", "-m", "first")
    return tmp_path


@pytest.mark.parametrize(
    ("argv", "by_uv", "expected"),
    [
        (["/home/somebody/bin/vit", "train"], False, "vit"),
        (["/home/somebody/bin/vit", "train"], True, "uv run vit"),
        (["/home/somebody/vitcli/__main__.py", "train"], False, ".venv/bin/python -m vitcli"),
        (["/home/somebody/vitcli/__main__.py", "train"], True, "uv run python -m vitcli"),
    ],
)
def test_the_program_is_named_as_it_was_started(
    monkeypatch: pytest.MonkeyPatch, argv: list[str], *, by_uv: bool, expected: str
) -> None:
    monkeypatch.setattr(sys, "argv", argv)
    monkeypatch.setattr(sys, "orig_argv", [".venv/bin/python", "-m", "vitcli"])
    if by_uv:
        monkeypatch.setenv("UV_RUN_RECURSION_DEPTH", "1")
    assert program() == expected


def test_a_python_in_a_folder_with_a_space_is_quoted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["/home/somebody/vitcli/__main__.py", "train"])
    monkeypatch.setattr(sys, "orig_argv", ["my env/bin/python", "-m", "vitcli"])
    assert program() == "'my env/bin/python' -m vitcli"


@pytest.mark.parametrize(
    ("typed", "stored"),
    [
        (["/home/somebody/.venv/bin/vit", "train", "/data/a b"], ["vit", "train", "/data/a b"]),
        (["/home/somebody/vitcli/__main__.py", "train"], ["python", "-m", "vitcli", "train"]),
        ([""], [""]),
        ([], [""]),
    ],
)
def test_the_command_is_as_typed_without_where_its_program_lies(
    monkeypatch: pytest.MonkeyPatch, typed: list[str], stored: list[str]
) -> None:
    monkeypatch.setattr(sys, "argv", typed)
    assert command() == stored


def test_only_variables_that_matter_and_are_set_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.delenv("MKL_NUM_THREADS", raising=False)
    assert environment().items() >= {"OMP_NUM_THREADS": "3", "CUDA_VISIBLE_DEVICES": ""}.items()
    assert not {"MKL_NUM_THREADS", "HOME", "USER", "PATH"} & environment().keys()


def test_a_repository_is_clean_until_a_file_that_git_knows_changes(repository: Path) -> None:
    commit = git(repository, "rev-parse", "HEAD")
    (repository / "experiments").mkdir()
    (repository / "experiments" / "run.json").write_text("{}")
    assert git_state() == {"git_commit": commit, "git_dirty": False}
    (repository / "code.py").write_text("2\n")
    assert git_state() == {"git_commit": commit, "git_dirty": True}


def test_without_a_repository_a_commit_or_git_itself_nothing_is_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert git_state() == NO_REPOSITORY
    git(tmp_path, "init")
    assert git_state() == NO_REPOSITORY
    monkeypatch.setenv("PATH", str(tmp_path))
    assert git_state() == NO_REPOSITORY


def test_a_trained_run_knows_machine_and_versions(trained_run: Path) -> None:
    stored = json.loads((trained_run / "run.json").read_text())
    assert stored["command"][:2] == ["vit", "train"]
    assert stored["hardware"]["cores"] > 0
    assert stored["hardware"]["threads"] > 0
    assert stored["hardware"]["memory"] > 10**8
    assert stored["hardware"]["cpu"]
    assert stored["versions"].keys() >= {"vitcli", "python", "torch", "numpy", "pillow", "safetensors"}
    words = json.dumps({key: stored[key] for key in ("hardware", "versions", "environment", "git_commit", "git_dirty")})
    assert str(Path.home()) not in words
