"""Publish the bundled models on the Hugging Face Hub, and write their addresses into the registry.

    HF_TOKEN=... python packaging/release/publish_weights.py OWNER/NAME [--weights weights] [--private]

Each model is one commit with its weights, card and manifest, pinned by that commit in `registry.toml`. Before an
address is written, the model is downloaded from it and compared with the registry. The wheel with weights does not
change: it uses the address only where its own file is missing.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import sys
import tempfile
from pathlib import Path

from uadcli.console import Reporter, print_error
from uadcli.errors import UadError
from uadcli.weights import hub, manage, registry
from uadcli.weights.registry import Entry

ROOT = Path(__file__).parents[2]


def published(entry: Entry, weights: Path, repo: str, private: bool, others: list[Path]) -> Entry:
    """The entry with the address at which its file is now."""
    with Reporter() as reporter:
        text = manage.push(weights / entry.file, repo, private, None, reporter, others)
        reference = hub.parse(text)
        hub.fetch(reference, entry.sha256, reporter)
    print(f"{entry.name}  {reference}", flush=True)
    return dataclasses.replace(entry, repo=reference.repo, commit=reference.commit)


def publish(weights: Path, repo: str, private: bool) -> None:
    """Publish each model of the folder, and write the registry once all are there."""
    entries, done = registry.read(weights, "Fix it."), list[Entry]()
    for entry in entries:
        done.append(published(entry, weights, repo, private, [weights / one.card for one in done]))
    text = (weights / registry.FILE).read_text(encoding="utf-8")
    registry.write(weights, *done, comment=text[: text.index("[[model]]")])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("repo", metavar="OWNER/NAME")
    parser.add_argument("--weights", type=Path, default=ROOT / "weights", help="the folder with registry.toml")
    parser.add_argument("--private", action="store_true", help="make a new repository private")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as cache:
        os.environ["UAD_CACHE"] = cache  # what is checked comes from the Hub
        try:
            publish(arguments.weights, arguments.repo, arguments.private)
        except UadError as error:
            print_error(error)
            sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
