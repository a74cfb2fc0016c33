"""Search for models by name, without reading them; nothing here needs torch, so that typos are reported at once."""

import glob
import re
from collections.abc import Collection, Sequence
from pathlib import Path

from vitcli.core.devices import parse_device
from vitcli.core.errors import ModelError, RunError, UsageError, did_you_mean
from vitcli.core.events import Emit, Warned, ignore
from vitcli.core.files import expanded
from vitcli.core.run_search import (
    all_runs,
    best_finished,
    find_run,
    members_of,
    members_with,
    newest_finished,
    runs_called,
)
from vitcli.core.runs import Run
from vitcli.models.hub import find_pretrained, weights_in
from vitcli.models.pretrained import PRETRAINED, PretrainedEntry
from vitcli.models.timm_names import is_plain

BEST = "best"
"""The name of the best finished run on the data of the newest one, unless a run or a file has this name."""
_REPOSITORY = re.compile(r"[A-Za-z][\w.-]*/[A-Za-z][\w.-]*")


def check_new_name(name: str) -> None:
    """Raise UsageError if a new run would be called as commands call the best one."""
    if name == BEST:
        raise UsageError(
            f"a run cannot be called {BEST}, which commands take for the best run", hint="give another name"
        )


def check_model(name: str, *, output_dir: Path, device: str = "auto", architectures: Collection[str] = ()) -> None:
    """Check the names of a model and a device as ``load_model`` does, without reading files or importing torch.

    Args:
        name: the name of the model.
        output_dir: the folder of all runs.
        device: the name of the device.
        architectures: the names of ``vit models``, if one of them, or no name at all, will do.

    Raises:
        DeviceError, ModelError, RunError, UsageError: a name is unknown, or a path does not exist.
    """
    parse_device(device)
    if architectures and (not name or is_architecture(name, output_dir, architectures)):
        return
    chosen = chosen_run(name, output_dir)
    find_model(str(chosen.path) if chosen else name, output_dir, architectures=architectures)


def is_architecture(name: str, output_dir: Path, architectures: Collection[str]) -> bool:
    """Tell whether a name is one of ``vit models``, and not that of a run or a file."""
    return name in architectures and not is_there(name, output_dir)


def check_models(name: str, *, output_dir: Path, device: str = "auto") -> None:
    """Check the names of models and a device as ``load_models`` does, without reading files or importing torch."""
    parse_device(device)
    for each in names_meant_by(name, output_dir, ignore):
        check_model(each, output_dir=output_dir, device=device)


def check_runs(names: Sequence[str], *, output_dir: Path, device: str = "auto") -> None:
    """Check the names of runs and groups and a device, without importing torch; empty: the newest finished run."""
    parse_device(device)
    for name in names or ("",):
        if not chosen_run(name, output_dir):
            runs_called(name, output_dir)


def names_meant_by(name: str, output_dir: Path, emit: Emit) -> list[str]:
    """List the names or paths of the models to average, without runs of a group that are not finished."""
    if is_pattern := bool(set("*?[") & set(name) and not is_there(name, output_dir)):
        found = {Path(path) for each in (name, str(output_dir / name)) for path in glob.glob(each)}  # noqa: PTH207
        paths = sorted({path.resolve(): path for path in sorted(found)}.values())
        names = [str(path) for path in paths if path.suffix == ".safetensors" and path.is_file()]
        members = [Run(path) for path in paths if (path / "run.json").is_file()]
        if not names and not members:
            raise RunError(f"no run in {output_dir} matches {name!r}")
    else:
        chosen, names = chosen_run(name, output_dir, emit), []
        members = members_with(chosen) if chosen else members_called(name, output_dir)
    finished = [run for run in members if run.status == "finished"]
    if unfinished := [f"{run.name} ({run.status})" for run in members if run not in finished]:
        if is_pattern and not finished and not names:
            raise RunError(f"no run that matches {name!r} is finished: {', '.join(unfinished)}", hint="name one run")
        emit(Warned(text=f"left out of the mean: {', '.join(unfinished)}"))
    return names + [str(run.path) for run in finished] or [name]


def chosen_run(name: str, output_dir: Path, emit: Emit = ignore) -> Run | None:
    """Return the run to use without a name, the newest finished one, or by the name ``best``; None: another name."""
    if not name:
        return newest_finished(output_dir, emit)
    is_best = name == BEST and not is_there(name, output_dir)
    return best_finished(output_dir, emit) if is_best else None


