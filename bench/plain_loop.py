"""What the file system gives to a program that stores one small file after the other, durably.

    plain_loop.py FOLDER BYTES SECONDS

Write a new file, fsync it, link it under its final name, fsync the folder: the
least that makes a file durable under a name that appears whole. One thread, no
hashing, no HTTP, one flat folder. Prints JSON.
"""

from __future__ import annotations

import json
import os
import sys
import time


def main(folder: str, length: int, seconds: float) -> int:
    """Store files until the time is over."""
    drafts, final = os.path.join(folder, "drafts"), os.path.join(folder, "final")
    os.makedirs(drafts)
    os.makedirs(final)
    where = os.open(final, os.O_RDONLY | os.O_DIRECTORY)
    body = os.urandom(length)
    stored = 0
    began = time.monotonic()
    while time.monotonic() - began < seconds:
        draft = os.path.join(drafts, str(stored))
        fd = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        os.write(fd, body)
        os.fsync(fd)
        os.close(fd)
        os.link(draft, os.path.join(final, str(stored)))
        os.unlink(draft)
        os.fsync(where)
        stored += 1
    taken = time.monotonic() - began
    os.close(where)
    json.dump({"seconds": taken, "stored": stored}, sys.stdout)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], int(sys.argv[2]), float(sys.argv[3])))
