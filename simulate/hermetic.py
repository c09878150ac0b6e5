"""A process whose only sources of chance and time are a world's.

Rules of this file: it changes the whole process, so it runs in a process of its
own, which ends with the simulation (``simulate.seeds`` forks one for each seed).
What it changes is Python's own modules, never dtfc's.
"""

from __future__ import annotations

import os
import random
import secrets
import sqlite3
import sys
import time
import uuid
from collections.abc import Callable
from typing import Any

from twisted.internet import task

from simulate.world import World

#: Bytes of a chunk in a simulation: small, so that small blobs have several.
CHUNK = 16 * 1024


#: Connections to SQLite that were opened, with the paths of their files.
databases: list[tuple[str, sqlite3.Connection]] = []


def close_databases(folder: str) -> None:
    """Close what a dead process had open in a folder.

    SQLite must close its files itself: it keeps account of them for the process,
    and here that process lives on.
    """
    for path, connection in list(databases):
        if path.startswith(folder + "/"):
            connection.close()
            databases.remove((path, connection))


def use_small_chunks() -> None:
    """Let a chunk be small; call it before anything of dtfc's is imported."""
    # Alone, before all that take these numbers from them; nothing is sent in
    # pieces that reach over the end of a chunk.
    from dtfc.store import chunkmap  # noqa: PLC0415 -- before the others, that is the point
    from dtfc.web import transmit  # noqa: PLC0415 -- the same

    late = [
        name
        for name, module in sys.modules.items()
        if name.startswith("dtfc.") and name != chunkmap.__name__ and hasattr(module, "CHUNK")
    ]
    if late:
        raise RuntimeError(f"imported too early: {', '.join(late)}")
    chunkmap.CHUNK = transmit.TURN = transmit.BLOCK = CHUNK


def seal(world: World) -> None:
    """Let time and chance come from the world, from now on."""
    chance = random.Random(world.random.random())

    def some_bytes(count: int | None = None) -> bytes:
        return chance.randbytes(32 if count is None else count)

    instead: dict[Any, dict[str, Callable[..., Any]]] = {
        time: {
            "time": world.time_of_day,
            "time_ns": lambda: int(world.time_of_day() * 1e9),
            "monotonic": lambda: world.now,
            "monotonic_ns": lambda: int(world.now * 1e9),
            "perf_counter": lambda: world.now,
            "process_time": lambda: 0.0,
        },
        os: {"urandom": some_bytes},
        secrets: {
            "token_bytes": some_bytes,
            "token_hex": lambda count=None: some_bytes(count).hex(),
            "randbelow": chance.randrange,
        },
        uuid: {"uuid4": lambda: uuid.UUID(int=chance.getrandbits(128), version=4)},
    }
    for module, functions in instead.items():
        for name, function in functions.items():
            setattr(module, name, function)
    random.seed(chance.random())
    connect = sqlite3.connect

    def connect_and_note(path: Any, *args: Any, **kwargs: Any) -> sqlite3.Connection:
        connection: sqlite3.Connection = connect(path, *args, **kwargs)
        databases.append((os.fsdecode(path).removeprefix("file:").partition("?")[0], connection))
        return connection

    setattr(sqlite3, "connect", connect_and_note)  # noqa: B010 -- for the whole process
    # What Twisted does bit by bit for the whole process, such as sending a body.
    cooperator = task.Cooperator(scheduler=lambda go_on: world.after(0.001, go_on))
    setattr(task, "_theCooperator", cooperator)  # noqa: B010 -- Twisted has no public name
