"""JSON Schemas of what ``--json`` prints, and their page of the manual, made from the dataclasses and their docstrings."""

import ast
import functools
import inspect
import json
import re
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import numpy as np

from tests.builders.reference import GENERATED, named_commands
from vitcli.cli.app import app
from vitcli.core.errors import VitError

SCHEMAS = Path(__file__).parents[2] / "docs" / "schemas"
Schema = dict[str, Any]

SCALARS: dict[Any, str] = {
    str: "string",
    Path: "string",
    int: "integer",
    float: "number",
    bool: "boolean",
    NoneType: "null",
    np.ndarray: "array",
}
WORDS = {"string": "text", "integer": "whole number", "boolean": "true or false", "null": "null", "number": "number"}
SAME_EVERYWHERE = {
    "checkpoint": "The checkpoint that was loaded.",
    "classes": "Number of classes.",
    "dataset": "Name of the data set.",
    "device": "The device that computed.",
    "error": "The reason why the image could not be read; empty: it could.",
    "images": "Number of images.",
    "licence": "The licence.",
    "method": "Name of the attention method.",
    "model": "Name of the model: its architecture if it is to be trained, else its run or its weights.",
    "name": "The name.",
    "present": "True if it is on this machine.",
    "recipe": "Name of the recipe.",
    "split": "The split of the data set.",
    "summary": "What it is, in one line.",
    # terms of evaluation
    "correct": "Number of right predictions.",
    "f1": "Harmonic mean of precision and recall.",
    "precision": "Share of right predictions among those of a class.",
    "recall": "Share of right predictions among the images of a class.",
    "top1": "Accuracy: share of the images whose most probable class is right.",
    "macro_f1": "Mean F1 over the classes.",
    "macro_recall": "Mean recall over the classes.",
    "weighted_f1": "Mean F1 over the classes, weighted by their images.",
    "weighted_recall": "Mean recall over the classes, weighted by their images.",
    "average_precision": "Area under the precision-recall curve, mean over the classes.",
    "reliability": "Bins of images with similar confidence.",
    "metrics": "The metrics.",
    "Metrics.classes": "The metrics of each class.",
}
"""Descriptions of fields without a docstring, whose names mean the same in all results; ``Class.field`` wins."""


@functools.cache
def results() -> dict[str, Any]:
    """Types of what each command prints with ``--json``; imported here, because tests of other things need none."""
    from vitcli.cli.console import ErrorDocument
    from vitcli.cli.eval import CalibratedEvaluation
    from vitcli.core.config_files import Setting
    from vitcli.explaining.report import AttentionReport
    from vitcli.trained.run_rows import RunRow
    from vitcli.training.groups import FoldsResult, SeedsResult
    from vitcli.training.result import TrainResult
    from vitcli.training.run_report import RunReport
    from vitcli.training.tune_plan import TunePlan
    from vitcli.workflows import download, edit_runs, listings, predict
    from vitcli.workflows.attention_trust import Trust
    from vitcli.workflows.bench import BenchResult
    from vitcli.workflows.check_labels import LabelCheck
    from vitcli.workflows.compare import RunsComparison
    from vitcli.workflows.dry_run import DryRun
    from vitcli.workflows.env import Environment
    from vitcli.workflows.evaluate import EvalResult
    from vitcli.workflows.export import ExportResult
    from vitcli.workflows.find_lr import FoundRate
    from vitcli.workflows.pretrain import PretrainResult
    from vitcli.workflows.preview import Preview
    from vitcli.workflows.report import Report
    from vitcli.workflows.runs import BestRun
    from vitcli.workflows.tune import TuneResult

    return {
        "download": list[listings.DownloadRow] | download.DownloadResult | download.WeightsResult,
        "preview": Preview,
        "check-labels": LabelCheck,
        "train": TrainResult | FoldsResult | SeedsResult | FoundRate | DryRun,
        "pretrain": PretrainResult,
        "tune": TuneResult | TunePlan,
        "eval": EvalResult | CalibratedEvaluation,
        "report": Report,
        "predict": predict.PredictResult | predict.SubmissionResult,
        "attention-map": AttentionReport | Trust,
        "export": ExportResult,
        "bench": BenchResult,
        "models": list[listings.ModelRow],
        "datasets": list[listings.DatasetRow],
        "recipes": list[listings.RecipeRow] | dict[str, dict[str, Setting]],
        "runs": list[RunRow],
        "runs show": RunReport,
        "runs best": BestRun,
        "runs compare": RunsComparison,
        "runs tag": edit_runs.TaggedRun,
        "runs rename": edit_runs.RenamedRun,
        "runs delete": edit_runs.DeletedRuns,
        "env": Environment,
        "error": ErrorDocument,
    }


