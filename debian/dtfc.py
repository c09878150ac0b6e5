#!/usr/bin/python3 -I
"""dtfc(1): the operator's command."""

import sys

sys.path.insert(0, "/usr/lib/dtfc")

from dtfc.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
