#!/usr/bin/python3 -I
"""dtfc(8) in the foreground, without a pid file: what a service manager starts."""

import sys

sys.path.insert(0, "/usr/lib/dtfc")

from twisted.scripts.twistd import run

if __name__ == "__main__":
    sys.argv[1:1] = ["--nodaemon", "--pidfile=", "dtfc"]
    sys.exit(run())