def schema_file(command: str) -> Path:
    """Return the file of the schema of a command."""
    return SCHEMAS / f"{command.replace(' ', '-')}.json"


def command_of(file: Path) -> str:
    """Return the command that a file of a schema belongs to: ``attention-map`` is one word, and ``runs-show`` are two."""
    return file.stem.replace("runs-", "runs ")


def schema_of(command: str) -> Schema:
    """Return the JSON Schema of what a command prints; ``error``: of what every command prints if it fails."""
    parts: dict[str, Schema] = {}
    schema = _schema(results()[command], parts)
    title = "an error with --json" if command == "error" else f"vit {command} --json"
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": title, **schema, "$defs": parts}


def schema_text(command: str) -> str:
    """Return the text of the schema's file."""
    return json.dumps(schema_of(command), indent=2) + "\n"


def _schema(kind: Any, parts: dict[str, Schema]) -> Schema:  # noqa: PLR0911 - one for each kind of type
    """Return the schema of a type; those of dataclasses are put into ``parts``, in the order in which they are met."""
    origin, args = get_origin(kind) or kind, get_args(kind)
    origin = get_origin(getattr(origin, "__value__", None)) or origin  # NumPy's NDArray is an alias from Python 3.12 on
    if is_dataclass(origin):
        name = origin.__name__
        if name not in parts:
            parts[name] = {}  # keeps the place of the outer one before those that it contains
            parts[name] |= _object(origin, parts)
        return {"$ref": f"#/$defs/{name}"}
    if origin is Any:
        return {}
    if origin is Literal:
        return {"enum": [*args]}
    if origin in {Union, UnionType}:
        return {"anyOf": [_schema(each, parts) for each in args]}
    if origin is tuple and args[-1] is not Ellipsis:
        places = [_schema(each, parts) for each in args]
        return {"type": "array", "prefixItems": places, "minItems": len(places), "maxItems": len(places)}
    if origin in {list, tuple}:
        return {"type": "array", "items": _schema(args[0], parts)}
    if isinstance(origin, type) and issubclass(origin, Mapping):
        keys = {"propertyNames": _schema(args[0], parts)} if get_origin(args[0]) is Literal else {}
        return {"type": "object", **keys, "additionalProperties": _schema(args[1], parts)}
    return {"type": SCALARS[origin]}


def _object(kind: type, parts: dict[str, Schema]) -> Schema:
    """Return the schema of a dataclass."""
    types = get_type_hints(kind, localns=_imported_later())
    printed = [field.name for field in fields(kind) if field.metadata.get("json", True)]
    texts = descriptions(kind)
    return {
        "description": _text(inspect.getdoc(kind) or ""),
        "type": "object",
        "properties": {name: {"description": texts.get(name, ""), **_schema(types[name], parts)} for name in printed},
        "required": printed,
    }


@functools.cache
def _imported_later() -> dict[str, Any]:
    """Return the types that modules name without importing them, because they have to start at once."""
    from vitcli.data.raw import SplitName
    from vitcli.workflows.calibrate import CalibrationResult
    from vitcli.workflows.evaluate import EvalResult

    return {"SplitName": SplitName, "CalibrationResult": CalibrationResult, "EvalResult": EvalResult}


def descriptions(kind: type) -> dict[str, str]:
    """Return the description of each field: the docstring below it, else what its name means everywhere."""
    (tree,) = ast.parse(textwrap.dedent(inspect.getsource(kind))).body
    assert isinstance(tree, ast.ClassDef)
    own = {
        field.target.id: _text(ast.literal_eval(text.value))
        for field, text in zip(tree.body, tree.body[1:], strict=False)
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and isinstance(text, ast.Expr)
    }
    usual = (
        {field.name: SAME_EVERYWHERE.get(f"{kind.__name__}.{field.name}") or SAME_EVERYWHERE.get(field.name, "")}
        for field in fields(kind)
    )
    return {name: text for each in usual for name, text in each.items()} | own


def _text(docstring: str) -> str:
    """Return a docstring as one paragraph of Markdown; Python's None is JSON's null."""
    return re.sub(r"\bNone\b", "null", " ".join(docstring.replace("``", "`").split()))


def json_page() -> str:
    """``docs/json.md``: what every command prints with ``--json``."""
    return "\n".join([GENERATED, *_INTRODUCTION, *_errors(), *_commands()]) + "\n"


