"""The rules of the house, read from the syntax tree, and from the modules that a command leaves loaded."""

import ast
import functools
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import vitcli

PACKAGE = Path(vitcli.__file__).parent
SOURCES = sorted(PACKAGE.rglob("*.py"))
FLOORS = {"core": 0, "engine": 1, "data": 1, "models": 1, "attention": 1, "figures": 1, "workflows": 2, "cli": 3}
HEAVY = {"torch", "torchvision", "numpy", "PIL", "matplotlib", "sklearn", "kaggle"}
LONGEST = 330

REPORT_MODULES = """
import json, sys
from vitcli.cli.app import main
codes = []
for words in json.loads(sys.argv[1]):
    sys.argv = ["vit", *words]
    try:
        main()
        codes.append(0)
    except SystemExit as end:
        codes.append(end.code or 0)
print(json.dumps({"codes": codes, "modules": sorted({name.partition(".")[0] for name in sys.modules})}), file=sys.stderr)
"""


def relative(path: Path) -> str:
    return path.relative_to(PACKAGE).as_posix()


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0]


def imported_by(statement: ast.AST) -> list[str]:
    if isinstance(statement, ast.Import):
        return [alias.name for alias in statement.names]
    if isinstance(statement, ast.ImportFrom):
        assert statement.level == 0, "imports are absolute"
        assert statement.module is not None
        if statement.module == "vitcli":  # `from vitcli import data` names a room, `from vitcli import __version__` not
            return [f"vitcli.{alias.name}" if alias.name in FLOORS else "vitcli" for alias in statement.names]
        return [statement.module]
    return []


def all_imports(tree: ast.AST) -> Iterator[str]:
    """Every import, wherever it stands, and every string that names a module to be imported later."""
    for node in ast.walk(tree):
        yield from imported_by(node)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and re.match(r"vitcli(\.\w+)+:", node.value):
            yield node.value.partition(":")[0]


def imports_at_module_level(tree: ast.Module) -> Iterator[str]:
    """Imports that happen when the module is loaded."""
    pending: list[ast.AST] = [tree]
    while pending:
        node = pending.pop()
        yield from imported_by(node)
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            pending += node.orelse
        elif not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            pending += ast.iter_child_nodes(node)


@functools.cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def modules_after(*commands: list[str], cwd: Path, exit_code: int = 0) -> set[str]:
    """The top-level modules that these commands load, in a Python of their own."""
    code = [sys.executable, "-c", REPORT_MODULES, json.dumps(commands)]
    done = subprocess.run(code, capture_output=True, text=True, cwd=cwd, check=False)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stderr.splitlines()[-1])
    assert report["codes"] == [exit_code] * len(commands), done.stderr
    return set(report["modules"])


ROOMS = [path for path in SOURCES if room_of(path) in FLOORS]


def test_every_folder_with_code_has_a_floor() -> None:
    outside = {relative(path) for path in SOURCES if path not in ROOMS}
    assert outside == {"__init__.py", "__main__.py"}


@pytest.mark.parametrize("path", ROOMS, ids=relative)
def test_imports_run_downwards_only(path: Path) -> None:
    room = room_of(path)
    for name in all_imports(parsed(path)):
        top, _, rest = name.partition(".")
        other = rest.partition(".")[0]
        if top == "vitcli" and other and other != room:
            assert FLOORS[other] < FLOORS[room], f"{relative(path)} imports {name}"


@pytest.mark.parametrize("path", [path for path in ROOMS if room_of(path) == "core"], ids=relative)
def test_core_stands_on_the_standard_library(path: Path) -> None:
    for name in all_imports(parsed(path)):
        assert name.partition(".")[0] in sys.stdlib_module_names or re.match(r"vitcli(\.core\b|$)", name), name


LIGHT = [
    path
    for path in SOURCES
    if path.parent == PACKAGE
    or room_of(path) in {"core", "cli"}
    or path.name == "registry.py"
    or relative(path) in {"data/store.py", "workflows/listings.py"}
]


@pytest.mark.parametrize("path", LIGHT, ids=relative)
def test_what_must_start_at_once_loads_nothing_heavy(path: Path) -> None:
    loaded = {name.partition(".")[0] for name in imports_at_module_level(parsed(path))}
    assert not loaded & HEAVY


@pytest.mark.parametrize("path", SOURCES, ids=relative)
def test_files_are_short(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= LONGEST


def test_no_module_is_a_drawer_for_odds_and_ends() -> None:
    names = {part for path in SOURCES for part in path.relative_to(PACKAGE).with_suffix("").parts}
    assert not names & {"utils", "util", "helpers", "common", "misc"}


def test_help_and_listings_load_nothing_heavy(tmp_path: Path) -> None:
    commands = (["--help"], ["train", "--help"], ["models"], ["datasets"], ["recipes"], ["runs"])
    assert not modules_after(*commands, cwd=tmp_path) & HEAVY


def test_a_misspelt_download_is_refused_before_anything_heavy_is_loaded(tmp_path: Path) -> None:
    assert not modules_after(["download", "cassva"], cwd=tmp_path, exit_code=1) & HEAVY


def test_listing_runs_that_exist_loads_nothing_heavy(trained_run: Path) -> None:
    assert not modules_after(["runs", "--output-dir", str(trained_run.parent)], cwd=trained_run) & HEAVY


def test_predicting_and_training_on_prepared_images_do_without_torchvision(
    trained_run: Path, digit: Path, tiny: tuple[str, ...], tmp_path: Path
) -> None:
    predict = ["predict", str(digit), "--model", str(trained_run)]
    train = ["train", "digits", *tiny]
    modules = modules_after(predict, train, cwd=tmp_path)
    assert "torch" in modules
    assert "torchvision" not in modules
    assert "sklearn" not in modules
