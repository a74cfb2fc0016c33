"""Web addresses for messages: without passwords and signatures, and why one cannot be reached."""

import re
import socket
import ssl
from base64 import b64encode
from typing import Any
from urllib.parse import quote, unquote, urlsplit, urlunsplit

_SIGNS = r"x-.*|sig|signature|s[eiprtv]|sk(oid|tid|[tesv])|expires|policy|key-pair-id|awsaccesskeyid|googleaccessid|.*token|auth"
"""Names of parameters that sign an address for a while, so that they change though the file is the same."""
_SIGNATURE, _SECRET = (
    re.compile(names, re.IGNORECASE) for names in (_SIGNS, rf"{_SIGNS}|.*key|.*secret|.*password|pwd")
)
_ADDRESS = re.compile(r"(?P<scheme>https?://)(?:[^/\s@?#]*@)?(?P<rest>[^\s?#]*)(?:\?[^\s#]*)?")


def without_secrets(value: Any) -> Any:
    """Remove user names, passwords and queries from the web addresses in a text, or in all texts of a JSON value."""
    if isinstance(value, str):
        return _ADDRESS.sub(r"\g<scheme>\g<rest>", value) if "://" in value else value
    if isinstance(value, dict):
        return {name: without_secrets(item) for name, item in value.items()}
    return [without_secrets(item) for item in value] if isinstance(value, list | tuple) else value


def without_signature(address: str) -> str:
    """Remove user, password and temporary signature from a web address: what is left names the file, and is not shown."""
    return _without(_SIGNATURE, address)


def shown_address(address: str) -> str:
    """Remove user, password and all parameters that may be secret from a web address; any other text stays as it is."""
    return _without(_SECRET, address)


def _without(names: re.Pattern[str], address: str) -> str:
    """Remove user, password and the parameters with these names."""
    plain = str(without_secrets(address))
    asked = address.partition("#")[0].partition("?")[2].split("&") if _ADDRESS.match(address) else []
    kept = [each for each in asked if each and not names.fullmatch(each.partition("=")[0])]
    return f"{plain}?{'&'.join(kept)}" if kept else plain


def encoded(address: str) -> str:
    """Encode the spaces and the letters of a web address that HTTP does not allow, as browsers do.

    Raises:
        ValueError: the address is malformed.
    """
    parts = urlsplit(address)
    host = parts.netloc if parts.netloc.isascii() else parts.netloc.encode("idna").decode()
    path, query = (quote(part, safe="%/:;=?@&+$,!'()*~[]") for part in (parts.path, parts.query))
    return urlunsplit(parts._replace(netloc=host, path=path, query=query))


def separate_login(address: str) -> tuple[str, str]:
    """Return an address without its user and password, and what the header ``Authorization`` says of them, or nothing."""
    parts = urlsplit(address)
    login, at, host = parts.netloc.rpartition("@")
    if not at:
        return address, ""
    words = b64encode(unquote(login if ":" in login else f"{login}:").encode()).decode()
    return urlunsplit(parts._replace(netloc=host)), f"Basic {words}"


CHECK = "check the connection"
CHECK_CONNECTION = f"{CHECK}, then run the same command again; what has arrived is kept"
"""The hint for an address that cannot be reached."""
_REASONS: tuple[tuple[type[BaseException], str], ...] = (
    (socket.gaierror, "the name is not known, or there is no network"),
    (ConnectionRefusedError, "the connection was refused"),
    (TimeoutError, "timed out"),
    (ssl.SSLCertVerificationError, "its certificate is not trusted"),
    (ConnectionError, "the connection broke off"),
)


def unreachable(address: str, error: BaseException) -> str:
    """Say that a host cannot be reached, and why, in plain words.

    Args:
        address: a web address, or the name of a site.
        error: the error of any library; the cause in it decides what is said.
    """
    innermost, reason = error, ""
    for _ in range(20):  # libraries wrap errors in errors, sometimes in a circle
        if reason := next((words for kind, words in _REASONS if isinstance(innermost, kind)), ""):
            break  # its context is another, earlier error
        inner = getattr(innermost, "reason", None), innermost.__cause__, innermost.__context__
        innermost = next((each for each in inner if isinstance(each, BaseException)), innermost)
    if not reason:
        is_slow = "timeout" in type(error).__name__.lower()
        reason = "timed out" if is_slow else getattr(innermost, "strerror", None) or str(innermost).partition("\n")[0]
    return f"could not reach {urlsplit(address).hostname or address} ({reason or type(innermost).__name__})"
