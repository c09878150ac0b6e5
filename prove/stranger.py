"""Proof: a stranger's walk. A fresh Debian, and the README in hand: a mirror of two nodes.

Each command is one of the README's; the clock runs from the first one on. What the
machine must have before is installed, and timed, by itself.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
import time

from prove.figures import Row
from prove.roots import Root, copy_checkout, missing

LIMIT = 300.0
"""Seconds from the first command until the second node serves."""

PACKAGES = "make python3 python3-venv curl ca-certificates"

#: What a stranger types, as it stands in the README.
COMMANDS = (
    "make run",
    "curl -T photo.jpg localhost:8080/photo.jpg",
    "D=$(sha512sum < photo.jpg | cut -d' ' -f1)",
    "curl -s -o back.jpg localhost:8080/$D",
    "echo http://localhost:8080/ > /tmp/peers",
    'make run ARGS="--port 8081 --basedir /tmp/second --peerlist /tmp/peers"',
    "curl -s localhost:8081/$D | sha512sum",
)

_PREPARE = f"apt-get update -qq && apt-get install -qq -y --no-install-recommends {PACKAGES}"

_WALK = """
cd /root/dtfc
head -c 3158073 /dev/urandom > photo.jpg
began=$(date +%s%N)
said() {{ echo "step $(( ($(date +%s%N) - began) / 1000000 )) $1"; }}
up() {{ i=0; until curl -sf -o /dev/null localhost:$1/readyz; do
    i=$((i + 1)); [ $i -lt 1200 ] || {{ cat /tmp/node-$1; exit 1; }}; sleep 0.2; done; }}
{0} > /tmp/node-8080 2>&1 &
up 8080; said "the first node serves"
{1}; echo
{2}
{3}
[ "$(sha512sum < back.jpg | cut -d' ' -f1)" = "$D" ]; said "a photo is stored and fetched"
{4}
{5} > /tmp/node-8081 2>&1 &
up 8081; said "the second node serves"
[ "$({6} | cut -d' ' -f1)" = "$D" ] || {{ cat /tmp/node-8081; exit 1; }}
said "it has loaded the photo from the first"
"""


def prove(_seed: int, _share: float) -> list[Row]:
    """Walk."""
    name = "a stranger's walk to a mirror of two nodes"
    why = missing()
    if why:
        return [Row(name, "", 0, 0, skipped=why)]
    begun = time.monotonic()
    with open("README.md", encoding="utf-8") as file:
        readme = file.read()
    wrong = [f"not in the README: {each}" for each in COMMANDS if each not in readme]
    folder = tempfile.mkdtemp(prefix="dtfc-stranger-", dir="/var/tmp")
    try:
        root = Root(f"{folder}/root")
        before = time.monotonic()
        root.run(_PREPARE)
        prepared = time.monotonic() - before
        copy_checkout(f"{root.folder}/root/dtfc")
        said = root.run(_WALK.format(*COMMANDS))
        steps = [(int(ms) / 1000, what) for ms, what in re.findall(r"step ([0-9]+) (.+)", said)]
        if not steps or steps[-1][0] > LIMIT:
            wrong.append(f"it took {steps[-1][0] if steps else 'for ever'} s")
    except RuntimeError as error:
        wrong.append(str(error))
        steps, prepared = [], 0.0
    finally:
        shutil.rmtree(folder)
    told = "; ".join(f"{what} after {seconds:.0f} s" for seconds, what in steps)
    machine = f"Debian bookworm, minbase, {os.cpu_count()} processors, apt {prepared:.0f} s"
    cases = f"{machine}; then: {told}"
    return [Row(name, cases, len(wrong), time.monotonic() - begun, None, wrong)]
