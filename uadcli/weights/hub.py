"""Weights on the Hugging Face Hub: downloaded by commit and verified, or published (the only importer of its client).

Endpoint, token, proxies, certificates and timeouts come from the environment variables of `huggingface_hub`.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from uadcli import __version__, streams
from uadcli.console import Reporter
from uadcli.device import offline
from uadcli.errors import UadError, UsageError, WeightsError
from uadcli.weights import cache, registry, transfer
from uadcli.weights.registry import COMMIT, REPO
from uadcli.weights.transfer import Progress, Source

SCHEME = "hf://"
CC_KINDS = ("", "-sa", "-nc", "-nd", "-nc-sa", "-nc-nd")
ONLY_OURS = "Only repositories made by `uad weights push` can be used."
PROXY = "A proxy or firewall may have answered with its own page: check the network and HTTPS_PROXY."
PROXY_LOGIN, SERVER_FAULT = 407, 500  # HTTP status
FORM = "Give hf://owner/repo@commit, with all 40 digits of the commit."


@dataclass(frozen=True)
class Reference:
    """A model on the Hub: a repository and a commit."""

    repo: str
    commit: str

    def __str__(self) -> str:
        return f"{SCHEME}{self.repo}@{self.commit}"

    @property
    def place(self) -> Path:
        """Its folder in the cache."""
        return cache.place(cache.HUB, *self.repo.split("/"), self.commit)


def parse(text: str) -> Reference:
    """The reference `hf://owner/repo@commit`. Raises `UsageError` for a branch or tag, which may move."""
    repo, revision = split(text)
    if not COMMIT.fullmatch(revision or ""):
        pin = f"`uad weights download {text}` prints the commit."
        raise UsageError(f"{text} is not pinned to a commit", hint=f"{FORM} {pin}")
    return Reference(repo, str(revision))


def split(text: str) -> tuple[str, str | None]:
    """Repository and revision (branch, tag or commit, if any) of `hf://owner/repo[@revision]`. Raises `UsageError`."""
    repo, at, revision = text.removeprefix(SCHEME).partition("@")
    if not text.startswith(SCHEME) or not REPO.fullmatch(repo) or (at and not re.fullmatch(r"[\w./-]+", revision)):
        raise UsageError(f"{text!r} does not name a model on the Hub", hint=FORM)
    return repo, revision or None


def pin(text: str) -> Reference:
    """The reference with the current commit of a branch or tag, by default `main`. Raises `WeightsError`."""
    repo, revision = split(text)
    if revision and COMMIT.fullmatch(revision):
        return Reference(repo, revision)
    if offline():
        raise WeightsError(f"{text} is not pinned to a commit and cannot be looked up offline", hint=FORM)
    with _said(text):
        sha = _client().HfApi(endpoint=_endpoint()).model_info(repo, revision=revision or "main").sha
    return Reference(repo, str(sha))


def fetch(reference: Reference, sha256: str | None = None, reporter: Reporter | None = None) -> tuple[Path, str]:
    """The cached weight file of a reference, and its digest; downloaded if missing.

    `sha256` is the digest that the file must have, if known beforehand; otherwise that in the manifest at the commit
    counts. Of several processes at once, only one downloads; one that was interrupted is continued. Raises
    `WeightsError`.
    """
    place, reporter = reference.place, reporter or Reporter(silent=True)
    found = cache.holds(place, sha256)
    if found is None:
        if offline():
            hint = f"With network access: uad weights download {reference}"
            raise WeightsError(f"{reference} is not in the cache, and network use is disabled", hint=hint)
        with cache.filling(place, reporter.info):
            found = cache.holds(place, sha256)  # another process may have been first
            if found is None:
                reporter.info(f"downloading {reference}")
                with reporter.stage("download, MB"):
                    _download(reference, place, sha256, transfer.in_mb(reporter))
                found = registry.read_one(place, "")
    return place / found.file, found.sha256


def _download(reference: Reference, place: Path, sha256: str | None, progress: Progress) -> None:
    """Download manifest, weights and card into the cache, each verified before it is moved to its place."""
    client = _client()
    source = Source(client, reference.repo, reference.commit, _endpoint())
    with _said(str(reference)), cache.partial(place, keep=_can_be_continued) as part:
        manifest = part / registry.FILE
        manifest.unlink(missing_ok=True)
        _check_manifest(reference, manifest, transfer.get(source, registry.FILE, manifest, lambda *_: None))
        entry = registry.read_one(part, "Ask its authors, or choose another commit.")
        if sha256 not in (None, entry.sha256):
            raise WeightsError(f"{reference} has other weights than its registry names", hint="Report this.")
        transfer.get(source, entry.file, part / entry.file, progress)
        if entry.card_sha256:
            transfer.get(source, entry.card, part / entry.card, lambda *_: None)
        try:
            cache.publish(part, entry, place)
        except WeightsError as error:
            hint = "Nothing was kept; download it again."
            raise WeightsError(f"{reference}: {error.what}", hint=hint) from error


def _can_be_continued(error: BaseException) -> bool:
    """Whether a download ended because it was interrupted or the connection was lost: what is there stays valid."""
    from huggingface_hub import errors

    lost = isinstance(error, errors.HTTPError) and transfer.is_connection(error)  # type: ignore[attr-defined]
    return lost or not isinstance(error, Exception)


def _check_manifest(reference: Reference, file: Path, etag: str) -> None:
    """Compare the manifest with the digest that the Hub reports separately from the file.

    The ETag of a small file is its git blob id, that of a large one its sha256.
    """
    content = file.read_bytes()
    blob = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
    if etag not in (blob, hashlib.sha256(content).hexdigest()):
        raise WeightsError(f"{reference}: the manifest does not belong to this commit", hint="Download it again.")


def upload(repo: str, files: Mapping[str, Path | bytes], private: bool, message: str) -> Reference:
    """Commit files to a repository, which is created if necessary; returns the commit.

    Raises `WeightsError`, also if network use is disabled.
    """
    if not REPO.fullmatch(repo):
        raise UsageError(f"{repo!r} is not a repository", hint="Give owner/repo.")
    if offline():
        raise WeightsError(f"{repo} cannot be reached: network use is disabled", hint="Leave --offline out.")
    client = _client()
    with _said(repo):
        api = client.HfApi(endpoint=_endpoint(), library_name="uad", library_version=__version__)
        api.create_repo(repo, private=private or None, exist_ok=True)
        changes = [client.CommitOperationAdd(name, content) for name, content in files.items()]
        done = api.create_commit(repo, changes, commit_message=message)
    return Reference(repo, done.oid)


def front_matter(licence: str) -> str:
    """The YAML front matter of a model card for the Hub; a licence without an id there is `other`."""
    known = {"cc0-1.0", "mit", "apache-2.0", *(f"cc-by{kind}-{v}" for kind in CC_KINDS for v in ("2.0", "3.0", "4.0"))}
    identifier = "-".join(re.sub(r"\(.*?\)", "", licence).lower().split())
    data = _client().ModelCardData(
        license=identifier if identifier in known else "other",
        library_name="uad",
        tags=["anomaly-detection", "brain", "diffusion", "medical", "mri"],
    )
    return f"---\n{data.to_yaml()}\n---\n\n"


def _endpoint() -> str | None:
    return os.environ.get("HF_ENDPOINT")  # read by the client only once, on import


def _client() -> ModuleType:
    """`huggingface_hub`, loaded only when needed, with its own messages, progress bars and telemetry switched off."""
    for quiet in ("HF_HUB_DISABLE_PROGRESS_BARS", "HF_HUB_DISABLE_TELEMETRY"):
        os.environ.setdefault(quiet, "1")
    import huggingface_hub

    if not streams.library_text_shown():
        huggingface_hub.logging.set_verbosity_error()  # otherwise each retry prints a line
    return huggingface_hub


@contextmanager
def _said(what: str) -> Iterator[None]:
    """Translate the errors of the client to one line with a remedy."""
    _client()
    from huggingface_hub import errors

    known = (errors.HTTPError, OSError, ValueError, KeyError, TypeError, AttributeError)  # type: ignore[attr-defined]
    try:
        yield
    except known as error:
        behind = error.__cause__ if isinstance(error, errors.LocalEntryNotFoundError) else None
        raise _in_words(what, behind or error) from error


def _in_words(what: str, error: BaseException) -> UadError:
    """The error for a failure of the client with `what`, with a remedy."""
    from huggingface_hub import errors

    known: tuple[tuple[type[Exception], str, str], ...] = (
        (errors.GatedRepoError, "access must be granted", "Ask for access on its page, and set HF_TOKEN."),
        (
            errors.RepositoryNotFoundError,
            "there is no such repository",
            "Check the name; a private one needs HF_TOKEN.",
        ),
        (errors.RevisionNotFoundError, "there is no such commit", FORM),
        (errors.RemoteEntryNotFoundError, "a file is missing there", ONLY_OURS),
    )
    for kind, fault, hint in known:
        if isinstance(error, kind):
            return WeightsError(f"{what}: {fault}", hint=hint)
    response = getattr(error, "response", None)
    if response is not None:
        return _refused(what, response.status_code, response.headers.get("Content-Type", ""))
    if isinstance(error, errors.FileMetadataError | ValueError | KeyError | TypeError | AttributeError):
        return WeightsError(f"{what}: the answer is not from the Hub", hint=PROXY)
    if isinstance(error, OSError) and error.errno in cache.UNWRITABLE:
        return cache.unwritable(error)
    hint = "Check the network, or use --offline."
    return WeightsError(f"{what}: cannot be reached ({error})", hint=hint)


def _refused(what: str, code: int, content: str) -> WeightsError:
    """The error for an HTTP status other than success."""
    if code == PROXY_LOGIN or (content.startswith("text/html") and code < SERVER_FAULT):
        return WeightsError(f"{what}: the answer, status {code}, is not from the Hub", hint=PROXY)
    hint = "Set HF_TOKEN to a token with permission to do this." if code in (401, 403) else "Try again later."
    return WeightsError(f"{what}: the Hub returned {code}", hint=hint)
