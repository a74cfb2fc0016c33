"""The rules of the house, read from the syntax tree, and from the modules that a command leaves loaded."""

import ast
import functools
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

import vitcli

PACKAGE = Path(vitcli.__file__).parent
SOURCES = sorted(PACKAGE.rglob("*.py"))
MODULES = {".".join(path.relative_to(PACKAGE).with_suffix("").parts): path for path in SOURCES}
FLOORS = {
    "core": 0,
    "engine": 1,
    "data": 1,
    "models": 1,
    "attention": 1,
    "figures": 1,
    "trained": 2,
    "training": 3,
    "judging": 3,
    "explaining": 3,
    "workflows": 4,
    "cli": 5,
}
HEAVY = {"torch", "torchvision", "numpy", "PIL", "matplotlib", "sklearn", "kaggle", "optuna"}
LONGEST = 330

REPORT_MODULES = """
import json, sys, typer
from vitcli.cli.app import app, main
command = typer.main.get_command(app)  # once: typer builds it in each call
typer.main.get_command = lambda _app: command
codes = []
for words in json.loads(sys.argv[1]):
    sys.argv = ["vit", *words]
    try:
        main()
        codes.append(0)
    except SystemExit as end:
        codes.append(end.code or 0)
print(json.dumps({"codes": codes, "modules": sorted(sys.modules)}), file=sys.stderr)
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
        return [statement.module, *(f"{statement.module}.{alias.name}" for alias in statement.names)]
    return []


def statements(tree: ast.Module) -> Iterator[ast.AST]:
    """Every statement, wherever it stands; to look into expressions, too, takes ten times as long."""
    pending: list[ast.AST] = [tree]
    while pending:
        node = pending.pop()
        yield node
        for block in ("body", "orelse", "finalbody", "handlers", "cases"):
            pending += getattr(node, block, [])


@functools.cache
def all_imports(path: Path) -> list[str]:
    """Every import, wherever it stands, and every string that names a module to be imported later."""
    named = re.findall(r"""["'](vitcli(?:\.\w+)+):""", path.read_text(encoding="utf-8"))
    return named + [name for node in statements(parsed(path)) for name in imported_by(node)]


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
    """The modules that these commands load, in a Python of their own."""
    return report_of(*commands, cwd=cwd, exit_codes={exit_code})[0]


def report_of(*commands: list[str], cwd: Path, exit_codes: set[int]) -> tuple[set[str], str]:
    """The modules that these commands load, in a Python of their own, and what they write to stderr."""
    code = [sys.executable, "-c", REPORT_MODULES, json.dumps(commands)]
    done = subprocess.run(code, capture_output=True, text=True, cwd=cwd, check=False)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stderr.splitlines()[-1])
    assert len(report["codes"]) == len(commands), done.stderr
    assert {*report["codes"]} <= exit_codes, done.stderr
    return set(report["modules"]), done.stderr


ROOMS = [path for path in SOURCES if room_of(path) in FLOORS]


def test_every_folder_with_code_has_a_floor() -> None:
    outside = {relative(path) for path in SOURCES if path not in ROOMS}
    assert outside == {"__init__.py", "__main__.py"}


def test_imports_run_downwards_only() -> None:
    upwards = []
    for path in ROOMS:
        for name in all_imports(path):
            top, _, rest = name.partition(".")
            other = rest.partition(".")[0]
            if top == "vitcli" and other not in {"", room_of(path)} and FLOORS[other] >= FLOORS[room_of(path)]:
                upwards.append(f"{relative(path)} imports {name}")
    assert upwards == []


@functools.cache
def modules_imported_by(path: Path) -> frozenset[Path]:
    """The modules of the package that a module imports, now or later."""
    found = set()
    for name in all_imports(path):
        for parts in (name.split(".")[1:], [*name.split(".")[1:], "__init__"]):
            if name.startswith("vitcli.") and (file := MODULES.get(".".join(parts))):
                found.add(file)
    return frozenset(found)


def test_no_module_imports_itself_by_way_of_others() -> None:
    remaining = {path: set(modules_imported_by(path)) for path in SOURCES}
    while leaves := {path for path, needed in remaining.items() if not needed & remaining.keys()}:
        remaining = {path: needed for path, needed in remaining.items() if path not in leaves}
    assert sorted(map(relative, remaining)) == []


