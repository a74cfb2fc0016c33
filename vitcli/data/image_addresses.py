"""Images from web addresses, fetched into a folder for as long as they are needed."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

from vitcli.core.addresses import without_secrets
from vitcli.core.errors import DataError
from vitcli.core.events import Emit, TaskProgress
from vitcli.core.fetch import fetch_file
from vitcli.data.decoding import read_header
from vitcli.data.sources.image_search import IMAGE_SUFFIXES

_MOST_BYTES = 100 * 10**6
"""The largest image that is fetched."""
_AT_ONCE = 8
"""Number of images that are fetched at the same time."""


def fetch_images(addresses: Sequence[str], folder: Path, emit: Emit) -> list[Path | DataError]:
    """Fetch images; one that cannot be fetched, is too large, or is not an image gets an error instead of a file.

    Args:
        addresses: web addresses.
        folder: the folder for the files.
        emit: receives the progress.
    """
    found: list[Path | DataError] = []

    def fetched(at: int) -> Path | DataError:
        path = folder / str(at)
        try:
            suffix = PurePosixPath(urlsplit(addresses[at]).path).suffix.lower()
            path = path.with_suffix(suffix if suffix in IMAGE_SUFFIXES else "")
            fetch_file(addresses[at], path, most=_MOST_BYTES)
            read_header(path)
        except DataError as error:
            return DataError(error.message.replace(str(path), without_secrets(addresses[at])))
        except ValueError as error:  # urllib's word for an address that is malformed
            return DataError(f"{without_secrets(addresses[at])} is not a web address: {error}")
        return path

    with ThreadPoolExecutor(_AT_ONCE) as pool:
        for done, each in enumerate(pool.map(fetched, range(len(addresses)))):
            emit(TaskProgress(task="fetching images", done=done, total=len(addresses)))
            found.append(each)
    emit(TaskProgress(task="fetching images", done=len(found), total=len(addresses)))
    return found
