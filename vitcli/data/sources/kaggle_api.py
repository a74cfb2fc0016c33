"""Requests to Kaggle for the storage address of a data set, through Kaggle's own client.

``import kaggle`` signs in, prints, and may end the process; kagglesdk, the client that it uses, does not.
"""

import json
import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import FORBIDDEN, NOT_FOUND, UNAUTHORIZED
from typing import Any

from vitcli.core.addresses import CHECK_CONNECTION, unreachable
from vitcli.core.errors import DataError
from vitcli.core.fetch import BUSY, seconds_to_wait
from vitcli.core.version import __version__
from vitcli.data.sources.kaggle_credentials import TOKEN_ADDRESS, Credentials, half_of_a_key
from vitcli.data.sources.kaggle_reference import WEBSITE, KaggleReference

_TIMEOUT = 20.0
"""Seconds without an answer before a request fails."""
_ATTEMPTS = 5
"""The most requests in a row that Kaggle may answer with "busy"."""
_LONGEST_QUOTE = 200


def storage_address(reference: KaggleReference, credentials: Credentials | None) -> str:
    """Ask Kaggle for the signed address of an archive; the address expires after a while.

    Args:
        reference: a data set or a competition.
        credentials: the user's credentials; None: ask without any, which is enough for most data sets.

    Raises:
        DataError: Kaggle refuses the request, does not know the name, does not answer, or cannot be reached.
    """
    import requests

    for failures in range(1, _ATTEMPTS + 1):
        try:
            return _ask(reference, credentials)
        except requests.exceptions.HTTPError as error:
            status = _status(error)
            if status not in BUSY or failures == _ATTEMPTS:
                raise _refusal(reference, credentials, status, _quote(error, credentials)) from None
            time.sleep(seconds_to_wait(failures, _retry_after(error)))
        except requests.exceptions.RequestException as error:
            raise DataError(f"{unreachable('Kaggle', error)} for {reference}", hint=CHECK_CONNECTION) from None
    raise AssertionError


def no_credentials(reference: KaggleReference) -> DataError:
    """Build the error for a request that needs credentials when there are none."""
    steps = [f"make a token at {TOKEN_ADDRESS}", "save it as ~/.kaggle/access_token"]
    steps += [f"accept the rules at {reference.page}/rules"] if reference.is_competition else []
    return DataError(
        f"Kaggle asks for a token for {reference}, and this machine has none{half_of_a_key()}",
        hint="\n      ".join(f"{number}. {step}" for number, step in enumerate(steps, 1)),
    )


def _ask(reference: KaggleReference, credentials: Credentials | None) -> str:
    import requests
    from kagglesdk.competitions.types.competition_api_service import ApiDownloadDataFilesRequest
    from kagglesdk.datasets.types.dataset_api_service import ApiDownloadDatasetRequest

    with _client(credentials) as client:
        try:
            if reference.is_competition:
                competition = ApiDownloadDataFilesRequest()
                competition.competition_name = reference.name
                response = client.competitions.competition_api_client.download_data_files(competition)
            else:
                dataset = ApiDownloadDatasetRequest()
                dataset.owner_slug, dataset.dataset_slug = reference.owner, reference.name
                response = client.datasets.dataset_api_client.download_dataset(dataset)
        except requests.exceptions.HTTPError as error:
            if error.response is None or not error.response.history:
                raise
            return str(error.response.url)  # the storage refuses: the transfer will get the same answer and retry
        response.close()
        if not response.history or "text/html" in response.headers.get("Content-Type", ""):
            raise DataError(f"Kaggle sends no archive for {reference}", hint=f"look at {reference.page}")
        return str(response.url)


@contextmanager
def _client(credentials: Credentials | None) -> Iterator[Any]:
    """Open Kaggle's client, signed in; each of its requests has a time-out."""
    from kagglesdk import KaggleClient

    logging.getLogger("kagglesdk").setLevel(logging.ERROR)  # it logs remarks about the environment
    given: dict[str, str] = {}
    if credentials and credentials.login_file:
        given = {"api_token": _login_token(credentials)}
    elif credentials:
        given = {"api_token": credentials.token} if credentials.token else {}
        given |= {"username": credentials.username, "password": credentials.key} if credentials.key else {}
    with KaggleClient(user_agent=f"vitcli/{__version__}", **given) as client:
        _limit(client)
        yield client


