"""Errors of usage, in the words that the user typed: options as options or as keywords, keys of a file with its name."""

import inspect
import re
import shlex
import sys
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields
from functools import partial
from itertools import dropwhile
from pathlib import Path
from types import NoneType
from typing import Any, Literal, get_args, get_origin

import typer
from typer.models import OptionInfo

from vitcli.core.config import TrainConfig
from vitcli.core.config_files import Settings, setting_called
from vitcli.core.errors import UsageError, VitError, nearest
from vitcli.core.files import expanded

NotUnderstood: type[Exception] = typer.BadParameter.__mro__[1]
"""The base class of typer's errors about the words of a command line, for which typer has no public name."""
_WORDS: Mapping[Any, str] = {bool: "", int: "INTEGER", float: "NUMBER", str: "TEXT", Path: "PATH"}
"""The word after an option in ``--help``; a flag has none."""


def with_plain_values(command: Callable[..., None]) -> Callable[..., None]:
    """Let a command read numbers, choices and paths by functions of this module, whose messages name option and value.

    The lines of each paragraph of its docstring are joined, because ``--help`` would keep their ends.
    """
    command.__doc__ = "\n\n".join(" ".join(part.split()) for part in (command.__doc__ or "").split("\n\n"))
    for parameter in inspect.signature(command).parameters.values():
        if parameter.annotation is typer.Context:
            continue
        kind, option = parameter.annotation.__origin__, parameter.annotation.__metadata__[0]
        inner = kind if get_origin(kind) is Literal else next(filter(_is_no_none, get_args(kind)), kind)
        if not isinstance(option, OptionInfo) or get_origin(kind) is list:
            continue
        known = get_args(inner) if get_origin(inner) is Literal else ()
        if known or inner in {int, float}:
            example = parameter.default or (known[0] if known else {int: 8, float: 0.1}[inner])
            reads = partial(read_choice, known) if known else partial(read_number, inner, option.min, option.max)
            option.parser = option.parser or partial(reads, flag_of(option), example)
            option.min = option.max = None
        if inner is Path:
            option.callback = option.callback or _at_home
        option.metavar = option.metavar or ("|".join(known) if known else _WORDS[inner])
    return command


def _at_home(path: Path | None) -> Path | None:
    """Expand ``~`` in the value of an option, because shells leave that of ``--output-dir=~/runs`` as it is."""
    return path and expanded(path)


def _is_no_none(kind: Any) -> bool:
    return kind is not NoneType


def flag_of(option: OptionInfo) -> str:
    """Return the first name of an option; where defaults are given by ``=``, typer keeps it in the default's place."""
    names = [option.default, *(option.param_decls or ())]
    return next(name for name in names if isinstance(name, str)).partition("/")[0]


def read_number(kind: type, least: float | None, most: float | None, flag: str, example: Any, given: Any) -> Any:
    """Convert the value of an option to a number between ``least`` and ``most``."""
    wanted = "a whole number" if kind is int else "a number"
    try:
        value = kind(given)
    except ValueError:
        raise _bad_value(f"{flag} {given!r} is not {wanted}", flag, example) from None
    if (least is not None and value < least) or (most is not None and value > most):
        reach = f"of {least:g} or more" if most is None else f"from {least:g} to {most:g}"
        raise _bad_value(f"{flag} {given} is not {wanted} {reach}", flag, example)
    return value


def read_numbers(text: str, flag: str, *, example: str) -> tuple[int, ...]:
    """Read a list of whole numbers, separated by commas; an empty text has none.

    Raises:
        UsageError: a part is not a whole number.
    """
    try:
        return tuple(int(part) for part in text.split(",") if part.strip())
    except ValueError:
        raise UsageError(
            f"{flag} {text!r} is not a list of whole numbers", hint=f"for example {flag} {example}"
        ) from None


def read_choice(known: tuple[str, ...], flag: str, example: Any, given: Any) -> Any:
    """Check that the value of an option is one of several."""
    if given in known:
        return given
    raise _bad_value(f"{flag} {given!r} is not one of {', '.join(known)}", flag, nearest(given, known) or example)


