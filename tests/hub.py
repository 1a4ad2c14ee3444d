"""A small Hub on loopback: repositories in memory, the routes that `huggingface_hub` asks for, and faults on demand."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

LARGE = ".safetensors"
PAGE = b"<!DOCTYPE html><html><body>The network of the hospital: please log in.</body></html>"
PROXY_HEADERS = {"Server": "proxy", "Via": "1.1 proxy"}
NAME = r"([^/]+/[^/]+)"
POLL_SECONDS = 0.01  # how soon a server ends after it is told to; half a second if not given


class Hub:
    """`commits[repo]` maps each commit to its files; the last one is `main`. `requests` holds (method, path) pairs,
    `starts` the name of each file asked for and its first byte.

    `spoiled` names files whose bodies come with one byte changed; bodies of `stalled` stop in the middle until
    `resume` is set, and `half_sent` says that one did. The connection of `cut` files is closed once
    in the middle. Without `ranges`, whole files are sent whatever is asked for. With `token`, whoever writes must show
    it. With
    `proxy`, a status, each request whose path ends with `proxied` is answered by a page of HTML.
    """

    def __init__(self, token: str | None = None) -> None:
        self.commits: dict[str, dict[str, dict[str, bytes]]] = {}
        self.uploads: dict[str, bytes] = {}
        self.requests: list[tuple[str, str]] = []
        self.starts: list[tuple[str, int]] = []
        self.private: set[str] = set()
        self.spoiled: set[str] = set()
        self.stalled: set[str] = set()
        self.cut: set[str] = set()
        self.ranges = True
        self.half_sent, self.resume = threading.Event(), threading.Event()
        self.token = token
        self.proxy: int | None = None
        self.proxied = ""
        self._lock = threading.Lock()
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (_Handler,), {"hub": self}))
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def add(self, repo: str, files: dict[str, bytes]) -> str:
        """A new commit on top of the last one; returns its id."""
        with self._lock:
            commits = self.commits.setdefault(repo, {})
            content = {**(list(commits.values())[-1] if commits else {}), **files}
            text = repr((repo, len(commits), sorted((name, git_id(body)) for name, body in content.items())))
            commit = hashlib.sha1(text.encode()).hexdigest()
            commits[commit] = content
            return commit

    def fetched(self, name: str) -> int:
        """How many bodies of a file were asked for."""
        return sum(method == "GET" and path.endswith(f"/{name}") for method, path in self.requests)


@contextmanager
def running(token: str | None = None) -> Iterator[Hub]:
    hub = Hub(token)
    thread = threading.Thread(target=hub.server.serve_forever, args=(POLL_SECONDS,), daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        hub.resume.set()
        hub.server.shutdown()
        hub.server.server_close()
        thread.join()


def git_id(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # or a body waits for 40 ms until its head is acknowledged
    hub: Hub

    def log_message(self, *_: Any) -> None:
        pass

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = self._path()
        if self.hub.proxy is not None and path.endswith(self.hub.proxied):
            self._head(self.hub.proxy, len(PAGE), {"Content-Type": "text/html", **PROXY_HEADERS})
            if self.command != "HEAD":
                self.wfile.write(PAGE)
            return
        if found := re.fullmatch(rf"/{NAME}/resolve/([^/]+)/(.+)", path):
            repo, revision, name = found.groups()
            commit = self._commit(repo, revision)
            if commit is None:
                return
            files = self.hub.commits[repo][commit]
            if name not in files:
                return self._refuse(404, "EntryNotFound")
            return self._file(name, files[name], commit)
        if found := re.fullmatch(rf"/api/models/{NAME}(?:/revision/(.+))?", path):
            commit = self._commit(found[1], found[2] or "main")
            if commit is not None:
                names = [{"rfilename": name} for name in self.hub.commits[found[1]][commit]]
                self._answer({"id": found[1], "sha": commit, "private": False, "tags": [], "siblings": names})
            return
        self._refuse(404, "NoRoute")

    def do_POST(self) -> None:
        path, body = self._path(), self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if path == "/api/validate-yaml":
            return self._answer({"errors": [], "warnings": []})
        if self.hub.token and self.headers.get("Authorization") != f"Bearer {self.hub.token}":
            return self._answer({"error": "unauthorized"}, 401)
        if path == "/api/repos/create":
            return self._create(json.loads(body))
        if found := re.fullmatch(rf"/api/models/{NAME}/(preupload|commit)/main", path):
            return self._preupload(body) if found[2] == "preupload" else self._take_commit(found[1], body)
        if re.fullmatch(rf"/{NAME}\.git/info/lfs/objects/batch", path):
            return self._large(json.loads(body)["objects"])
        self._refuse(404, "NoRoute")

    def do_PUT(self) -> None:
        content = self.rfile.read(int(self.headers["Content-Length"]))
        self.hub.uploads[self._path().rsplit("/", 1)[1]] = content
        self._answer({})

    def _create(self, asked: dict[str, Any]) -> None:
        repo = f"{asked.get('organization') or 'me'}/{asked['name']}"
        if repo in self.hub.commits:
            return self._answer({"error": "it exists", "url": f"{self.hub.url}/{repo}"}, 409)
        if asked.get("private") or asked.get("visibility") == "private":
            self.hub.private.add(repo)
        self.hub.add(repo, {".gitattributes": b""})
        self._answer({"url": f"{self.hub.url}/{repo}", "name": repo, "id": "1"})

    def _preupload(self, body: bytes) -> None:
        modes = [
            {"path": f["path"], "uploadMode": "lfs" if f["path"].endswith(LARGE) else "regular", "shouldIgnore": False}
            for f in json.loads(body)["files"]
        ]
        self._answer({"files": modes})

    def _large(self, objects: list[dict[str, Any]]) -> None:
        def action(oid: str) -> dict[str, Any]:
            return {"upload": {"href": f"{self.hub.url}/upload/{oid}", "header": {}}}

        answer = [{"oid": o["oid"], "size": o["size"], "actions": action(o["oid"])} for o in objects]
        self._answer({"transfer": "basic", "objects": answer})

    def _take_commit(self, repo: str, body: bytes) -> None:
        files = {}
        for line in map(json.loads, body.splitlines()):
            value = line["value"]
            if line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                files[value["path"]] = self.hub.uploads[value["oid"]]
        commit = self.hub.add(repo, files)
        self._answer({"success": True, "commitOid": commit, "commitUrl": f"{self.hub.url}/{repo}/commit/{commit}"})

    def _path(self) -> str:
        path = unquote(urlsplit(self.path).path)
        self.hub.requests.append((self.command, path))
        return path

    def _commit(self, repo: str, revision: str) -> str | None:
        commits = self.hub.commits.get(repo)
        if commits is None:
            self._refuse(404, "RepoNotFound")
            return None
        commit = list(commits)[-1] if revision == "main" else revision
        if commit not in commits:
            self._refuse(404, "RevisionNotFound")
            return None
        return commit

    def _file(self, name: str, content: bytes, commit: str) -> None:
        tag = hashlib.sha256(content).hexdigest() if name.endswith(LARGE) else git_id(content)
        if name in self.hub.spoiled:
            content = content[:-1] + bytes([content[-1] ^ 1])
        asked = self.headers.get("Range", "") if self.hub.ranges else ""
        start = int(re.fullmatch(r"bytes=(\d+)-", asked or "bytes=0-")[1])  # type: ignore[index]
        self.hub.starts.append((name, start))
        content, length = content[start:], len(content)
        headers = {"ETag": f'"{tag}"', "X-Repo-Commit": commit}
        if start:
            headers["Content-Range"] = f"bytes {start}-{length - 1}/{length}"
        self._head(206 if start else 200, len(content), headers)
        if self.command == "HEAD":
            return
        half = len(content) // 2
        self.wfile.write(content[:half])
        if name in self.hub.cut:
            self.hub.cut.remove(name)
            self.close_connection = True
            return
        if name in self.hub.stalled:
            self.wfile.flush()
            self.hub.half_sent.set()
            self.hub.resume.wait(60)
        try:
            self.wfile.write(content[half:])
        except OSError:  # whoever asked was killed
            self.close_connection = True

    def _refuse(self, code: int, kind: str) -> None:
        self._answer({"error": kind}, code, {"X-Error-Code": kind, "X-Error-Message": kind})

    def _answer(self, content: Any, code: int = 200, headers: dict[str, str] | None = None) -> None:
        body = json.dumps(content).encode()
        self._head(code, len(body), {"Content-Type": "application/json", **(headers or {})})
        if self.command != "HEAD":
            self.wfile.write(body)

    def _head(self, code: int, length: int, headers: dict[str, str]) -> None:
        self.send_response(code)
        for key, value in {**headers, "Content-Length": str(length)}.items():
            self.send_header(key, value)
        self.end_headers()