def _limit(client: Any) -> None:
    """Set a time-out for the requests of a client, and let it fetch only the first byte of a file."""
    from requests import PreparedRequest, Response
    from requests.adapters import HTTPAdapter

    class Limited(HTTPAdapter):
        """An HTTP adapter with a time-out, which asks for only the first byte of a file.

        A request for JSON is a POST; a GET is the redirection to the storage, of which only the address is needed.
        """

        def send(self, request: PreparedRequest, **options: Any) -> Response:  # type: ignore[override]
            if request.method == "GET":
                request.headers["Range"] = "bytes=0-0"
            return super().send(request, **{**options, "timeout": _TIMEOUT})

    session = client.http_client()._session  # noqa: SLF001 - it offers no other way to set a time-out
    for scheme in ("http://", "https://"):
        session.mount(scheme, Limited())


def _login_token(credentials: Credentials) -> str:
    """Return the token of ``kaggle auth login``, or a new one if it has expired."""
    import requests
    from kagglesdk import KaggleClient, KaggleCredentials

    with KaggleClient(user_agent=f"vitcli/{__version__}") as client:
        _limit(client)
        try:
            token = KaggleCredentials.load(client, str(credentials.login_file)).get_access_token()
        except requests.exceptions.RequestException:  # some of these are also a ValueError
            raise
        except (AttributeError, TypeError, ValueError):
            raise DataError(
                f"{credentials.source} is not a file of `kaggle auth login`", hint="type `kaggle auth login` again"
            ) from None
    return str(token)


def _refusal(reference: KaggleReference, credentials: Credentials | None, status: int, quote: str) -> DataError:
    """Build the error that says why Kaggle refuses a request, and what the user can do about it."""
    if credentials is None and status in {UNAUTHORIZED, FORBIDDEN}:
        return no_credentials(reference)
    what = (
        f"competition {reference.name!r}"
        if reference.is_competition
        else f"data set '{reference.owner}/{reference.name}'"
    )
    if status == UNAUTHORIZED and credentials:
        has_login = bool(credentials.login_file)
        return DataError(
            f"Kaggle refuses the credentials of {credentials.source}{quote}",
            hint="type `kaggle auth login` again" if has_login else f"make a new token at {TOKEN_ADDRESS}",
        )
    if status == FORBIDDEN and reference.is_competition:
        return DataError(
            f"Kaggle wants the rules of the {what} to be accepted first{quote}",
            hint=f"accept them at {reference.page}/rules, then try again",
        )
    if status == FORBIDDEN and credentials:
        return DataError(
            f"Kaggle denies the {what} to the credentials of {credentials.source}: it is private, or asks for consent{quote}",
            hint=f"look at {reference.page}, then try again",
        )
    if status == NOT_FOUND:
        other = "kaggle:OWNER/NAME is a data set" if reference.is_competition else "kaggle:NAME is a competition"
        return DataError(f"Kaggle has no {what}{quote}", hint=f"check the name at {WEBSITE}; {other}")
    return DataError(f"Kaggle answered {status} when asked for {reference}{quote}", hint="try again later")


def _status(error: Any) -> int:
    """Return the HTTP status of an answer; if it is a success, the status in the body, if there is one."""
    status = int(error.response.status_code)
    within = _body(error).get("code")
    return within if status < 400 and isinstance(within, int) else status


def _retry_after(error: Any) -> str:
    return str(error.response.headers.get("Retry-After", ""))


def _quote(error: Any, credentials: Credentials | None) -> str:
    """Quote the message in Kaggle's answer, printable and without secrets; empty if there is none."""
    text = str(_body(error).get("message", ""))
    for secret in (credentials.token, credentials.key) if credentials else ():
        text = text.replace(secret, "***") if secret else text
    words = "".join(letter for letter in " ".join(text.split()) if letter.isprintable())
    return f' ("{words[:_LONGEST_QUOTE]}")' if words else ""


def _body(error: Any) -> dict[str, Any]:
    try:
        content = json.loads(error.response.text)
    except ValueError:
        return {}
    return content if isinstance(content, dict) else {}
