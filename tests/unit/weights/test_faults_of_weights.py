"""Proxies that answer in place of the Hub, caches that are full or read-only: the right code, and nothing kept."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

import pytest
from hub import Hub

from uadcli.cli.app import main
from uadcli.weights import cache as caches
from uadcli.weights import registry, transfer, weights


def kept(cache: Path) -> list[str]:
    return [path.name for path in cache.rglob("*") if path.is_file() and path.name != caches.LOCK]


@pytest.mark.parametrize("status", [200, 302, 403, 407])
@pytest.mark.parametrize("end", ["", registry.FILE, ".safetensors", ".md"])
def test_a_page_of_html_instead_of_the_hubs_answer(
    status: int, end: str, published: str, hub: Hub, cache: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    hub.proxy, hub.proxied = status, end
    assert main(["--quiet", "weights", "download", published]) == 4
    (line,) = capfd.readouterr().err.splitlines()
    assert "is not from the Hub. A proxy or firewall may have answered" in line or "HF_TOKEN" in line
    assert "http" not in line.replace("HTTPS_PROXY", "")
    assert not kept(cache)


@pytest.mark.parametrize(("status", "words"), [(200, "A proxy or firewall"), (403, "A proxy"), (502, "returned 502")])
def test_a_page_of_html_where_a_branch_is_looked_up(
    status: int, words: str, published: str, hub: Hub, capfd: pytest.CaptureFixture[str]
) -> None:
    hub.proxy = status
    assert main(["--quiet", "weights", "download", published.split("@")[0]]) == 4
    (line,) = capfd.readouterr().err.splitlines()
    assert words in line


def test_a_page_of_html_that_passes_for_a_file(published: str, hub: Hub, cache: Path) -> None:
    for files in hub.commits["lab/tiny"].values():
        files["tiny 1.safetensors"] = b"<!DOCTYPE html><html>log in</html>"
    assert main(["--quiet", "weights", "download", published]) == 4
    assert not kept(cache)


def no_space(*_: object, **__: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


FULL = {
    "weights": (shutil, "copyfile"),
    "registry": (Path, "write_bytes"),
    "moving": (os, "fsync"),
    "lock": (os, "open"),
    "folder": (os, "mkdir"),
}


@pytest.mark.parametrize("where", FULL)
def test_a_full_cache_on_import(
    where: str, exported: Path, cache: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(*FULL[where], no_space)
        assert main(["weights", "import", str(exported)]) == 6
    assert "No space left on device" in capsys.readouterr().err
    assert not kept(cache)
    assert main(["weights", "import", str(exported)]) == 0


def test_a_full_cache_on_download(
    published: str, cache: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", no_space)
        assert main(["weights", "download", published]) == 6
    assert "the cache cannot be written: No space left on device" in capsys.readouterr().err
    assert not kept(cache)
    assert main(["weights", "download", published]) == 0


def test_a_full_cache_while_a_file_comes_from_the_hub(
    published: str, cache: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(transfer, "_continue", no_space)
        assert main(["weights", "download", published]) == 6
    assert "the cache cannot be written: No space left on device" in capsys.readouterr().err
    assert not kept(cache)


def test_a_cache_that_may_not_be_written_serves_what_is_in_it(
    exported: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(["weights", "import", str(exported)]) == 0

    def refused(*_: object, **__: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    for name in ("mkdir", "replace", "unlink", "rename"):
        monkeypatch.setattr(os, name, refused)
    assert weights.load(*weights.find("tiny 1")).card.name == "tiny 1"


def test_a_cache_in_which_another_process_works(exported: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it removes between listing and looking at it is no error."""
    assert main(["--quiet", "weights", "import", str(exported)]) == 0
    listed = [*(cache / "weights" / "tiny 1").iterdir(), cache / "weights" / "tiny 1" / f"{caches.SCRATCH}1"]
    monkeypatch.setattr(Path, "iterdir", lambda _: iter(listed))
    (model,) = caches.models()
    assert (model.fault, model.entry and model.entry.name) == (None, "tiny 1")


def test_a_cached_model_whose_folder_cannot_be_listed_has_that_fault(
    exported: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--quiet", "weights", "import", str(exported)]) == 0
    capsys.readouterr()

    def denied(_: Path) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "iterdir", denied)
    assert main(["weights", "list"]) == 0
    assert "cannot be read: Permission denied" in capsys.readouterr().out
