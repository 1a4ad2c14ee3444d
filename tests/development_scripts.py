"""Code that uses the scripts of packaging/evaluation, which have a module `scenes`, as the tests do."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

SCRIPTS = Path(__file__).parents[1] / "packaging" / "evaluation"


def run(code: str) -> subprocess.CompletedProcess[str]:
    """Run code in a process of its own, whatever its exit code."""
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=SCRIPTS, check=False)


def said(code: str) -> list[str]:
    """The lines that code prints; it must not fail."""
    found = run(code)
    assert found.returncode == 0, found.stderr
    return found.stdout.splitlines()
