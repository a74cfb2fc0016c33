"""Kaggle and its storage on the loopback device: what the real client asks for, and the ways in which they can fail.

Kaggle answers a request with a redirection to a signed address of its storage, which hands out the archive.
"""

import base64
import hashlib
import json
import re
import threading
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Literal
from urllib.parse import parse_qs, urlsplit

PROBE = "bytes=0-0"
"""The range by which a client asks for the address alone."""
_CHUNK = 1 << 14
_METHODS = {
    "competitions.CompetitionApiService/DownloadDataFiles": ("competitionName",),
    "datasets.DatasetApiService/DownloadDataset": ("ownerSlug", "datasetSlug"),
}
_LOGIN = "users.AccountService/GenerateAccessToken"


@dataclass
class Kaggle:
    """What the server has, does and was asked."""

    files: dict[str, bytes]
    """Archives by ``owner/name`` or ``name``."""
    tokens: Collection[str] = ()
    keys: Mapping[str, str] = field(default_factory=dict)
    """Keys by user name."""
    logins: Mapping[str, str] = field(default_factory=dict)
    """Tokens by refresh token."""
    open_to_all: bool = False
    """Whether data sets need no credentials."""
    closed: Collection[str] = ()
    """References that are answered with 403."""
    answers: list[tuple[int, dict[str, str]]] = field(default_factory=list)
    """Status and headers of the next answers of Kaggle, in place of its own."""
    storage_answers: list[tuple[int, dict[str, str]]] = field(default_factory=list)
    """The same for the storage."""
    probe_answers: list[tuple[int, dict[str, str]]] = field(default_factory=list)
    """The same for the storage, asked for a first byte."""
    says: str = ""
    """The message that comes with a refusal."""
    disguised: bool = False
    """Kaggle's refusals come with status 200, and their own inside."""
    silent: Literal["", "kaggle", "storage"] = ""
    """Who takes a request and never answers."""
    cuts: list[int] = field(default_factory=list)
    """Bytes after which the next transfers are cut."""
    stall: bool = False
    """A cut transfer stays connected and says nothing more."""
    delay: float = 0.0
    """Seconds before every 16 KiB."""
    after_cut: dict[str, bytes] = field(default_factory=dict)
    """Archives that take the place of others at the first cut."""
    excess: int = 0
    """Bytes that are announced and not there."""
    expires_at_cut: bool = False
    """A cut makes every address handed out before worthless."""
    knows_if_range: bool = True
    has_etag: bool = True
    port: int = 0
    asked: list[str] = field(default_factory=list)
    """The references that Kaggle was asked for, in order."""
    authorizations: list[str] = field(default_factory=list)
    ranges: list[str] = field(default_factory=list)
    """The ``Range`` headers of the transfers, probes left out."""
    served: int = 0
    """Bytes of archives that were written, probes left out."""
    leaked: list[str] = field(default_factory=list)
    """``Authorization`` headers that the storage saw."""
    issued: int = 0
    expired: int = 0
    over: threading.Event = field(default_factory=threading.Event)

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    kaggle: Kaggle

    def do_POST(self) -> None:
        kaggle = self.kaggle
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        method = urlsplit(self.path).path.removeprefix("/api").removeprefix("/v1/")
        if kaggle.silent == "kaggle":
            self._be_silent()
        elif method == _LOGIN:
            token = kaggle.logins.get(body.get("refreshToken", ""))
            self._json(200, {"token": token, "expiresIn": 3600}) if token else self._refuse(401)
        elif kaggle.answers:
            status, headers = kaggle.answers.pop(0)
            self._refuse(status, **headers)
        elif method in _METHODS:
            self._hand_out("/".join(body[name] for name in _METHODS[method]))
        else:
            self._refuse(404)

    def _hand_out(self, reference: str) -> None:
        kaggle = self.kaggle
        kaggle.asked.append(reference)
        given = self.headers.get("Authorization", "")
        kaggle.authorizations.append(given)
        if not (self._is_known(given) or (kaggle.open_to_all and "/" in reference)):
            self._refuse(401)
        elif reference in kaggle.closed:
            self._refuse(403)
        elif reference not in kaggle.files:
            self._refuse(404)
        else:
            kaggle.issued += 1
            storage = f"http://localhost:{kaggle.port}/storage"  # another host, as that of the real one
            self._headers(302, Location=f"{storage}/{reference}/archive.zip?signature={kaggle.issued}")

    def _is_known(self, given: str) -> bool:
        kind, _, value = given.partition(" ")
        if kind == "Basic":
            username, _, key = base64.b64decode(value).decode().partition(":")
            return self.kaggle.keys.get(username) == key
        return kind == "Bearer" and value in self.kaggle.tokens

    def do_GET(self) -> None:
        kaggle, url = self.kaggle, urlsplit(self.path)
        if given := self.headers.get("Authorization"):
            kaggle.leaked.append(given)
        asked = self.headers.get("Range", "")
        reference = url.path.removeprefix("/storage/").removesuffix("/archive.zip")
        if asked != PROBE and kaggle.silent == "storage":
            self._be_silent()
        elif answers := kaggle.probe_answers if asked == PROBE else kaggle.storage_answers:
            status, headers = answers.pop(0)
            self._headers(status, **headers)
        elif reference not in kaggle.files:
            self._headers(404)
        elif int(parse_qs(url.query)["signature"][0]) <= kaggle.expired:
            self._headers(403)
        else:
            self._send(reference, asked)

    def _send(self, reference: str, asked: str) -> None:
        kaggle = self.kaggle
        content = kaggle.files[reference]
        etag = f'"{hashlib.md5(content, usedforsecurity=False).hexdigest()}"'
        found = re.fullmatch(r"bytes=(\d+)-(\d*)", asked)
        changed = kaggle.knows_if_range and self.headers.get("If-Range", etag) != etag
        start = int(found[1]) if found and not changed else 0
        end = int(found[2]) + 1 if found and found[2] else len(content)
        if asked != PROBE:
            kaggle.ranges.append(asked)
        if start >= len(content):
            self._headers(416, **{"Content-Range": f"bytes */{len(content)}"})
            return
        body = content[start:end]
        total = len(content) + kaggle.excess
        headers = {"Content-Length": str(len(body) + (kaggle.excess if end == len(content) else 0))}
        headers |= {"Accept-Ranges": "bytes", "Content-Type": "application/zip"}
        headers |= {"ETag": etag} if kaggle.has_etag else {}
        if found and not changed:
            headers["Content-Range"] = f"bytes {start}-{end - 1}/{total}"
        self._headers(206 if "Content-Range" in headers else 200, **headers)
        self._write(body, is_probe=asked == PROBE)

    def _write(self, body: bytes, *, is_probe: bool) -> None:
        kaggle = self.kaggle
        self.close_connection = True
        is_cut = bool(kaggle.cuts) and not is_probe
        if is_cut:
            body = body[: kaggle.cuts.pop(0)]
        for begin in range(0, len(body), _CHUNK):
            chunk = body[begin : begin + _CHUNK]
            time.sleep(0 if is_probe else kaggle.delay)
            counted = 0 if is_probe else len(chunk)
            kaggle.served += counted  # before the client has it, and may look
            try:
                self.wfile.write(chunk)
            except ConnectionError:
                kaggle.served -= counted
                return
        if is_cut:
            kaggle.expired = kaggle.issued if kaggle.expires_at_cut else 0
            kaggle.files |= kaggle.after_cut
            if kaggle.stall:
                self._be_silent()

    def _be_silent(self) -> None:
        self.close_connection = True
        self.kaggle.over.wait(30)

    def _refuse(self, status: int, **headers: str) -> None:
        shown = 200 if self.kaggle.disguised else status
        self._json(shown, {"code": status, "message": self.kaggle.says}, **headers)

    def _json(self, status: int, content: object, **headers: str) -> None:
        body = json.dumps(content).encode()
        self._headers(status, **{"Content-Type": "application/json", "Content-Length": str(len(body)), **headers})
        self.wfile.write(body)

    def _headers(self, status: int, **headers: str) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": "0", **headers}.items():
            self.send_header(name, value)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def serving_kaggle(kaggle: Kaggle) -> Iterator[Kaggle]:
    """Serve while the block runs, as a web server and as the proxy of ``http_proxy``."""
    handler = type("Handler", (_Handler,), {"kaggle": kaggle})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        kaggle.port = server.server_address[1]
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield kaggle
        finally:
            kaggle.over.set()
            server.shutdown()
            thread.join()
