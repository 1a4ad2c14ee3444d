"""`python -m uadcli` is `uad`."""

import sys

from uadcli.cli.app import main

if __name__ == "__main__":
    sys.exit(main())
