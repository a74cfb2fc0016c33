"""Train, judge, use and explain Vision Transformers.

The Python API is the set of functions behind the subcommands. Each function is imported on first use, so that
``import vitcli`` is fast.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from vitcli.core.version import __version__

if TYPE_CHECKING:
    from vitcli.cli.python_models import calibrate as calibrate
    from vitcli.cli.python_models import check_labels as check_labels
    from vitcli.cli.python_models import download as download
    from vitcli.cli.python_models import evaluate as evaluate
    from vitcli.cli.python_models import load_model as load_model
    from vitcli.cli.python_models import predict as predict
    from vitcli.cli.python_one_model import attention_map as attention_map
    from vitcli.cli.python_one_model import export as export
    from vitcli.cli.python_reports import compare as compare
    from vitcli.cli.python_reports import report as report
    from vitcli.cli.python_training import find_lr as find_lr
    from vitcli.cli.python_training import from_run as from_run
    from vitcli.cli.python_training import pretrain as pretrain
    from vitcli.cli.python_training import preview as preview
    from vitcli.cli.python_training import resume as resume
    from vitcli.cli.python_training import train as train
    from vitcli.cli.python_training import tune as tune
    from vitcli.core.config import TrainConfig as TrainConfig
    from vitcli.core.config_files import configure as configure
    from vitcli.core.errors import VitError as VitError
    from vitcli.training.groups import FoldsResult as FoldsResult
    from vitcli.training.groups import SeedsResult as SeedsResult
    from vitcli.training.result import TrainResult as TrainResult

_API = {
    "FoldsResult": "vitcli.training.groups",
    "SeedsResult": "vitcli.training.groups",
    "TrainConfig": "vitcli.core.config",
    "TrainResult": "vitcli.training.result",
    "VitError": "vitcli.core.errors",
    "attention_map": "vitcli.cli.python_one_model",
    "compare": "vitcli.cli.python_reports",
    "configure": "vitcli.core.config_files",
    "calibrate": "vitcli.cli.python_models",
    "check_labels": "vitcli.cli.python_models",
    "download": "vitcli.cli.python_models",
    "evaluate": "vitcli.cli.python_models",
    "export": "vitcli.cli.python_one_model",
    "find_lr": "vitcli.cli.python_training",
    "from_run": "vitcli.cli.python_training",
    "load_model": "vitcli.cli.python_models",
    "predict": "vitcli.cli.python_models",
    "pretrain": "vitcli.cli.python_training",
    "preview": "vitcli.cli.python_training",
    "report": "vitcli.cli.python_reports",
    "resume": "vitcli.cli.python_training",
    "train": "vitcli.cli.python_training",
    "tune": "vitcli.cli.python_training",
}
__all__ = [
    "FoldsResult",
    "SeedsResult",
    "TrainConfig",
    "TrainResult",
    "VitError",
    "__version__",
    "attention_map",
    "calibrate",
    "check_labels",
    "compare",
    "configure",
    "download",
    "evaluate",
    "export",
    "find_lr",
    "from_run",
    "load_model",
    "predict",
    "pretrain",
    "preview",
    "report",
    "resume",
    "train",
    "tune",
]


def __getattr__(name: str) -> Any:
    if name not in _API:
        raise AttributeError(f"module 'vitcli' has no attribute {name!r}")
    return getattr(import_module(_API[name]), name)


def __dir__() -> list[str]:
    return __all__