def name_meant_by(name: str, output_dir: Path, emit: Emit = ignore) -> str:
    """Return the name of the run or the group that ``best`` stands for; any other name as it is."""
    chosen = chosen_run(name, output_dir, emit) if name == BEST else None
    if not chosen:
        return name
    return (chosen.path.parent if members_with(chosen) else chosen.path).name


def find_model(name: str, output_dir: Path, *, architectures: Collection[str] = ()) -> Run | Path | PretrainedEntry:
    """Find a model: a run with weights, a file of weights, or weights that can be downloaded.

    Args:
        name: a run's name or path, a file or folder of weights in any known format, the name of pretrained weights,
            ``hf:OWNER/NAME[@REVISION]`` on the Hugging Face hub, or an http address; empty: the newest finished run.
        output_dir: the folder of all runs.
        architectures: other names that the caller knows, for the message about a name that does not exist.

    Raises:
        ModelError, RunError, UsageError: the model does not exist.
    """
    path = Path(name)
    if name and path.is_file():
        return path
    if not name or is_run(name, output_dir):
        run = find_run(name, output_dir) if name else newest_finished(output_dir)
        checkpoint_of(run)
        return run
    if members := members_called(name, output_dir):
        raise RunError(
            f"{name!r} is a {members[0].group} of {len(members)} models, but one model is needed",
            hint=f"name one of them: {name.rstrip('/')}/{members[0].path.name}",
        )
    if entry := find_pretrained(name):
        return entry
    for folder in (output_dir / name, path):
        if folder.is_dir() and (folder == path or any(folder.glob("*.safetensors"))):
            return weights_in(folder)
    if path.suffix in {".safetensors", ".pth", ".pt", ".bin"}:
        raise ModelError(f"no such file: {name}", hint="`vit runs` lists the runs, `vit download` pretrained weights")
    beginning = Path(name).parts[0] if name else ""
    if _REPOSITORY.fullmatch(name) and not any((folder / beginning).exists() for folder in (Path(), output_dir)):
        raise ModelError(f"no such folder: {name}", hint=f"a repository of the Hugging Face hub is called hf:{name}")
    if is_plain(name):
        raise ModelError(
            f"{name} is an architecture of timm, not weights",
            hint=f"timm's weights are on the hub, with a tag: hf:timm/{name.partition('.')[0]}.TAG; `vit download` lists some",
        )
    known = [*architectures, *(run.name for run in all_runs(output_dir)), *PRETRAINED]
    known += [file.parent.name for file in output_dir.glob("*/weights.safetensors")]
    kinds = f"{'an architecture, ' if architectures else ''}a run in {output_dir}, a file, or"
    raise RunError(
        f"{name!r} is not {kinds} the name of pretrained weights",
        hint=did_you_mean(name, known, otherwise="`vit runs` lists the runs, `vit download` pretrained weights"),
    )


def is_there(name: str, output_dir: Path) -> bool:
    """Tell whether a name is an address or an existing path, so that it is no pattern."""
    return "://" in name or Path(name).exists() or (output_dir / name).exists()


def is_run(name: str, output_dir: Path) -> bool:
    """Tell whether a run has this name or path."""
    return any((path / "run.json").is_file() for path in (Path(name), output_dir / name))


def members_called(name: str, output_dir: Path) -> list[Run]:
    """List the runs of the group with this name or path; empty: there is none."""
    return members_of(output_dir / name) or members_of(Path(name))


def checkpoint_of(run: Run) -> Path:
    """Find the best checkpoint of a run, else the last one.

    Raises:
        RunError: the run has no checkpoint.
    """
    for checkpoint in (run.best_checkpoint, run.checkpoint("last")):  # no best one if the first epoch was cut short
        if checkpoint.exists():
            return checkpoint
    raise RunError(f"run {run.name} has no checkpoint yet (it is {run.status})")


def is_in(output_dir: Path, name: str) -> bool:
    """Tell whether a run or a pretraining in a folder has this name."""
    return bool(name) and any((output_dir / name / file).is_file() for file in ("run.json", "pretraining.json"))


def lasting_name(name: str, output_dir: Path) -> str:
    """Return a model's name for use from any folder: the path of a file or folder is absolute, also that of ``best``.

    The names of runs and pretrainings in ``output_dir``, and of pretrained weights, stay as they are.
    """
    chosen = chosen_run(name, output_dir) if name == BEST else None
    path = chosen.path if chosen else expanded(name)
    is_name = is_in(output_dir, name) or (find_pretrained(name) and not (is_run(name, output_dir) or members_of(path)))
    return str(path.resolve()) if name and path.exists() and (path.is_file() or chosen or not is_name) else name
