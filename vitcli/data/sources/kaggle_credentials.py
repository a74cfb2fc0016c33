"""Credentials for Kaggle, from the places where Kaggle's own command looks for them; standard library only.

They are passed to Kaggle's client explicitly, because the client itself reads only some of these places.
"""

import json
import os
import shlex
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vitcli.core.errors import DataError
from vitcli.core.events import Emit, Warned, ignore

TOKEN_ADDRESS = "https://www.kaggle.com/settings"  # noqa: S105 - the page where users create a token
_MAKE_ANOTHER = f"make a new one at {TOKEN_ADDRESS}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Credentials:
    """A token, a user name with a key, or a file of ``kaggle auth login``; ``repr`` does not show the secrets."""

    source: str
    """The variable or file that contains the credentials."""
    token: str = field(default="", repr=False)
    username: str = ""
    key: str = field(default="", repr=False)
    login_file: Path | None = None
    """The file written by ``kaggle auth login``; its token may have to be requested from Kaggle."""


def find_credentials(emit: Emit = ignore) -> Credentials | None:
    """Return the first credentials that are found, or None.

    Args:
        emit: receives a warning about files that other users can read.

    Raises:
        DataError: the first credentials found cannot be used; the message names their place and shows no secret.
    """
    return (
        _notebook_token()
        or _token_of_environment()
        or _token_file(emit)
        or _key_of_environment()
        or _key_file(_config_files(), emit)
        or _login_file(emit)
        or _key_file([Path("kaggle.json")], emit)
    )


def _notebook_token() -> Credentials | None:
    """Read the token of a notebook on Kaggle; it works only with the proxy of such a notebook."""
    inside = "KAGGLE_KERNEL_RUN_TYPE" in os.environ and "KAGGLE_DATA_PROXY_URL" in os.environ
    path = Path(os.environ.get("KAGGLE_API_V1_TOKEN", ""))
    if not inside or not path.is_file():
        return None
    return _token(_text_of(path), "$KAGGLE_API_V1_TOKEN")


def _token_of_environment() -> Credentials | None:
    value = os.environ.get("KAGGLE_API_TOKEN", "").strip()
    if not value:
        return None
    return _token(_text_of(Path(value)) if _is_file(value) else value, "$KAGGLE_API_TOKEN")


def _token_file(emit: Emit) -> Credentials | None:
    for name in ("access_token", "access_token.txt"):  # editors on Windows add the suffix
        path = _home() / name
        if path.is_file():
            return _token(_secret_of(path, emit), str(path))
    return None


def _key_of_environment() -> Credentials | None:
    username, key = os.environ.get("KAGGLE_USERNAME", ""), os.environ.get("KAGGLE_KEY", "")
    if not (username and key):
        return None
    return _with_key(username, key, "$KAGGLE_USERNAME and $KAGGLE_KEY")


def half_of_a_key() -> str:
    """Name the variable that is missing if only one of $KAGGLE_USERNAME and $KAGGLE_KEY is set; else return nothing."""
    names = ("KAGGLE_USERNAME", "KAGGLE_KEY")
    missing = [name for name in names if not os.environ.get(name)]
    return f": ${missing[0]} is not set" if len(missing) == 1 else ""


def _config_files() -> Iterator[Path]:
    if chosen := os.environ.get("KAGGLE_CONFIG_DIR"):
        yield Path(chosen) / "kaggle.json"
        return
    yield _home() / "kaggle.json"
    yield Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "kaggle" / "kaggle.json"


def _key_file(paths: Iterator[Path] | list[Path], emit: Emit) -> Credentials | None:
    path = next((path for path in paths if path.is_file()), None)
    if path is None:
        return None
    content = _json_of(path, emit)
    values = []
    for name in ("username", "key"):
        value = os.environ.get(f"KAGGLE_{name.upper()}") or content.get(name)  # either one may come from a variable
        if not (isinstance(value, str) and value):
            raise DataError(f'{path} has no "{name}"', hint=_MAKE_ANOTHER)
        values.append(value)
    return _with_key(values[0], values[1], str(path))


def _login_file(emit: Emit) -> Credentials | None:
    path = _home() / "credentials.json"
    if not path.is_file():
        return None
    if not _json_of(path, emit).get("refresh_token"):
        raise DataError(f'{path} has no "refresh_token"', hint="`kaggle auth login` writes a new one")
    return Credentials(source=str(path), login_file=path)


def _json_of(path: Path, emit: Emit) -> dict[str, Any]:
    try:
        content = json.loads(_secret_of(path, emit))
    except ValueError:  # its message is not passed on, because it may quote secrets
        raise DataError(f"{path} is not JSON", hint=_MAKE_ANOTHER) from None
    if not isinstance(content, dict):
        raise DataError(f'{path} is not a JSON object with "username" and "key"', hint=_MAKE_ANOTHER)
    return content


def _token(value: str, source: str) -> Credentials:
    token = value.strip()
    _check(token, source)
    return Credentials(source=source, token=token)


def _with_key(username: str, key: str, source: str) -> Credentials:
    _check(username, source)
    _check(key, source)
    return Credentials(source=source, username=username, key=key)


def _check(secret: str, source: str) -> None:
    """Refuse a secret that an HTTP header cannot hold, because the library would quote it in its error."""
    if not secret or not secret.isascii() or not secret.isprintable() or " " in secret:
        what = "is empty" if not secret else "contains a space, a line break or a character that no token has"
        raise DataError(f"the Kaggle token of {source} {what}", hint=_MAKE_ANOTHER)


def _secret_of(path: Path, emit: Emit) -> str:
    """Read a file that other users should not be able to read, and warn if they can."""
    if os.name == "posix" and path.stat().st_mode & (stat.S_IRGRP | stat.S_IROTH):
        emit(Warned(text=f"{path} can be read by others; `chmod 600 {shlex.quote(str(path))}` changes that"))
    return _text_of(path)


def _text_of(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}", hint="fix that, or set KAGGLE_API_TOKEN") from None
    except UnicodeDecodeError:
        raise DataError(f"{path} is not text", hint=_MAKE_ANOTHER) from None


def _is_file(value: str) -> bool:
    """Tell whether a value is the path of a file with a token; most tokens are too long to be a path."""
    try:
        return Path(value).is_file()
    except OSError:
        return False


def _home() -> Path:
    return Path.home() / ".kaggle"
