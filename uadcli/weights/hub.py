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

from uadcli import __version__
from uadcli.device import offline
from uadcli.errors import UsageError, WeightsError
from uadcli.weights import cache, registry
from uadcli.weights.cache import Tell
from uadcli.weights.registry import COMMIT, REPO

SCHEME = "hf://"
CC_KINDS = ("", "-sa", "-nc", "-nd", "-nc-sa", "-nc-nd")
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


def fetch(reference: Reference, sha256: str | None = None, tell: Tell | None = None) -> tuple[Path, str]:
    """The cached weight file of a reference, and its digest; downloaded if missing.

    `sha256` is the digest that the file must have, if known beforehand; otherwise that in the manifest at the commit
    counts. Of several processes at once, only one downloads. Raises `WeightsError`.
    """
    place = reference.place
    found = cache.holds(place, sha256)
    if found is None:
        if offline():
            hint = f"With network access: uad weights download {reference}"
            raise WeightsError(f"{reference} is not in the cache, and network use is disabled", hint=hint)
        with cache.filling(place, tell):
            found = cache.holds(place, sha256)  # another process may have been first
            if found is None:
                if tell:
                    tell(f"downloading {reference}")
                _download(reference, place, sha256)
                found = registry.read_one(place, "")
    return place / found.file, found.sha256


def _download(reference: Reference, place: Path, sha256: str | None) -> None:
    """Download manifest, weights and card into the cache, each verified before it is moved to its place."""
    with _said(str(reference)), cache.scratch(place) as part:
        _get(reference, registry.FILE, part)
        _check_manifest(reference, part / registry.FILE)
        entry = registry.read_one(part, "Ask its authors, or choose another commit.")
        if sha256 not in (None, entry.sha256):
            raise WeightsError(f"{reference} has other weights than its registry names", hint="Report this.")
        _get(reference, entry.file, part)
        if entry.card_sha256:
            _get(reference, entry.card, part)
        try:
            cache.publish(part, entry, place)
        except WeightsError as error:
            hint = "Nothing was kept; download it again."
            raise WeightsError(f"{reference}: {error.what}", hint=hint) from error


def _get(reference: Reference, name: str, part: Path) -> None:
    _client().hf_hub_download(
        reference.repo,
        name,
        revision=reference.commit,
        local_dir=part,
        cache_dir=part,
        endpoint=_endpoint(),
        library_name="uad",
        library_version=__version__,
    )


def _check_manifest(reference: Reference, file: Path) -> None:
    """Compare the manifest with the digest that the Hub reports separately from the file.

    The ETag of a small file is its git blob id, that of a large one its sha256.
    """
    client = _client()
    url = client.hf_hub_url(reference.repo, registry.FILE, revision=reference.commit, endpoint=_endpoint())
    told = client.get_hf_file_metadata(url, endpoint=_endpoint())
    content = file.read_bytes()
    blob = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
    if told.etag not in (blob, hashlib.sha256(content).hexdigest()) or told.commit_hash != reference.commit:
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

    return huggingface_hub


@contextmanager
def _said(what: str) -> Iterator[None]:
    """Translate the errors of the client to one line with a remedy."""
    _client()
    from huggingface_hub import errors

    try:
        yield
    except errors.GatedRepoError as error:
        hint = "Ask for access on its page, and set HF_TOKEN."
        raise WeightsError(f"{what}: access must be granted", hint=hint) from error
    except errors.RepositoryNotFoundError as error:
        hint = "Check the name; a private one needs HF_TOKEN."
        raise WeightsError(f"{what}: there is no such repository", hint=hint) from error
    except errors.RevisionNotFoundError as error:
        raise WeightsError(f"{what}: there is no such commit", hint=FORM) from error
    except errors.RemoteEntryNotFoundError as error:
        hint = "Only repositories made by `uad weights push` can be used."
        raise WeightsError(f"{what}: a file is missing there", hint=hint) from error
    except errors.HfHubHTTPError as error:
        code = error.response.status_code
        hint = "Set HF_TOKEN to a token with permission to do this." if code in (401, 403) else "Try again later."
        raise WeightsError(f"{what}: the Hub returned {code}", hint=hint) from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        hint = "A proxy may have answered with its own page."
        raise WeightsError(f"{what}: the answer is not from the Hub", hint=hint) from error
    except (errors.HTTPError, errors.LocalEntryNotFoundError, OSError) as error:  # type: ignore[attr-defined]
        cause = error.__cause__ or error
        hint = "Check the network and the space in the cache, or use --offline."
        raise WeightsError(f"{what}: cannot be reached or stored ({cause})", hint=hint) from error
