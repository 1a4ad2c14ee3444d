"""Build the wheel without weights, which fetches the model of a contrast from the Hub when it is first needed.

Neither does it contain NiiVue, which `--html niivue` then fetches from the npm registry. Its files are deflated by
Zopfli, which takes seconds and makes them 4 % smaller, so that the wheel stays below 1 MB.

    python packaging/release/build_slim.py [--registry weights/registry.toml] [-o dist/slim]

The registry must name repository and commit of every model (`make publish-weights REPO=owner/name` writes them).
Prints the path of the wheel. It is named like the full one: publish only one of the two in an index.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from zopfli.zlib import compress

from uadcli.errors import UadError
from uadcli.report import viewer
from uadcli.weights import registry

ROOT = Path(__file__).parents[2]
PARTS = ("uadcli", "pyproject.toml", "README.md", "LICENSE")
LEFT_OUT = ("__pycache__", "_weights", viewer.FILE)


def staged(folder: Path, listed: Path) -> Path:
    """A copy of what a wheel is made of, with the registry `listed` in place of the weights."""
    folder.mkdir()
    for name in PARTS:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns(*LEFT_OUT))
        else:
            shutil.copyfile(source, folder / name)
    (folder / "weights").mkdir()
    shutil.copyfile(listed, folder / "weights" / registry.FILE)
    return folder


def refuse_incomplete(listed: Path) -> None:
    """Exit with 4 if a model is not on the Hub: nobody could get it."""
    with tempfile.TemporaryDirectory() as name:
        shutil.copyfile(listed, Path(name) / registry.FILE)
        try:
            entries = registry.read(Path(name), "Fix it.")
        except UadError as error:
            fail(f"{listed}: {error.what}")
    if missing := [entry.name for entry in entries if entry.reference is None]:
        fail(f"{listed}: no address on the Hub for {', '.join(missing)}. First: make publish-weights REPO=owner/name")


def fail(text: str) -> None:
    print(f"error: {text}", file=sys.stderr)
    raise SystemExit(4)


def build(listed: Path, output: Path) -> Path:
    """The slim wheel in the folder `output`."""
    output.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as name:
        source = staged(Path(name) / "source", listed)
        made = Path(name) / "dist"
        command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", made, source]
        done = subprocess.run([*map(str, command)], capture_output=True, text=True, check=False)
        if done.returncode:
            fail(f"the wheel cannot be built: {done.stderr or done.stdout}")
        (wheel,) = made.glob("*.whl")
        return repacked(wheel, output / wheel.name)


def repacked(wheel: Path, output: Path) -> Path:
    """The same files in the same order, deflated as tightly as the format allows; times and modes stay."""
    with zipfile.ZipFile(wheel) as source, zipfile.ZipFile(output, "w") as made:
        for entry in source.infolist():
            data, smaller = source.read(entry), entry.compress_size < entry.file_size  # before `open` resets them
            with made.open(entry, "w") as file:
                if smaller:  # packed templates only cost time
                    file._compressor = Tight()  # type: ignore[attr-defined]  # `zipfile` takes no other compressor
                file.write(data)
    return output


class Tight:
    """A compressor, as `zipfile` uses it, of one file at once by Zopfli."""

    def __init__(self) -> None:
        self.parts: list[bytes] = []

    def compress(self, data: bytes) -> bytes:
        """Nothing yet."""
        self.parts.append(data)
        return b""

    def flush(self) -> bytes:
        """The deflated file: a zlib stream without its header and checksum."""
        return compress(b"".join(self.parts))[2:-4]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--registry", type=Path, default=ROOT / "weights" / registry.FILE)
    parser.add_argument("-o", "--output", type=Path, default=ROOT / "dist" / "slim")
    arguments = parser.parse_args()
    refuse_incomplete(arguments.registry)
    print(build(arguments.registry, arguments.output))


if __name__ == "__main__":
    main()
