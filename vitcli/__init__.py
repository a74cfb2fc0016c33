"""Train, judge, use and explain Vision Transformers.

The Python API is the set of functions behind the subcommands. Each function is imported on first use, so that
``import vitcli`` is fast.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from vitcli.core.version import __version__

if TYPE_CHECKING:
    from vitcli.core.config import TrainConfig as TrainConfig
    from vitcli.core.config_files import configure as configure
    from vitcli.core.errors import VitError as VitError
    from vitcli.trained.loading import load_model as load_model
    from vitcli.training.folds import FoldsResult as FoldsResult
    from vitcli.training.result import TrainResult as TrainResult
    from vitcli.workflows.attention_api import attention_map as attention_map
    from vitcli.workflows.download import download as download
    from vitcli.workflows.evaluate import evaluate as evaluate
    from vitcli.workflows.export import export as export
    from vitcli.workflows.find_lr import find_lr as find_lr
    from vitcli.workflows.from_run import from_run as from_run
    from vitcli.workflows.predict import predict as predict
    from vitcli.workflows.preview import preview as preview
    from vitcli.workflows.resume import resume as resume
    from vitcli.workflows.train import train as train

_API = {
    "FoldsResult": "vitcli.training.folds",
    "TrainConfig": "vitcli.core.config",
    "TrainResult": "vitcli.training.result",
    "VitError": "vitcli.core.errors",
    "attention_map": "vitcli.workflows.attention_api",
    "configure": "vitcli.core.config_files",
    "download": "vitcli.workflows.download",
    "evaluate": "vitcli.workflows.evaluate",
    "export": "vitcli.workflows.export",
    "find_lr": "vitcli.workflows.find_lr",
    "from_run": "vitcli.workflows.from_run",
    "load_model": "vitcli.trained.loading",
    "predict": "vitcli.workflows.predict",
    "preview": "vitcli.workflows.preview",
    "resume": "vitcli.workflows.resume",
    "train": "vitcli.workflows.train",
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
