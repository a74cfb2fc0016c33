"""The functions of ``import vitcli`` that train: workflows, with the names of the options, that show their progress.

All take two more keywords: ``quiet=True`` shows nothing, and ``emit`` is a function that gets every event instead. An
unknown keyword raises a UsageError that suggests the nearest one. Errors name keywords instead of options.
"""

import functools
import inspect
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, get_args

from vitcli.cli.console import listening
from vitcli.cli.train_options import ROWS, settings_in
from vitcli.cli.usage_errors import in_python
from vitcli.core.config_files import Settings, layers_of
from vitcli.core.errors import UsageError, VitError, did_you_mean
from vitcli.core.events import Emit, ignore

if TYPE_CHECKING:
    from vitcli.data.raw import SplitName
    from vitcli.training.groups import FoldsResult, SeedsResult
    from vitcli.training.result import TrainResult
    from vitcli.workflows.find_lr import FoundRate
    from vitcli.workflows.pretrain import PretrainResult
    from vitcli.workflows.preview import Preview
    from vitcli.workflows.tune import TuneResult

StrPath = str | os.PathLike[str]
"""A name or a path; the result of a training counts as the path of its run."""
P = ParamSpec("P")
Result = TypeVar("Result")

_SETTINGS = {row.parameter: row for row in ROWS if row.setting}
_OPTIONS = {name: get_args(row.annotation)[0] for name, row in _SETTINGS.items()} | {"config": StrPath | None}
"""Name of each option of ``vit train`` that has a value -> its type."""
_PARAMETERS = {row.setting: row.parameter for row in reversed(ROWS) if row.setting not in {"", "data.name"}}
"""Setting -> its option; of several, the first."""
_OPTION_OF_KEY = {row.setting.partition(".")[2]: name for name, row in _SETTINGS.items()}


def checked_options(function: Callable[P, Result]) -> Callable[P, Result]:
    """Refuse unknown keywords, and write errors in the words of Python.

    ``**options`` becomes the options of ``vit train`` in the signature.
    """
    signature = inspect.signature(function)
    takes_any = inspect.Parameter.VAR_KEYWORD
    parameters = {name: each for name, each in signature.parameters.items() if each.kind is not takes_any}
    flags = {name for name, each in parameters.items() if isinstance(each.default, bool)}
    if len(parameters) < len(signature.parameters):
        flags |= {name for name, kind in _OPTIONS.items() if bool in get_args(kind)}
        parameters |= {
            name: inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=kind)
            for name, kind in _OPTIONS.items()
            if name not in parameters
        }

    @functools.wraps(function)
    def call(*args: P.args, **given: P.kwargs) -> Result:
        for name in given:
            if name not in parameters:
                known, listing = _OPTION_OF_KEY.get(name, name), f"help(vitcli.{function.__name__}) lists all"
                hint = did_you_mean(known, parameters, otherwise=listing)
                raise UsageError(f"{function.__name__}() has no option {name!r}", hint=hint)
        try:
            return function(*args, **given)
        except VitError as error:
            error.message, error.hint = (
                in_python(text, parameters, flags, _PARAMETERS) for text in (error.message, error.hint)
            )
            raise

    vars(call)["__signature__"] = signature.replace(parameters=[*parameters.values()])
    return call


def _layers(settings: Sequence[StrPath | Settings], options: Mapping[str, Any]) -> list[Settings]:
    """Turn a file of settings, dictionaries or names of data sets, and options into layers; later ones win."""
    given = {**dict.fromkeys(row.parameter for row in ROWS), **options}
    *file, last = layers_of(settings_in(given), config=Path(given["config"]) if given["config"] else None)
    for each in settings:
        if not isinstance(each, str | os.PathLike | Mapping):
            what = f"a value of type {type(each).__name__} is neither a data set nor settings"
            raise UsageError(what, hint='for example train("digits", epochs=3)')
    named = [each if isinstance(each, Mapping) else {"data": {"name": os.fspath(each)}} for each in settings]
    return [*file, *named, last]


@contextmanager
def showing(emit: Emit | None, *, quiet: bool) -> Iterator[Emit]:
    """Yield the listener that the caller asks for, or else the one of the command line."""
    if emit or quiet:
        yield emit or ignore
        return
    with listening() as listener:
        yield listener


@checked_options
def train(
    *settings: StrPath | Settings, quiet: bool = False, emit: Emit | None = None, **options: Any
) -> "TrainResult | FoldsResult | SeedsResult":
    """Train a Vision Transformer and store it as a run, as ``vit train`` does; with ``folds`` or ``seeds``, several.

    Args:
        settings: a data set or folder, and dictionaries for settings without an option, such as
            ``{"optim": {"betas": [0.9, 0.99]}}``; later ones win.
        quiet: show no progress.
        emit: receives the progress instead.
        options: the options of ``vit train``, for example ``epochs=3, batch_size=64``; they win over ``settings``.
    """
    layers = _layers(settings, options)
    with showing(emit, quiet=quiet) as listener:
        from vitcli.workflows.train import train as workflow

        return workflow(*layers, emit=listener)


@checked_options
def resume(
    run: StrPath = "", *settings: Settings, quiet: bool = False, emit: Emit | None = None, **options: Any
) -> "TrainResult | FoldsResult | SeedsResult":
    """Resume a run, or a group of runs, where it stopped, as ``vit train --resume`` does.

    Args:
        run: the name or the path of the run; empty: the newest unfinished run.
        settings: as for ``train``, where they may change.
        options, quiet, emit: as for ``train``.
    """
    layers = _layers(settings, options)
    with showing(emit, quiet=quiet) as listener:
        from vitcli.workflows.resume import resume as workflow

        return workflow(os.fspath(run), *layers, emit=listener)


