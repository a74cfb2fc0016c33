"""Changes of runs as a whole: their tags, their names, and their removal."""

import shlex
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path

from vitcli.core.config import RunConfig
from vitcli.core.errors import RunError, UsageError, did_you_mean
from vitcli.core.events import Emit, Note, ignore
from vitcli.core.run_folders import others_in
from vitcli.core.run_search import all_runs, runs_called
from vitcli.core.runs import Run
from vitcli.core.tags import TAGS_FILE, check_tag, save_tags, tags_of
from vitcli.data.locks import is_worked_in, only_one
from vitcli.trained.model_names import check_new_name

_WAIT = "wait, or stop it with Ctrl-C"
_REFERENCES = (("run", "init_from"), ("teacher", "name"))
"""Settings that may name another run."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TaggedRun:
    """A run or a group, and all of its tags."""

    run: str
    """Its name or path, as it was given."""
    tags: tuple[str, ...]
    """The tags."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RenamedRun:
    """A run or a group that has a new name."""

    name: str
    path: Path
    """Its folder now."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DeletedRuns:
    """Runs or groups that were deleted."""

    deleted: tuple[str, ...]
    """Their names."""


def tag(
    name: str, tags: Sequence[str] = (), *, remove: bool = False, output_dir: Path = Path("experiments")
) -> TaggedRun:
    """Add tags to a run or a group, or remove them; return all of its tags.

    Args:
        name: a run or a group in ``output_dir``, or its path.
        tags: the tags: letters, digits, ``.``, ``_`` and ``-``.
        remove: remove these tags.
        output_dir: the folder of all runs.

    Raises:
        UsageError: a word cannot be a tag.
        RunError: there is no such run, or it does not have the tag that is to be removed.
    """
    folder, _ = runs_called(name, output_dir)
    for word in tags:
        check_tag(word)
    with (
        only_one(folder / TAGS_FILE, f"tagging {name}", ignore) if tags else nullcontext()
    ):  # else a tag that another process adds would be lost
        before = tags_of(folder)
        if remove and (missing := [word for word in tags if word not in before]):
            has = f"its tags: {', '.join(before)}" if before else "it has no tags"
            raise RunError(f"{name} has no tag {missing[0]!r}", hint=did_you_mean(missing[0], before, otherwise=has))
        after = [word for word in before if word not in tags] if remove else [*dict.fromkeys([*before, *tags])]
        if after != before:
            save_tags(folder, after)
    return TaggedRun(run=name, tags=tuple(after))


@dataclass(frozen=True, kw_only=True, slots=True)
class Deletable:
    """A run or a group that may be deleted."""

    name: str
    folder: Path
    size: int
    """Size of all files in bytes."""
    used_by: tuple[str, ...]
    """Other runs that start from its weights or learn from it, which keep their own weights."""


def check_deletable(names: Sequence[str], output_dir: Path = Path("experiments")) -> list[Deletable]:
    """Find the runs to delete, and refuse all if one of them may not be deleted.

    Args:
        names: runs or groups in ``output_dir``, or their paths.
        output_dir: the folder of all runs.

    Raises:
        RunError: a name is not that of a run, is a link, one member of a group, the current folder or one
            above it, or a process is training it.
    """
    found: dict[Path, str] = {}
    for name in names:
        folder, _ = _changeable(name, output_dir, "deleted")
        found.setdefault(folder, name)
    return [
        Deletable(
            name=folder.resolve().name,
            folder=folder,
            size=sum(path.lstat().st_size for path in folder.rglob("*") if not path.is_dir()),
            used_by=tuple(
                dict.fromkeys(run.name for run, _, _ in _references(folder, output_dir) if not _is_in(run.path, found))
            ),
        )
        for folder in found
    ]


def delete(runs: Sequence[Deletable]) -> DeletedRuns:
    """Delete runs: each is renamed aside first, so that none is ever half there.

    Raises:
        RunError: a training has begun in one meanwhile, or some files cannot be removed; the runs before it are deleted.
        OSError: the folder above a run cannot be written.
    """
    for run in runs:
        if any(map(is_worked_in, (run.folder, *run.folder.glob("*/")))):  # since the user was asked
            raise RunError(f"another process is training {run.name}: it is not deleted", hint=_WAIT)
        aside = Path(tempfile.mkdtemp(prefix=".deleted-", dir=run.folder.parent))
        run.folder.rename(aside / run.name)
        try:
            shutil.rmtree(aside)
        except OSError as error:
            raise RunError(
                f"{run.name} is not a run any more, but files of it are left in {aside}: {error.strerror}",
                hint=f"rm -r {shlex.quote(str(aside))}",
            ) from None
    return DeletedRuns(deleted=tuple(run.name for run in runs))


def rename(old: str, new: str, *, output_dir: Path = Path("experiments"), emit: Emit = ignore) -> RenamedRun:
    """Give a run or a group another name, also in the settings of other runs that start or learn from it.

    Args:
        old: a run or a group in ``output_dir``, or its path.
        new: the new name of its folder.
        output_dir: the folder of all runs.
        emit: receives notes about other runs whose settings were changed.

    Raises:
        UsageError: the new name is not one of a folder.
        RunError: as for ``check_deletable``, or the new name is taken.
    """
    RunConfig(name=new)  # refuses names such as .hidden
    check_new_name(new)
    if not new:
        raise UsageError("the new name is empty", hint="vit runs rename OLD NEW")
    folder, _ = _changeable(old, output_dir, "renamed")
    path = folder.with_name(new)
    if path.exists() or path.is_symlink():
        raise RunError(f"{path} exists already", hint="choose another name")
    references = list(_references(folder, output_dir))
    absolute = folder.resolve()
    folder.rename(path)

    # Runs that name it get the new name, so that they can still be resumed and repeated
    for run, (section, key), target in references:
        inside = target.relative_to(absolute)
        config = run.config
        is_name = config[section][key] == str(Path(absolute.name) / inside)
        config[section][key] = str(Path(new) / inside if is_name else path.resolve() / inside)
        run.save_config(config)
        emit(Note(text=f"{run.name} names it: {section}.{key} = {config[section][key]} now"))
    for run in runs_called(str(path), Path())[1]:
        with suppress(RunError):  # a run that failed at once has no settings
            config = run.config
            if config["run"]["name"]:
                config["run"]["name"] = new
                run.save_config(config)
    return RenamedRun(name=new, path=path)


def _changeable(name: str, output_dir: Path, verb: str) -> tuple[Path, list[Run]]:
    """Find a run that may be renamed or deleted."""
    folder, runs = runs_called(name, output_dir)
    absolute, here = folder.resolve(), Path.cwd().resolve()
    if folder.is_symlink():
        raise RunError(f"{folder} is a link, which is not {verb}", hint=f"name the folder it points to: {absolute}")
    if absolute in (here, *here.parents) or folder.is_mount():
        raise RunError(
            f"{folder} is the current folder, one above it, or a disk: it is not {verb}", hint="cd elsewhere"
        )
    if runs[0].is_member and runs[0].path == folder:
        raise RunError(
            f"{runs[0].name} belongs to a {runs[0].group}, which is only {verb} as a whole",
            hint=f"name all of it: {absolute.parent.name}",
        )
    if others := others_in(folder, [run.path for run in runs]):
        raise RunError(
            f"{folder} holds other runs too, for example {others[0]}: it is not {verb}", hint="`vit runs` lists them"
        )
    if busy := [run.name for run in runs if is_worked_in(run.path)]:
        raise RunError(f"another process is training {busy[0]}: it is not {verb}", hint=_WAIT)
    return folder, runs


def _references(folder: Path, output_dir: Path) -> Iterator[tuple[Run, tuple[str, str], Path]]:
    """Yield the other runs that name a run, the setting that names it, and the path that this means.

    They are beside it, which is elsewhere if the run was named by its path, or in the folder of all runs.
    """
    places = {place.resolve(): place for place in (output_dir, folder.parent)}.values()
    for run in [run for place in places for run in all_runs(place)]:
        if _is_in(run.path, [folder]):
            continue
        with suppress(RunError):
            config = run.config
            for section, key in _REFERENCES:
                value = config.get(section, {}).get(key, "")
                above = run.path.parent.parent if run.is_member else run.path.parent
                for path in (above / value, Path(value)):
                    if value and path.exists() and _is_in(path, [folder]):
                        yield run, (section, key), path.resolve()
                        break


def _is_in(path: Path, folders: Sequence[Path] | dict[Path, str]) -> bool:
    return any(path.resolve().is_relative_to(folder.resolve()) for folder in folders)
