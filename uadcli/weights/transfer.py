"""Downloads: a file of the Hub, continued where an earlier attempt stopped; or a small one from elsewhere, at once."""

from __future__ import annotations

import http.client
import time
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from uadcli import __version__
from uadcli.console import Reporter
from uadcli.errors import WeightsError

Progress = Callable[[int, int], None]
ATTEMPTS = 5
PARTIAL_CONTENT = 206  # HTTP status
CHUNK, SECONDS, MB = 2**18, 60, 10**6
UNREACHED = (OSError, http.client.HTTPException, ValueError)  # what `whole` may raise


def in_mb(reporter: Reporter) -> Progress:
    """Reports the bytes done and in all, as MB."""
    return lambda done, size: reporter.progress(round(done / MB), round(size / MB))


def whole(url: str, progress: Progress) -> bytes:
    """The bytes at an http or https address. Raises one of `UNREACHED`."""
    if not url.startswith(("http://", "https://")):
        raise ValueError("the address must start with http:// or https://")
    content = b""
    with urllib.request.urlopen(url, timeout=SECONDS) as response:
        size = int(response.headers.get("Content-Length") or 0)
        while part := response.read(CHUNK):
            content += part
            progress(len(content), size)
    return content


@dataclass(frozen=True)
class Source:
    """A file of a repository at a commit, and the client to get it with."""

    client: ModuleType
    repo: str
    commit: str
    endpoint: str | None

    def url(self, name: str) -> str:
        """The address of a file."""
        return str(self.client.hf_hub_url(self.repo, name, revision=self.commit, endpoint=self.endpoint))

    def headers(self) -> dict[str, str]:
        """Token and name of this program. The length of a compressed body would not be that of the file."""
        made = self.client.utils.build_hf_headers(library_name="uad", library_version=__version__)
        return {**made, "Accept-Encoding": "identity"}


def get(source: Source, name: str, target: Path, progress: Progress) -> str:
    """Download a file to `target`, whose content is continued; returns the digest that the Hub reports for it.

    The digest (ETag) of a small file is its git blob id, that of a large one its sha256. `progress` gets the bytes done
    and in all. Raises `WeightsError` for the file of another commit, and the errors of the client.
    """
    url, errors = source.url(name), source.client.errors
    told = source.client.get_hf_file_metadata(url, headers=source.headers(), endpoint=source.endpoint)
    if told.commit_hash is None or told.etag is None or told.size is None:
        raise errors.FileMetadataError("the answer does not describe a file")
    if told.commit_hash != source.commit:
        raise WeightsError(f"{name} does not belong to this commit", hint="Download it again.")
    for left in reversed(range(ATTEMPTS)):
        try:
            _continue(source, url, target, told.size, progress)
            break
        except errors.HTTPError as error:
            if not left or not is_connection(error):
                raise
            time.sleep(1)
    return str(told.etag)


def is_connection(error: BaseException) -> bool:
    """Whether an error of the client is a lost connection, rather than the answer of a server."""
    return getattr(error, "response", None) is None


def _continue(source: Source, url: str, target: Path, size: int, progress: Progress) -> None:
    """Append to a file what is missing at its end."""
    done = target.stat().st_size if target.exists() else 0
    if done == size > 0:
        return
    headers = source.headers() | ({"Range": f"bytes={done}-"} if 0 < done < size else {})
    utils, timeout = source.client.utils, source.client.constants.HF_HUB_DOWNLOAD_TIMEOUT
    with utils.http_stream_backoff("GET", url, headers=headers, timeout=timeout, retry_on_exceptions=()) as response:
        utils.hf_raise_for_status(response)
        continued = response.status_code == PARTIAL_CONTENT  # otherwise the server sends all of it
        done = done if continued else 0
        with target.open("ab" if continued else "wb") as stream:
            for chunk in response.iter_bytes():
                stream.write(chunk)
                stream.flush()
                done += len(chunk)
                progress(done, size)