_INTRODUCTION = (
    "# JSON for programs",
    "",
    "```bash",
    "vit runs --json",
    "```",
    "",
    "With `--json`, every command prints exactly one JSON document on stdout: its result, or an error. Notes, warnings, progress",
    "and messages for people go to stderr, as without it. The files in `docs/schemas/` describe the documents as JSON Schema;",
    "tests hold the output of every command to them. Later versions may add fields: programs should ignore those that they do",
    "not know.",
    "",
    "- Paths are text. Shares, accuracies and probabilities are from 0 to 1, losses are in nats, times in seconds.",
    "- `null` means that there is no value; the meaning of the field says why. Values in round brackets are a list of this length.",
    "- `vit predict` and `vit attention-map` print their result even if some of the images cannot be read. Each of these images",
    "  has an `error` of its own, and the exit code is 1. It is also 1 if `vit train --dry-run` finds that training would stop.",
    "",
    "## Errors",
    "",
    "A command that fails prints an error in place of its result:",
    "",
    "```json",
    "{",
    '  "error": {',
    '    "code": "usage",',
    """    "message": "unknown model 'vit-tinny'",""",
    """    "hint": "did you mean 'vit-tiny-patch16'?\"""",
    "  }",
    "}",
    "```",
    "",
    "stderr has the same message for people. `VIT_DEBUG=1` adds the traceback there; then Python ends with exit code 1.",
    "",
    "The exit code is 2 if the words of the command cannot be right, whatever the machine, its files and its runs: an option, a",
    "key or a choice that does not exist, a value that is malformed or out of range, or options that contradict each other, also",
    "in a file of settings. It is 1 for everything else: what is missing, broken or in the way, and values that do not fit this",
    "model, these data or this machine.",
    "",
    "| code | meaning | exit code |",
    "|---|---|---|",
)
_EXIT_CODES = {
    "usage": "2",
    "interrupted": "128 + the signal: 130 for Ctrl-C",
}


def families() -> list[type[VitError]]:
    """Return all classes of the tree of errors, the root last, which stands for everything else."""
    return [*VitError.__subclasses__(), VitError]


def _errors() -> Iterator[str]:
    for family in families():
        meaning = _text(family.__doc__ or "") if family is not VitError else "Anything else, such as a full disk."
        yield f"| `{family.code}` | {meaning} | {_EXIT_CODES.get(family.code, '1')} |"
    yield from ("", "Schema: [error.json](schemas/error.json).")
    yield from _tables(schema_of("error"), set())


def _commands() -> Iterator[str]:
    shown: set[str] = set()
    for name, _ in named_commands(app):
        schema, file = schema_of(name), schema_file(name).name
        printed = " or ".join(_words(each) for each in schema.get("anyOf", [schema]))
        yield from ("", f"## vit {name}", "", f"Prints: {printed}. Schema: [{file}](schemas/{file}).")
        yield from _tables(schema, shown)


def _tables(schema: Schema, shown: set[str]) -> Iterator[str]:
    """Yield a table for each dataclass that is not shown yet."""
    for name, part in schema["$defs"].items():
        if name in shown:
            continue
        shown.add(name)
        yield from ("", f"### {name}", "", part["description"], "", "| field | type | meaning |", "|---|---|---|")
        for field, kind in part["properties"].items():
            yield f"| `{field}` | {_words(kind)} | {kind['description'].replace('|', '&#124;')} |"


def _words(schema: Schema) -> str:  # noqa: PLR0911 - one for each kind of type
    """Say the type of a schema in words."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    if "anyOf" in schema:
        return " or ".join(map(_words, schema["anyOf"]))
    if "enum" in schema:
        return " or ".join(f"`{value}`" for value in schema["enum"])
    match schema.get("type"):
        case None:
            return "anything"
        case "array" if "prefixItems" in schema:
            return f"({', '.join(map(_words, schema['prefixItems']))})"
        case "array":
            return f"list of {_words(schema['items'])}" if "items" in schema else "nested lists of numbers"
        case "object":
            return f"object, by name: {_words(schema['additionalProperties'])}"
        case kind:
            return WORDS[kind]


def command_in(words: list[str]) -> str:
    """Return the command of a command line, with its subcommand."""
    known = map(command_of, SCHEMAS.glob(f"{words[0]}-*.json"))
    return next((command for command in known if command.partition(" ")[2] in words[1:]), words[0])


def check_document(command: str, printed: str) -> Any:
    """Return the one JSON document that a command printed, after it was checked against the published schema.

    A field that the schema does not describe is an error too.
    """
    document = json.loads(printed)
    name = "error" if isinstance(document, dict) and {*document} == {"error"} else command
    errors = [f"{error.json_path}: {error.message}" for error in _validator(name).iter_errors(document)]
    assert errors == [], f"vit {command} --json: {errors[:5]}"
    return document


@functools.cache
def _validator(name: str) -> Any:
    from jsonschema import Draft202012Validator

    schema = json.loads(schema_file(name).read_text(encoding="utf-8"))
    for part in schema["$defs"].values():
        part["additionalProperties"] = False
    return Draft202012Validator(schema)
