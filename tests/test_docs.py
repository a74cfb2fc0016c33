"""The README and the manual: their commands exist and run, and what is generated is up to date."""

import os
import re
import shlex
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.builders.processes import COMMAND
from tests.builders.reference import commands_page, named_commands, recipes_page
from tests.builders.schemas import (
    SAME_EVERYWHERE,
    SCHEMAS,
    command_of,
    families,
    json_page,
    results,
    schema_of,
    schema_text,
)
from tests.conftest import Outcome, naming
from vitcli.cli.app import app

ROOT = Path(__file__).parents[1]
PAGES = {str(path.relative_to(ROOT)): path for path in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))}
GENERATED: dict[str, Callable[[], str]] = {
    "docs/commands.md": commands_page,
    "docs/recipes.md": recipes_page,
    "docs/json.md": json_page,
    **{f"docs/schemas/{path.name}": partial(schema_text, command_of(path)) for path in sorted(SCHEMAS.glob("*.json"))},
}
SMALL = {"model": {"depth": 1, "width": 16, "num_heads": 2, "mlp_width": 32}}
_BLOCK = re.compile(r"(<!-- not run: [^\n]+ -->\n)?```bash\n(.*?)```", re.DOTALL)


def commands(page: str, *, run: bool) -> Iterator[list[str]]:
    """Words of each command of a page's blocks, of those that are run or of those that are marked with why not."""
    for marked, block in _BLOCK.findall(PAGES[page].read_text(encoding="utf-8")):
        if run != bool(marked):
            for line in block.replace("&&", "\n").splitlines():
                if words := shlex.split(line, comments=True):
                    yield words[2:] if words[:2] == ["uv", "run"] else words


def test_a_generated_page_is_what_the_app_says_now() -> None:
    for page, generated in GENERATED.items():
        with naming(page):
            if os.environ.get("VIT_NEW_REFERENCE"):
                (ROOT / page).write_text(generated(), encoding="utf-8")
            assert (ROOT / page).read_text(encoding="utf-8") == generated()


def test_every_command_has_a_schema() -> None:
    assert {*results()} == {*(name for name, _ in named_commands(app)), "error"}
    assert {*results()} == {*map(command_of, SCHEMAS.glob("*.json"))}


def test_every_field_of_a_schema_is_described() -> None:
    for command in sorted(map(command_of, SCHEMAS.glob("*.json"))):
        with naming(command):
            parts = schema_of(command)["$defs"]
            fields = {(name, field): text for name, part in parts.items() for field, text in part["properties"].items()}
            assert fields
            assert [field for field, schema in fields.items() if not schema["description"]] == []


def test_every_usual_description_is_needed() -> None:
    parts = [part for command in results() for part in schema_of(command)["$defs"].values()]
    assert {*SAME_EVERYWHERE.values()} <= {
        field["description"] for part in parts for field in part["properties"].values()
    }


def test_the_page_of_json_names_every_family_of_errors() -> None:
    codes = {family.code for family in families()}
    assert len(codes) == len(families())
    assert codes == {*re.findall(r"^\| `([a-z-]+)` \|.*\| [12]", json_page(), re.MULTILINE)}


def test_every_benchmark_is_listed() -> None:
    folder = ROOT / "benchmarks"
    listed = {*re.findall(r"\w+\.(?:py|sh)", (folder / "README.md").read_text(encoding="utf-8"))}
    assert listed == {path.name for path in folder.iterdir() if path.suffix in {".py", ".sh"}}


def test_commands_and_options_exist() -> None:
    for page in PAGES:
        with naming(page):
            for words in (*commands(page, run=True), *commands(page, run=False)):
                if words[0] == "vit":
                    command: Any = COMMAND
                    name, *options = words[1:]
                    while (command := command.commands[name]) and {*options[:1]} & {*getattr(command, "commands", ())}:
                        name, *options = options
                    command.make_context(
                        name, options, **COMMAND.context_settings
                    )  # a command keeps its -h of the first


def test_options_in_the_text_exist() -> None:
    group: Any = COMMAND
    known = {
        name
        for command in group.commands.values()
        for part in (command, *getattr(command, "commands", {}).values())
        for each in part.params
        for name in (*each.opts, *each.secondary_opts)
    }
    known |= {"--help", "--version", "--install-completion"}  # of every command
    known |= {"--extra", "--seeds", "--quick", "--data", "--files", "--labelled"}  # of uv and of benchmarks
    for page, path in PAGES.items():
        text = re.sub(r"```.*?```", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
        named = {name for code in re.findall(r"`([^`]+)`", text) for name in re.findall(r"(?<!\S)--[a-z-]+", code)}
        assert named <= known, page


@pytest.fixture
def _checkout(image_folder: Callable[..., Path], tmp_path: Path) -> None:
    """A folder with what pages take for granted: the examples, and photos."""
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    photos = image_folder(tmp_path / "photos", {"left": 10, "right": 10}, size=(16, 16), mode="RGB")
    rows = (f"{path.parent.name}/{path.name},{path.parent.name}\n" for path in sorted(photos.rglob("*.png")))
    (photos / "train.csv").write_text("image,label\n" + "".join(rows))


@pytest.mark.usefixtures("_checkout")
@pytest.mark.parametrize("page", [page for page in PAGES if any(commands(page, run=True))])
def test_commands_run(run_cli: Callable[..., Outcome], tiny: tuple[str, ...], page: str) -> None:
    if page == "README.md":
        run_cli("train", *tiny)  # as its first command does, after it has installed everything
    for program, *words in commands(page, run=True):
        assert program == "vit", "mark other programs as not run"
        if words[0] in {"train", "pretrain"}:  # a smaller model, and fewer images than ``shapes`` has
            words = ["digits" if word == "shapes" else word for word in words] + [*tiny]  # noqa: PLW2901
            words += ["--batch-size", "16" if "--find-lr" in words else "512"]  # small or few steps
        outcome = run_cli(*words)
        assert outcome.code == 0, f"{shlex.join(words)}: {outcome.err}"


def test_the_block_of_python_runs(capsys: pytest.CaptureFixture[str]) -> None:
    (block,) = re.findall(r"```python\n(.*?)```", PAGES["docs/python.md"].read_text(encoding="utf-8"), re.DOTALL)
    usual = 'vitcli.train("digits", epochs=20)'
    assert usual in block
    exec(block.replace(usual, 'vitcli.train("digits", small, epochs=1, amp="off")'), {"small": SMALL})
    printed = capsys.readouterr().out.splitlines()
    assert [line.partition(" ")[0] for line in printed] == ["<TrainResult", "<EvalResult", "three.png"]