def test_no_door_imports_a_door() -> None:
    doors = [path for path in ROOMS if room_of(path) == "workflows"]
    assert {relative(path): sorted(map(relative, modules_imported_by(path) & {*doors})) for path in doors} == {
        relative(path): [] for path in doors
    }


def test_core_stands_on_the_standard_library() -> None:
    """And on msgspec, which checks the types of JSON, and is imported only where a file is read."""
    core = [path for path in ROOMS if room_of(path) == "core"]
    imported = {(relative(path), name) for path in core for name in all_imports(path)}
    assert core
    assert [
        each
        for each in sorted(imported)
        if each[1].partition(".")[0] not in {*sys.stdlib_module_names, "msgspec"}
        and not re.match(r"vitcli(\.core\b|$)", each[1])
    ] == []


NEED_NO_TORCH = {
    "data/store.py",
    "models/counterparts.py",
    "trained/model_names.py",
    "training/kept_work.py",
    "training/pretraining.py",
    "training/resumed_settings.py",
    "training/run_report.py",
    "training/stated_settings.py",
    "training/study.py",
    "training/trials.py",
    "workflows/download.py",
    "workflows/env.py",
    "workflows/listings.py",
    "workflows/runs.py",
    "workflows/show_run.py",
    "workflows/edit_runs.py",
}
LIGHT = [
    path
    for path in SOURCES
    if path.parent == PACKAGE
    or room_of(path) in {"core", "cli"}
    or path.name == "registry.py"
    or relative(path) in NEED_NO_TORCH
]


def test_what_must_start_at_once_loads_nothing_heavy() -> None:
    loaded = {
        relative(path): {name.partition(".")[0] for name in imports_at_module_level(parsed(path))} & HEAVY
        for path in LIGHT
    }
    assert {path: names for path, names in loaded.items() if names} == {}


def test_files_are_short() -> None:
    lengths = {relative(path): len(path.read_text(encoding="utf-8").splitlines()) for path in SOURCES}
    assert {path: length for path, length in lengths.items() if length > LONGEST} == {}


def test_no_module_is_a_drawer_for_odds_and_ends() -> None:
    names = {part for path in SOURCES for part in path.relative_to(PACKAGE).with_suffix("").parts}
    assert not names & {"utils", "util", "helpers", "common", "misc"}


RIDDLES = {"What", "Which", "Of", "How", "Whether", "From", "Where", "When", "That", "Those", "Who"}


def test_docstrings_open_with_a_verb_or_a_noun() -> None:
    """So that each can be read alone, as in the hover of an editor."""
    found = []
    for path in SOURCES:
        for node in statements(parsed(path)):
            texts = [node.value.value] if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) else []
            found += [
                f"{relative(path)}: {text}"
                for text in texts  # of modules, classes and functions, and below constants and fields
                if isinstance(text, str) and text.partition(" ")[0].strip(",.:;") in RIDDLES
            ]
    assert found == []


def test_strings_in_the_code_document_a_name_or_a_block() -> None:
    """So that none outlives the constant below which it stood."""
    lost = []
    for path in SOURCES:
        for node in statements(parsed(path)):
            body = getattr(node, "body", [])
            first = (
                [] if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) else [None]
            )
            lost += [
                f"{relative(path)}:{text.lineno}"
                for before, text in pairwise([*first, *body])
                if isinstance(text, ast.Expr)
                and isinstance(text.value, ast.Constant)
                and isinstance(text.value.value, str)
                and not isinstance(before, ast.Assign | ast.AnnAssign)
            ]
    assert lost == []


def test_help_and_listings_load_nothing_heavy(trained_run: Path, tmp_path: Path) -> None:
    commands = [["--help"], ["train", "--help"], ["models"], ["datasets"], ["recipes"], ["runs"]]
    where = ("--output-dir", str(trained_run.parent))
    commands += [["runs", *where], ["runs", "show", "shared", *where], ["runs", "best", *where]]
    commands += [["runs", "--sort", "optim.lr", *where], ["runs", "tag", "shared", *where]]
    assert not modules_after(*commands, cwd=tmp_path) & HEAVY


