"""What all loads of a process share: its counters, its limits, and what does the work."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from twisted.internet.interfaces import IReactorTime

from dtfc.disk import Disk
from dtfc.peers.client import PeerHTTP
from dtfc.peers.pull import PullLimits
from dtfc.peers.slots import Slots, SlotsByName

if TYPE_CHECKING:
    # A client of nodes has counters and limits, too, but neither of these.
    from dtfc.peers.picker import Picker
    from dtfc.store.blobs import Store


@dataclass(slots=True)
class Counters:
    """What all loads of this process came to, since it started.

    Args:
        running: loads in progress now.
        loads: begun, that is: the blob was not found to be here already.
        loaded: ended with the blob here.
        absent: ended with: nobody has it.
        unreached: ended with: not every peer could be asked.
        stopped: given up, because nobody waited any more or at shutdown.
        failed: ended by something on this node (disk full, a marker).
        peer_failures: times that a peer gave no usable answer or broke off.
        loaded_bytes: lengths of the blobs loaded.
        received_bytes: body bytes that came from peers, wanted or not.
        resumed_bytes: bytes that were left by earlier loads and taken up again.
        refetched_bytes: of those received, the ones that had been here before.
        wrong_chunks: chunks that had come and turned out to be wrong.
        hedges_won: asks because another peer was late or slow, whose answer was taken.
        hedges_lost: those whose answer was not.
        waiters: clients that wait for a load that was begun for another one.
    """

    running: int = 0
    loads: int = 0
    loaded: int = 0
    absent: int = 0
    unreached: int = 0
    stopped: int = 0
    failed: int = 0
    peer_failures: int = 0
    loaded_bytes: int = 0
    received_bytes: int = 0
    resumed_bytes: int = 0
    refetched_bytes: int = 0
    wrong_chunks: int = 0
    hedges_won: int = 0
    hedges_lost: int = 0
    waiters: int = 0


@dataclass(frozen=True, slots=True)
class LoadLimits:
    """How loads are bounded.

    Args:
        finish_load: the share of a blob, 0 to 1, from which on its load is
            finished although nobody waits for it any more (``--finish-load``).
        remember_absent: seconds for which nobody is asked again for a blob that
            nobody had; 0 to ask each time (``--absent-ttl``).
        most_remembered: blobs that nobody had, remembered at once; the oldest
            are forgotten first (``--absent-max``).
        most_loads: loads at once; further ones wait (``--max-loads``).
        asks_per_peer: requests at once to one peer, of all loads; further ones
            wait (``--peer-requests``).
        spread: how one load is spread over peers.
    """

    finish_load: float = 0.5
    remember_absent: float = 2.0
    most_remembered: int = 10_000
    most_loads: int = 64
    asks_per_peer: int = 32
    spread: PullLimits = field(default_factory=PullLimits)


@dataclass(slots=True)
class Surroundings:
    """What every load of a process shares.

    Args:
        store: where blobs go.
        disk: where blocking work is done.
        http: asks peers.
        clock: measures time.
        counters: what is counted.
        limits: replaced as a whole when the configuration is read again.
        slots: places for loads.
        at_peers: places at each peer.
        picker: orders peers, and wants to know how they are.
        marks: makes numbers that differ, also from those of other processes.
        shared: whether other processes serve the same store: they may wish for
            what this one loads.
    """

    store: Store
    disk: Disk
    http: PeerHTTP
    clock: IReactorTime
    counters: Counters
    limits: LoadLimits
    slots: Slots
    at_peers: SlotsByName
    picker: Picker
    marks: Callable[[], int] = field(default_factory=lambda: partial(secrets.randbits, 63))
    shared: bool = False
