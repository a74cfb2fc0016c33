"""Train, judge, use and explain Vision Transformers.

The Python API is the set of functions behind the subcommands. Each function is imported on first use, so that
``import vitcli`` is fast.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from vitcli.core.version import __version__

if TYPE_CHECKING:
    from vitcli.cli.python_api import download as download
    from vitcli.cli.python_api import evaluate as evaluate
    from vitcli.cli.python_api import find_lr as find_lr
    from vitcli.cli.python_api import from_run as from_run
    from vitcli.cli.python_api import load_model as load_model
    from vitcli.cli.python_api import predict as predict
    from vitcli.cli.python_api import preview as preview
    from vitcli.cli.python_api import resume as resume
    from vitcli.cli.python_api import train as train
    from vitcli.core.config import TrainConfig as TrainConfig
    from vitcli.core.config_files import configure as configure
    from vitcli.core.errors import VitError as VitError
    from vitcli.training.folds import FoldsResult as FoldsResult
    from vitcli.training.result import TrainResult as TrainResult
    from vitcli.workflows.attention_api import attention_map as attention_map
    from vitcli.workflows.export import export as export

_API = {
    "FoldsResult": "vitcli.training.folds",
    "TrainConfig": "vitcli.core.config",
    "TrainResult": "vitcli.training.result",
    "VitError": "vitcli.core.errors",
    "attention_map": "vitcli.workflows.attention_api",
    "configure": "vitcli.core.config_files",
    "download": "vitcli.cli.python_api",
    "evaluate": "vitcli.cli.python_api",
    "export": "vitcli.workflows.export",
    "find_lr": "vitcli.cli.python_api",
    "from_run": "vitcli.cli.python_api",
    "load_model": "vitcli.cli.python_api",
    "predict": "vitcli.cli.python_api",
    "preview": "vitcli.cli.python_api",
    "resume": "vitcli.cli.python_api",
    "train": "vitcli.cli.python_api",
}
__all__ = [
    "FoldsResult",
    "TrainConfig",
    "TrainResult",
    "VitError",
    "__version__",
    "attention_map",
    "configure",
    "download",
    "evaluate",
    "export",
    "find_lr",
    "from_run",
    "load_model",
    "predict",
    "preview",
    "resume",
    "train",
]


def __getattr__(name: str) -> Any:
    if name not in _API:
        raise AttributeError(f"module 'vitcli' has no attribute {name!r}")
    return getattr(import_module(_API[name]), name)


def __dir__() -> list[str]:
    return __all__