def _bad_value(message: str, flag: str, example: Any) -> UsageError:
    return UsageError(message, hint=f"for example {flag} {example}")


def in_plain_words(error: Any) -> UsageError:
    """Convert an error of typer about the words of a command line."""
    command = error.ctx.command_path if error.ctx else " ".join(["vit", *sys.argv[1:2]])
    listing = f"`{command} --help` says what is possible"
    message = (error.message or error.format_message()).rstrip(".")  # a missing argument has no message of its own
    if found := re.match("Missing argument '(.*)'", message):
        return UsageError(f"{command} needs {found[1]}", hint=listing)
    if found := re.match("No such option: (.*)", message):
        meant = _what_is_meant(found[1], error.ctx.command.params, command.split()[1:], sys.argv[1:])
        return UsageError(f"{command} has no option {found[1]}", hint=meant or listing)
    if found := re.match("No such command '(.*?)'", message):
        meant = _command_that_is_meant(found[1], error.ctx.command.commands, sys.argv[1:])
        return UsageError(f"there is no command {found[1]!r}", hint=meant or listing)
    if found := re.match(r"Got unexpected extra argument\S* \((.*)\)", message):
        return UsageError(f"too many arguments for {command}: {found[1]}", hint=listing)
    if found := re.match("Option '(.*)' requires an argument", message):
        return UsageError(f"{found[1]} needs a value", hint=listing)
    return UsageError(message[:1].lower() + message[1:], hint=listing)


def _command_that_is_meant(wrong: str, known: Mapping[str, Any], typed: Sequence[str]) -> str:
    """Return the hint for an unknown command: the words to type; empty: none is near, in ``known`` or in its groups."""
    inner = {name: list(getattr(each, "commands", ())) for name, each in known.items()}
    groups = [name for name, commands in inner.items() if wrong in commands]
    near = "" if groups else nearest(wrong, known)
    groups = groups or [name for name, commands in inner.items() if not near and nearest(wrong, commands)]
    if not (near or groups):
        return ""
    at = typed.index(wrong)
    after = typed[at + 1 :]
    meant = [groups[0], nearest(wrong, inner[groups[0]])] if groups else [near]
    words = [*typed[:at], *([] if near and after and after[0] in known else meant), *after]
    return f"did you mean `{shlex.join(['vit', *words])}`?"


def _what_is_meant(wrong: str, params: Sequence[Any], path: Sequence[str], words: Sequence[str]) -> str:
    """Return the hint for an unknown option: the command to type, with the option or argument that was probably meant.

    Args:
        wrong: the unknown option.
        params: the options and arguments of the command.
        path: the words of the command, such as ``runs show``.
        words: the words after ``vit``.
    """
    names = sorted((name for each in params for name in (*each.opts, *each.secondary_opts)), reverse=True)
    at = next((at for at, word in enumerate(words) if word.partition("=")[0] == wrong), 0)
    key, *known = (each.strip("-").replace("-", "_") for each in (wrong, *names))
    is_option = any(len(each) > 2 and (each in key or key in each) for each in known)
    if path == ["train"] and not is_option and (setting := setting_called(key)).endswith(f".{key}"):
        return f"did you mean --set {setting}=VALUE?"
    near = nearest(wrong, [*filter(_is_option, names), *names])
    if not near or at < len(path):
        return f"did you mean {near}?" if near else ""
    before, (_, has_value, value) = words[len(path) : at], words[at].partition("=")
    if near.strip("-") in names:  # the argument is given once
        before = [*dropwhile(lambda word: not _is_option(word), before)]
    typed = [f"{near}{has_value}{value}"] if _is_option(near) else [value] * bool(has_value)
    command = shlex.join(["vit", *path, *before, *typed, *words[at + 1 :]])
    return (
        f"did you mean {near}? `{command}`" if _is_option(near) else f"{near} is given without an option: `{command}`"
    )


def _is_option(word: str) -> bool:
    return word.startswith("-")


