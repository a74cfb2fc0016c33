"""Folders of runs and of other work, without a look into their files."""

from collections.abc import Collection
from pathlib import Path

from vitcli.core.errors import RunError

_WORK = {"run.json", "study.json", "pretraining.json"}
"""Files that each run, each search and each pretraining has."""


def others_in(folder: Path, own: Collection[Path]) -> list[Path]:
    """List the runs, searches and pretrainings at any depth in a folder, in order, without the folders of its own."""
    return sorted({file.parent for file in folder.rglob("*.json") if file.name in _WORK} - {*own})


def check_no_run(path: Path) -> None:
    """Refuse a folder for a group that is itself a run, or a study of ``vit tune``."""
    if kind := next((kind for kind in ("run", "study") if (path / f"{kind}.json").exists()), ""):
        raise RunError(f"{path} is a {kind}, so it cannot hold several runs", hint="choose another name: --name NAME")