MISTAKES_OF_TRAINING = """
train casava: 'casava' is neither
train casava --dry-run: 'casava' is neither
train casava --find-lr: 'casava' is neither
train casava --folds 3: 'casava' is neither
train casava --devices 2: 'casava' is neither
train ./photso: './photso' is neither
train file.txt: file.txt is not a folder
train kaggle:a/b/c: 'kaggle:a/b/c'
train . --labels lost.csv: lost.csv
train --labels lost.csv: lost.csv
train digits --model vit-tinny: 'vit-tinny'
train digits --recipe digts: 'digts'
train digits --init-from deit-tinny: 'deit-tinny'
train digits --init-from lost.pth: lost.pth
train digits --teacher nobody: 'nobody'
train digits --device gpu: unknown device 'gpu'
train digits --class-weights balnced: 'balnced'
train digits --name shared RUNS: 'shared' exists already
train --resume nobody: nobody
train --resume shared --lr 0.1 RUNS: shared
train --from-run nobody: nobody
train --from-run shared casava RUNS: 'casava' is neither
train --from-run shared --model vit-tinny RUNS: 'vit-tinny'
pretrain casava: 'casava' is neither
pretrain digits --mask-ratio 2: --mask-ratio 2
pretrain --resume nobody: 'nobody'
tune casava: 'casava' is neither
tune digits --search lr=1,2: 'lr=1,2' is not of the form
tune digits --name shared RUNS: 'shared' exists already
tune --resume nobody: 'nobody'
preview casava: 'casava' is neither
download cassva: 'cassva'
"""
MISTAKES_OF_USE = """
predict lost.jpg: lost.jpg
predict lost*.jpg: lost*.jpg
predict file.txt: no finished run
predict file.txt --device gpu: unknown device 'gpu'
predict file.txt --model shred RUNS: 'shred'
predict --submission rows.csv --model nobody: 'nobody'
check-labels casava: 'casava' is neither
check-labels digits --model nobody: 'nobody'
eval: no finished run
eval --model nobody: 'nobody'
eval casava RUNS: 'casava' is neither
attention-map lost.png: lost.png
attention-map file.txt --method rolout: 'rolout'
attention-map file.txt --cmap virids RUNS: 'virids'
attention-map file.txt --model nobody: 'nobody'
attention-map --dataset casava RUNS: 'casava' is neither
export nobody: 'nobody'
export --format onxx: 'onxx'
bench vit-tinny: 'vit-tinny'
bench --device gpu: unknown device 'gpu'
bench --against tim: 'tim'
bench --precision fp33: 'fp33'
bench --batch-size 1,two: '1,two'
bench --image-size big: 'big'
"""


@pytest.mark.parametrize(
    ("mistakes", "allowed"), [(MISTAKES_OF_TRAINING, set()), (MISTAKES_OF_USE, {"numpy", "PIL", "matplotlib"})]
)
def test_what_is_misspelt_is_refused_before_anything_heavy_is_loaded(
    mistakes: str, allowed: set[str], trained_run: Path, tmp_path: Path
) -> None:
    (tmp_path / "file.txt").write_text("text")
    lines = [line.split(": ", 1) for line in mistakes.strip().splitlines()]
    commands = [words.replace("RUNS", f"--output-dir {trained_run.parent}").split() for words, _ in lines]
    modules, said = report_of(*commands, cwd=tmp_path, exit_codes={1, 2})
    assert not modules & (HEAVY - allowed)
    errors = [line for line in said.splitlines() if line.startswith("error: ")]
    assert len(errors) == len(lines)
    assert [error for error, (_, word) in zip(errors, lines, strict=True) if word not in error] == []


@pytest.mark.usefixtures("trained_run")  # scikit-learn has read the digits
def test_commands_with_a_model_do_without_what_is_slow_to_load(
    digit: Path, tiny: tuple[str, ...], tmp_path: Path
) -> None:
    commands = [["train", "digits", *tiny], ["predict", str(digit)], ["eval"], ["attention-map", str(digit)], ["env"]]
    modules = modules_after(*commands, cwd=tmp_path)
    assert "torch" in modules
    slow = {"torchvision", "sklearn", "scipy", "torch._dynamo", "sympy", "matplotlib.pyplot", "transformers", "timm"}
    assert not modules & slow