@checked_options
def from_run(
    run: StrPath, *settings: StrPath | Settings, quiet: bool = False, emit: Emit | None = None, **options: Any
) -> "TrainResult | FoldsResult | SeedsResult":
    """Train a new run with the settings of an earlier one, as ``vit train --from-run`` does.

    Args:
        run: the name or the path of the earlier run.
        settings: as for ``train``; they replace those of the run.
        options, quiet, emit: as for ``train``.
    """
    layers = _layers(settings, options)
    with showing(emit, quiet=quiet) as listener:
        from vitcli.workflows.from_run import from_run as workflow

        return workflow(os.fspath(run), *layers, emit=listener)


@checked_options
def find_lr(
    *settings: StrPath | Settings, quiet: bool = False, emit: Emit | None = None, **options: Any
) -> "FoundRate":
    """Search for a good learning rate, as ``vit train --find-lr`` does; nothing is trained.

    Args:
        settings, options, quiet, emit: as for ``train``.
    """
    layers = _layers(settings, options)
    with showing(emit, quiet=quiet) as listener:
        from vitcli.workflows.find_lr import find_lr as workflow

        return workflow(*layers, emit=listener)


@checked_options
def tune(
    *settings: StrPath | Settings,
    minutes: float | None = None,
    trials: int | None = None,
    finalists: int | None = None,
    seeds: int | None = None,
    search: Sequence[str] = (),
    space: StrPath | None = None,
    output: StrPath | None = None,
    resume: StrPath | bool = False,
    quiet: bool = False,
    emit: Emit | None = None,
    **options: Any,
) -> "TuneResult":
    """Search for better settings within a budget, and tell whether they are better than the default, as ``vit tune`` does.

    Args:
        settings: as for ``train``; the default settings.
        minutes: the budget; None: 60, or with ``resume`` as before.
        trials: trials at most; None: as many as the budget holds, or with ``resume`` as before.
        finalists: the best trials, which are compared with the default; None: 2, if the budget holds them.
        seeds: fresh seeds that finalists and default are trained with; None: 3, if the budget holds them.
        search: settings to search, for example ``["optim.lr=1e-4..1e-1:log", "model.depth=2,4,6"]``.
        space: a TOML file of settings to search; None: the usual ones, if ``search`` is empty.
        output: the file of the recipe of a winner; None: ``recipe.toml`` in the folder of the study.
        resume: the name or the path of a study to continue; True: the newest unfinished one.
        options, quiet, emit: as for ``train``.
    """
    from vitcli.core.search_limits import Limits
    from vitcli.core.search_space import searched
    from vitcli.training.resumed_settings import output_dir_of
    from vitcli.training.study import Study, check_resumed_search, require_optuna

    require_optuna()
    given = {"minutes": minutes, "trials": trials, "finalists": finalists, "seeds": seeds}
    limits: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    layers, file = _layers(settings, options), Path(output) if output else None
    with showing(emit, quiet=quiet) as listener:
        if resume is not False:
            others = {"finalists": finalists, "seeds": seeds, "search": search, "space": space, "output": output}
            name = "" if resume is True else os.fspath(resume)
            Study.find(name, output_dir_of(layers))
            check_resumed_search(layers, others)
            from vitcli.workflows.tune import resume_tuning

            return resume_tuning(name, *layers, minutes=minutes, trials=trials, emit=listener)
        words = [search] if isinstance(search, str) else search
        dimensions, asked = searched(Path(space) if space else None, words), Limits(**limits)
        from vitcli.workflows.tune import tune as workflow

        return workflow(*layers, space=dimensions, limits=asked, output=file, emit=listener)


@checked_options
def pretrain(
    *settings: StrPath | Settings,
    mask_ratio: float | None = None,
    resume: StrPath | bool = False,
    quiet: bool = False,
    emit: Emit | None = None,
    **options: Any,
) -> "PretrainResult":
    """Pretrain a model on images without labels, as ``vit pretrain`` does.

    Args:
        settings: as for ``train``; a folder may have any layout.
        mask_ratio: share of the patches that is hidden; None: 0.5.
        resume: the name or the path of a pretraining to continue; True: the newest unfinished one.
        options, quiet, emit: as for ``train``.
    """
    from vitcli.training.pretraining import MASK_RATIO, check_resumed, check_settings

    layers, ratio = tuple(_layers(settings, options)), MASK_RATIO if mask_ratio is None else mask_ratio
    with showing(emit, quiet=quiet) as listener:
        if resume is not False:
            check_resumed(layers, mask_ratio)
            from vitcli.workflows.pretrain import resume_pretraining

            return resume_pretraining("" if resume is True else os.fspath(resume), *layers, emit=listener)
        check_settings(layers, ratio)
        from vitcli.workflows.pretrain import pretrain as workflow

        return workflow(*layers, mask_ratio=ratio, emit=listener)


@checked_options
def preview(
    *settings: StrPath | Settings,
    split: "SplitName" = "train",
    output: StrPath | None = None,
    quiet: bool = False,
    emit: Emit | None = None,
    **options: Any,
) -> "Preview":
    """Draw a data set as training would use it, as ``vit preview`` does.

    Args:
        settings: as for ``train``.
        split: the split that ``samples.png`` shows.
        output: the folder of the figures; None: ``previews/DATASET`` in the folder of all runs.
        options, quiet, emit: as for ``train``.
    """
    layers = _layers(settings, options)
    with showing(emit, quiet=quiet) as listener:
        from vitcli.workflows.preview import preview as workflow

        return workflow(*layers, split=split, output=Path(output) if output else None, emit=listener)
