"""Damaged bytes and odd values, each made from one number, and the loop that uses so many of them."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Callable

import limits

CASES = int(os.environ.get("UAD_FUZZ", "3000")) // 10
FIRST = int(os.environ.get("UAD_FUZZ_FIRST", "0"))
ODD = [None, True, -1, 0, 10**30, 1e308, float("nan"), float("inf"), "", "x", "../x", "\0", [], ["x"], {}, {"x": []}]
RUBBISH = [b"", b"\0" * 9, b"\xff\xfe", b"[" * 5000, b"x = " + b"9" * 5000, b"<html>proxy</html>", b"model = ['x']\n"]


def damaged(content: bytes, rng: random.Random) -> bytes:
    """The content with bytes changed, a piece left out, doubled or cut off; sometimes rubbish."""
    if rng.random() < 0.05:
        return rng.choice(RUBBISH)
    data = bytearray(content)
    for _ in range(rng.randint(1, 4)):
        at, end = sorted(rng.randrange(len(data) + 1) for _ in range(2))
        end = min(end, at + rng.choice((1, 4, 40, 4000)))
        kind = rng.randrange(5)
        if kind == 0:
            data[at:end] = bytes(rng.randrange(256) for _ in range(end - at))
        elif kind == 1:
            del data[at:end]
        elif kind == 2:
            data[at:at] = data[at:end]
        elif kind == 3:
            data[at : at + 1] = rng.choice((b'"', b"\n", b"\t", b"{", b"]", b"-", b"9" * 40, b"\\", b"\x80"))
        elif rng.random() < 0.2:
            del data[at:]
    return bytes(data)


def odd_values(content: object, rng: random.Random) -> object:
    """JSON content with one value, anywhere in it, replaced, taken away or wrapped."""
    copied = json.loads(json.dumps(content))
    place = copied
    while isinstance(place, dict | list) and place:
        key = rng.choice(list(place)) if isinstance(place, dict) else rng.randrange(len(place))
        if isinstance(place[key], dict | list) and place[key] and rng.random() < 0.75:  # type: ignore[index]
            place = place[key]  # type: ignore[index]
            continue
        if rng.random() < 0.2:
            del place[key]  # type: ignore[arg-type]
        else:
            place[key] = rng.choice(ODD)  # type: ignore[index]
        break
    return copied


def each(make: Callable[[random.Random], object], use: Callable[[object], object], cases: int = CASES) -> None:
    """Use so many damaged things; what is no `UadError`, or takes long or much, fails with the number of the case."""
    with limits.memory():
        for number in range(FIRST, FIRST + cases):
            made = make(random.Random(number))
            with limits.bounded(f"{number}: {made!r:.300}"):
                use(made)
