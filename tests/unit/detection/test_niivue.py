"""Where the script of NiiVue comes from: the package, the cache, or once from a registry like npm's."""

from __future__ import annotations

import gzip
import hashlib
import io
import tarfile
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from hub import POLL_SECONDS

from uadcli import doctor
from uadcli.console import Reporter
from uadcli.detection import niivue
from uadcli.errors import WeightsError
from uadcli.report import viewer

SCRIPT = b"globalThis.niivue = {};\n" * 100
QUIET = Reporter(silent=True)


def archive(content: bytes) -> bytes:
    """A package as npm makes it."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as packed:
        for name, body in (("package/package.json", b"{}"), ("package/dist/niivue.umd.js", content)):
            member = tarfile.TarInfo(name)
            member.size = len(body)
            packed.addfile(member, io.BytesIO(body))
    return stream.getvalue()


class Registry:
    """A registry on loopback that answers each request with `body`, or with `status`."""

    def __init__(self) -> None:
        self.body, self.status = archive(SCRIPT), 200
        self.asked: list[str] = []
        registry = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                registry.asked.append(self.path)
                self.send_response(registry.status)
                self.send_header("Content-Length", str(len(registry.body)))
                self.end_headers()
                self.wfile.write(registry.body)

            def log_message(self, *_: object) -> None:
                """Nothing on stderr."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Registry]:
    """A registry with a small script in place of NiiVue, for a package without it."""
    made = Registry()
    threading.Thread(target=made.server.serve_forever, args=(POLL_SECONDS,), daemon=True).start()
    monkeypatch.setenv("NPM_CONFIG_REGISTRY", f"http://127.0.0.1:{made.server.server_port}/")
    with tarfile.open(fileobj=io.BytesIO(made.body)) as packed:
        monkeypatch.setattr(niivue, "START", packed.getmember("package/dist/niivue.umd.js").offset_data)
    monkeypatch.setattr(niivue, "SIZE", len(SCRIPT))
    monkeypatch.setattr(viewer, "SHA256", hashlib.sha256(SCRIPT).hexdigest())
    monkeypatch.setattr(viewer, "FOLDER", tmp_path)
    niivue.script.cache_clear()
    yield made
    made.server.shutdown()
    made.server.server_close()
    niivue.script.cache_clear()


def test_the_package_contains_the_pinned_script_and_its_licence() -> None:
    niivue.script.cache_clear()
    content = gzip.decompress((viewer.FOLDER / viewer.FILE).read_bytes())
    assert (len(content), hashlib.sha256(content).hexdigest()) == (niivue.SIZE, viewer.SHA256)
    assert niivue.script() == content.decode()
    assert "</script" not in niivue.script().lower()
    for part in (f"NiiVue {viewer.VERSION}", "BSD 2-Clause License", "Copyright (c) 2021, Niivue", "fflate", "MIT"):
        assert part in viewer.licence_text()
    row = {"name": "NiiVue", "version": viewer.VERSION, "licence": "BSD-2-Clause"}
    assert row in doctor.licences()


def test_it_is_fetched_once_and_only_for_its_page(registry: Registry) -> None:
    for kind in (None, "grid"):
        niivue.ensure(kind, QUIET)
    assert registry.asked == []
    for _ in range(2):
        niivue.ensure("niivue", QUIET)
        assert niivue.script().encode() == SCRIPT
    assert registry.asked == [f"/@niivue/niivue/-/niivue-{viewer.VERSION}.tgz"]


def test_offline_names_the_command(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(WeightsError, match="uad detect SCAN --html niivue") as caught:
        niivue.ensure("niivue", QUIET)
    assert caught.value.exit_code == 4
    assert registry.asked == []


def test_what_was_damaged_in_the_cache_is_fetched_again(registry: Registry, cache: Path) -> None:
    niivue.ensure("niivue", QUIET)
    (file,) = cache.rglob(viewer.FILE)
    for damage in (b"", gzip.compress(b"alert(1)")):
        file.write_bytes(damage)
        niivue.ensure("niivue", QUIET)
        assert gzip.decompress(file.read_bytes()) == SCRIPT
    assert len(registry.asked) == 3


@pytest.mark.parametrize(
    ("body", "status", "part"),
    [
        (archive(SCRIPT.replace(b"niivue", b"niivui")), 200, "sha256 differs"),
        (archive(SCRIPT[:100]), 200, "sha256 differs"),
        (b"<html>please log in</html>", 200, "cannot be downloaded"),
        (b"", 200, "sha256 differs"),
        (b"", 404, "404"),
    ],
    ids=["another script", "a part of it", "a page", "nothing", "not found"],
)
def test_another_script_is_not_kept(registry: Registry, cache: Path, body: bytes, status: int, part: str) -> None:
    registry.body, registry.status = body, status
    with pytest.raises(WeightsError, match=part):
        niivue.ensure("niivue", QUIET)
    assert not list(cache.rglob(viewer.FILE))


@pytest.mark.parametrize("address", ["http://127.0.0.1:9", "file:///etc/passwd", "127.0.0.1"])
def test_a_registry_that_cannot_be_reached(registry: Registry, monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    monkeypatch.setenv("NPM_CONFIG_REGISTRY", address)
    with pytest.raises(WeightsError, match="NPM_CONFIG_REGISTRY"):
        niivue.ensure("niivue", QUIET)
