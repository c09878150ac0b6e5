"""``python -m prove``: every long proof, then a table of what was found.

--only NAME,…   only these: powercut, failures, killed, load, full, rot, cluster,
                media, slow, descriptors, bombs, fuzz, paths,
                smuggling, timing, browser, following, migration, restarts,
                debian, stranger, uploads, command
--share F       this part of each (default 1)
--seed N        the same again
"""

from __future__ import annotations

import argparse
import secrets
import sys
import time
from collections.abc import Callable

from prove import (
    bombs,
    browser,
    cluster,
    command,
    debian,
    descriptors,
    failures,
    following,
    full,
    fuzz,
    killed,
    load,
    media,
    migration,
    paths,
    powercut,
    restarts,
    rot,
    slow,
    smuggling,
    stranger,
    timing,
    uploads,
)
from prove.figures import Row, table

#: Each proof takes a seed and the share of it that is wanted.
PROOFS: dict[str, Callable[[int, float], list[Row]]] = {
    "powercut": powercut.prove,
    "failures": failures.prove,
    "killed": killed.prove,
    "load": load.prove,
    "full": full.prove,
    "rot": rot.prove,
    "cluster": cluster.prove,
    "media": media.prove,
    "slow": slow.prove,
    "descriptors": descriptors.prove,
    "bombs": bombs.prove,
    "fuzz": fuzz.prove,
    "paths": paths.prove,
    "smuggling": smuggling.prove,
    "timing": timing.prove,
    "browser": browser.prove,
    "following": following.prove,
    "migration": migration.prove,
    "uploads": uploads.prove,
    "command": command.prove,
    "restarts": restarts.prove,
    "debian": debian.prove,
    "stranger": stranger.prove,
}


def main(arguments: list[str]) -> int:
    """Run the proofs; return 1 if a promise was broken."""
    parser = argparse.ArgumentParser(prog="python -m prove", description=__doc__)
    parser.add_argument("--only", default=",".join(PROOFS))
    parser.add_argument("--share", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=secrets.randbelow(1 << 32))
    options = parser.parse_args(arguments)
    rows: list[Row] = []
    for name in options.only.split(","):
        begun = time.monotonic()
        print(f"{name}, seed {options.seed} ...", flush=True)
        rows += PROOFS[name](options.seed, options.share)
        print(f"{name} took {time.monotonic() - begun:.0f} s", flush=True)
    for row in rows:
        for example in row.examples:
            print(f"BROKEN: {row.name}: {example}")
    print(table(rows))
    return 1 if any(row.violations for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
