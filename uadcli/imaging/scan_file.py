"""Reading one file of a scan once, in order, decompressed if necessary, with its checksum."""

from __future__ import annotations

import hashlib
import os
import stat
import zlib
from pathlib import Path
from types import TracebackType

from uadcli.errors import InputError
from uadcli.imaging import not_a_scan

GZIP = b"\x1f\x8b"
CHUNK = 1 << 16  # a stream of many small members copies the rest of a chunk for each of them
MOST_INFLATED = 1032  # times: deflate packs no better
EMPTY_MEMBERS = 1000  # in a row; no program writes more
TAIL = 1 << 20  # bytes after the image that are still decompressed, to reach the checksum of the stream
AGAIN = "Wait until it is written, then run again."


class ScanFile:
    """A regular file, opened once and read from front to back; `sha256` is of the stored bytes, after `finish`.

    Compression is recognised by content. Every fault is an `InputError` that names the file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor = not_a_scan.open_regular(path)
        self._before = os.fstat(self._descriptor)
        self.size = self._before.st_size
        self._digest, self._stored = hashlib.sha256(), 0
        self._ahead = b""
        first = self._raw(CHUNK)
        self.packed = first.startswith(GZIP)
        self._unpack = zlib.decompressobj(31) if self.packed else None
        self._left, self._ended, self._empty = first, False, 0

    def __enter__(self) -> ScanFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._descriptor)

    @property
    def most_bytes(self) -> int:
        """The most bytes that the file can decompress to."""
        return self.size * (MOST_INFLATED if self.packed else 1)

    @property
    def sha256(self) -> str:
        """The hexadecimal digest of the stored bytes."""
        return self._digest.hexdigest()

    def peek(self, count: int) -> bytes:
        """The next `count` bytes (fewer at the end of the file) without consuming them."""
        while len(self._ahead) < count:
            more = self._next(count - len(self._ahead))
            if not more:
                break
            self._ahead += more
        return self._ahead[:count]

    def fill(self, view: memoryview) -> int:
        """Fill a writable view of bytes; returns the number of bytes read, which is smaller at the end of the file."""
        done = 0
        while done < len(view):
            some = self._from_ahead(len(view) - done) or self._next(len(view) - done)
            if not some:
                break
            view[done : done + len(some)] = some
            done += len(some)
        return done

    def skip(self, count: int) -> int:
        """Skip `count` bytes; returns the number of bytes skipped."""
        done = 0
        while done < count:
            some = self._from_ahead(count - done) or self._next(min(count - done, CHUNK))
            if not some:
                break
            done += len(some)
        return done

    def finish(self) -> None:
        """Read the rest into the digest, and check that the file has not changed since it was opened."""
        if self.packed:
            self.skip(TAIL)
        while self._raw(1 << 20):
            pass
        self._check_unchanged()

    def _from_ahead(self, count: int) -> bytes:
        some, self._ahead = self._ahead[:count], self._ahead[count:]
        return some

    def _next(self, most: int) -> bytes:
        """Up to `most` further bytes; empty at the end."""
        if self._unpack is None:
            some, self._left = (self._left[:most], self._left[most:]) if self._left else (self._raw(most), b"")
            return some
        try:
            return self._inflated(most)
        except zlib.error as error:
            raise self._damaged(str(error)) from error

    def _inflated(self, most: int) -> bytes:
        assert self._unpack is not None
        while not self._ended:
            if self._unpack.eof and not self._next_member():
                break
            packed = self._left or self._raw(CHUNK)
            if not packed:
                raise self._damaged("its end is missing")
            some = self._unpack.decompress(packed, most)
            self._left = self._unpack.unconsumed_tail
            if some:
                self._empty = 0
                return some
        return b""

    def _next_member(self) -> bool:
        """Begin the next member of the stream, if there is one; other bytes after the last member are ignored."""
        assert self._unpack is not None
        rest = self._unpack.unused_data.lstrip(b"\0")
        while not rest and (more := self._raw(CHUNK)):
            rest = more.lstrip(b"\0")
        self._empty += 1
        if self._empty > EMPTY_MEMBERS:
            raise self._damaged("it is made of empty parts")
        self._ended = not rest.startswith(GZIP[: len(rest)]) or not rest
        if not self._ended:
            self._left, self._unpack = rest, zlib.decompressobj(31)
        return not self._ended

    def _raw(self, most: int) -> bytes:
        try:
            some = os.read(self._descriptor, min(most, 1 << 24))
        except OSError as error:
            raise InputError(f"cannot be read: {error.strerror}", path=self.path, hint="Copy it again.") from error
        self._digest.update(some)
        self._stored += len(some)
        return some

    def _damaged(self, why: str) -> InputError:
        self._check_unchanged(whole=False)  # a file that shrinks during reading looks the same
        return InputError(f"the compressed file is damaged or cut short ({why})", path=self.path, hint="Copy it again.")

    def _check_unchanged(self, whole: bool = True) -> None:
        now = os.fstat(self._descriptor)
        if now.st_size < self.size or (whole and self._stored < self.size):
            raise InputError("was truncated while it was read", path=self.path, hint=AGAIN)
        if (now.st_size, now.st_mtime_ns) != (self.size, self._before.st_mtime_ns):
            raise InputError("was changed while it was read", path=self.path, hint=AGAIN)
        try:
            there = os.stat(self.path)
        except OSError as error:
            raise InputError("vanished while it was read", path=self.path, hint="Check the path.") from error
        if not os.path.samestat(there, self._before):
            raise InputError("was replaced while it was read", path=self.path, hint=AGAIN)


def is_regular(path: Path) -> bool:
    """Whether `path` is a regular file, or a link to one."""
    try:
        return stat.S_ISREG(os.stat(path).st_mode)
    except (OSError, ValueError):
        return False
