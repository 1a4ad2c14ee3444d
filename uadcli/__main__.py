"""`python -m uadcli` is `uad`."""

from __future__ import annotations

import atexit
import gc
import signal
import sys


def main() -> int:
    """Run `uad`; a signal before its handlers are set up ends the process at once, without a traceback."""
    atexit.register(gc.freeze)  # at the end looking for cycles among what torch has imported would take half a second
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from uadcli.cli.app import main

    return main()


if __name__ == "__main__":
    sys.exit(main())