@contextmanager
def named_as_typed(flags: Mapping[str, str], layers: Sequence[Settings], config: Path | None) -> Iterator[None]:
    """Let errors about settings name the options, or the file, that gave them.

    Args:
        flags: what was typed, by setting: ``{"optim.lr": "--lr", "optim.betas": "--set optim.betas="}``.
        layers: the settings of the file, if there is one, then those of the command line.
        config: the TOML file.
    """
    try:
        yield
    except VitError as error:
        options = {setting: flag for setting, flag in flags.items() if not flag.endswith("=")}
        named = set(re.findall(r"\w+(?:\.\w+)?", error.message))
        if config and named & _names_in(layers[0]) - flags.keys():
            error.message = f"{config}: {error.message}"
        error.message, error.hint = _as_typed(error.message, options), _as_typed(error.hint, flags)
        raise


def _as_typed(text: str, flags: Mapping[str, str]) -> str:
    for setting, flag in flags.items():
        if flag.endswith("="):
            text = re.sub(rf"(?<![\w.]){re.escape(setting)} = ", flag, text)
        else:
            text = re.sub(rf"(?<![\w.]){re.escape(setting)}( =|(?![\w.=]))", flag, text)
    return text


_COMMANDS = re.compile(r"(`[^`]*`|(?<![\w./-])vit [a-z].*)")
"""Commands to type, which stay as they are: in backticks, or to the end of the text."""
_SET = re.compile(r"--set (\w+)\.(\w+)=([^\s,;)]+)")
_FLAG = re.compile(
    r"(?<![\w-])--(?P<no>no-)?(?P<name>[a-z][a-z-]*)"
    r"(?:=(?P<given>[^\s,;)]+)| (?P<value>(?:auto|on|off|skip|cpu|cuda|adamw|sgd|constant)(?=[\s,;:).]|$)"
    r"|[A-Z'][^\s;)]*?|-?[.\d][^\s;)]*?|[^\s,;)-][^\s;)]*?[-./:\d][^\s;)]*?)(?=[.:,?]?(?:[\s;)]|$)))?"
)
"""An option, and its value after =, or the word after it if that looks like a value."""


def in_python(text: str, keywords: Collection[str], flags: Collection[str], options: Mapping[str, str]) -> str:
    """Write the options in a text about a Python function as its keywords: ``--lr 0.1`` as ``lr=0.1``.

    Args:
        text: a message or a hint.
        keywords: the keywords of the function; other options stay as they are.
        flags: those that are True or False.
        options: the option of each setting: ``{"optim.lr": "lr"}``.
    """

    def keyword(found: re.Match[str]) -> str:
        name, value = found["name"].replace("-", "_"), found["given"] or found["value"] or ""
        if name not in keywords:
            return found[0]
        if name in flags:
            return f"{name}={not found['no']}{value and ' ' + value}"
        return f"{name}={_as_python(value)}"

    def plain(part: str) -> str:
        part = _SET.sub(lambda found: f'{{"{found[1]}": {{"{found[2]}": {_as_python(found[3])}}}}}', part)
        part = re.sub(r"(=\S+(?<!,)) (?=\w+=)", r"\1, ", _FLAG.sub(keyword, part))
        for setting, option in options.items():
            if option in keywords:
                part = re.sub(rf"(?<![\w.]){re.escape(setting)}(?![\w.=])", option, part)
        return part

    return "".join(part if at % 2 else plain(part) for at, part in enumerate(_COMMANDS.split(text)))


def _as_python(value: str) -> str:
    """Write a value as Python does; placeholders such as NAME stay as they are."""
    is_plain = re.fullmatch(r"[A-Z][A-Z.,-]*|-?[\d.]+(e-?\d+)?|\[.*\]|'.*'|", value)
    return {"true": "True", "false": "False"}.get(value, value if is_plain else f'"{value}"')


def _names_in(file: Settings) -> set[str]:
    """List the settings of a file as ``SECTION.KEY``, and what stands in place of a section."""
    sections = {each.name for each in fields(TrainConfig)}
    settings = {f"{name}.{key}" for name, table in file.items() if isinstance(table, Mapping) for key in table}
    return settings | {name for name, table in file.items() if name not in sections or not isinstance(table, Mapping)}
