"""The command ``vit env``."""

from collections.abc import Sequence
from textwrap import wrap
from typing import TYPE_CHECKING

from vitcli.cli.console import listening, print_facts, print_json, print_table, stderr, stdout
from vitcli.cli.options import JsonOption
from vitcli.core.files import bytes_in_words

if TYPE_CHECKING:
    from vitcli.workflows.env import Environment, MeasuredPrecision

_COLUMNS, _LABELS = 80, 20
"""Length of a line of libraries, and of the labels before it."""


def env(as_json: JsonOption = False) -> None:
    """Show the versions, hardware, folders and variables that a bug report needs.

    Of tokens and passwords, it only says whether one is set.
    """
    from vitcli.workflows.env import describe_environment

    with listening() as emit:
        found = describe_environment(emit)
    print_json(found) if as_json else _show(found)


def _show(found: "Environment") -> None:
    """Print the facts, then the folders, then the measured precisions."""
    versions = [f"{name}={version}" for name, version in found.versions.items() if version]
    missing = [name for name, version in found.versions.items() if not version]
    print_facts(
        {
            "vit": f"{found.vit} in {found.package}",
            "Python": f"{found.python} in {found.executable}",
            "system": found.system,
            "libraries": _listed(versions),
            **({"not installed": _listed(missing)} if missing else {}),
            **({"torch": f"cannot be imported: {found.torch_error}"} if found.torch_error else _hardware(found)),
            **({"nvidia-smi": "\n".join(found.nvidia)} if found.nvidia else {}),
            **found.variables,
            **dict.fromkeys(found.hidden, "set (not shown)"),
        }
    )
    stdout().print("\n[bold]folders[/]")
    rows = [
        (name, str(each.path) + ("" if each.exists else " (not made yet)"), _size(each.free))
        for name, each in found.folders.items()
    ]
    print_table(("of", "path", "free"), rows, numbers={2})
    if found.precisions:
        stdout().print("\n[bold]precisions[/], as measured here for --amp auto")
        chosen = dict.fromkeys((each.device, _model(each), each.work, each.chosen) for each in found.precisions)
        print_table(("device", "model", "work", "precision"), [*chosen], numbers=())
    if found.torch_error:
        stderr().print("\n[yellow]torch does not work:[/] install it again, then `vit env` shows the hardware too")


def _hardware(found: "Environment") -> dict[str, str]:
    """Return the facts that torch knows."""
    has = {True: "yes", False: "no", None: "not known"}
    gpus = [
        f"{gpu.name}, {bytes_in_words(gpu.memory)}, capability {gpu.capability}, bfloat16: {has[gpu.bfloat16]}"
        for gpu in found.gpus
    ]
    return {
        "processor": f"{found.processor}, {found.instructions}, bfloat16: {has[found.bfloat16]}",
        "cores": f"{found.cores or 'not known'}, torch computes with {found.threads} threads",
        "memory": _size(found.memory),
        "GPUs": "\n".join(gpus) or ("that of the Mac (mps)" if found.mps else "none that torch can use"),
        "torch is built for": f"CUDA {found.cuda}" if found.cuda else "no CUDA",
    }


def _listed(libraries: Sequence[str]) -> str:
    """List libraries in lines that fit into the terminal, and are short in files too."""
    return "\n".join(wrap(", ".join(libraries), min(_COLUMNS, stdout().width - _LABELS), break_on_hyphens=False))


def _size(count: int | None) -> str:
    return "not known" if count is None else bytes_in_words(count)


def _model(precision: "MeasuredPrecision") -> str:
    """Name the sizes on which the speed of a model depends most."""
    sizes = precision.model
    image, patch = ("{} x {}".format(*sizes.get(name, (0, 0))) for name in ("image_size", "patch_size"))
    return f"width {sizes.get('width')}, depth {sizes.get('depth')}, images of {image}, patches of {patch}"
