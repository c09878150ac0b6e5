"""Damage of every other kind that a file can take: with a peer, and without one."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from prove.asking import Asker, Seen, some_way
from prove.bodies import MIB, Body, make_bodies, put_all
from prove.figures import Row
from prove.house import House, until
from prove.hurt import chunks_of, cut, data_of, flip, out_of_memory, overwrite, replace, zero_page
from prove.zygote import Zygote

_NO_SCRUB = ("--scrub-rate", "0")

#: Of each kind.
_EACH = 24


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of damage.

    Args:
        name: what it is.
        do: does it to a blob of a store; given the byte that may be wrong.
        hot: whether the blob was asked for just before.
        sound: whether its bytes are right all the same.
        least: bytes that a blob must have for it.
        cuts: whether even with a peer an answer may be cut, and the next one is whole.
    """

    name: str
    do: Callable[[str, Body, int, Random], None]
    hot: bool = False
    sound: bool = False
    least: int = 16
    cuts: bool = False


def _flip(store: str, body: Body, at: int, _chance: Random) -> None:
    flip(data_of(store, body), at)


def _flip_in_memory(store: str, body: Body, at: int, _chance: Random) -> None:
    flip(data_of(store, body), at, keep_time=True, drop=False)


def _zero(store: str, body: Body, at: int, _chance: Random) -> None:
    zero_page(data_of(store, body), at)
    # The last page is not longer than the blob.
    os.chmod(data_of(store, body), 0o644)
    os.truncate(data_of(store, body), body.size)
    os.chmod(data_of(store, body), 0o444)


def _cut(store: str, body: Body, at: int, _chance: Random) -> None:
    cut(data_of(store, body), at)


def _cut_to_nothing(store: str, body: Body, _at: int, _chance: Random) -> None:
    cut(data_of(store, body), 0)


def _replace(store: str, body: Body, _at: int, chance: Random) -> None:
    replace(data_of(store, body), chance)


def _map(store: str, body: Body, _at: int, chance: Random) -> None:
    path = chunks_of(store, body)
    flip(path, chance.randrange(os.path.getsize(path)))


def _map_too(store: str, body: Body, at: int, chance: Random) -> None:
    _map(store, body, at, chance)
    _flip(store, body, at, chance)


def _no_map(store: str, body: Body, at: int, chance: Random) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(chunks_of(store, body))
    _flip(store, body, at, chance)


def _other_map(store: str, body: Body, at: int, chance: Random) -> None:
    """Have the map say other hashes of the same blob, and be whole: as another program might."""
    path = chunks_of(store, body)
    with open(path, "rb") as file:
        content = bytearray(file.read())
    # What a blob with one wrong chunk would have: the map lies, and is consistent.
    other = Random(at).randbytes(32)
    content[-64:-32] = other
    content[-32:] = hashlib.sha256(content[:-32]).digest()
    overwrite(path, bytes(content))
    del chance


def _other_map_too(store: str, body: Body, at: int, chance: Random) -> None:
    _other_map(store, body, at, chance)
    _flip(store, body, at, chance)


KINDS: tuple[Kind, ...] = (
    Kind("flipped while hot", _flip_in_memory, hot=True),
    Kind("flipped and dropped while hot", _flip, hot=True),
    Kind("a page of zeros", _zero),
    Kind("cut off", _cut),
    Kind("cut off while hot", _cut, hot=True),
    Kind("cut to nothing", _cut_to_nothing),
    Kind("replaced, same length and time", _replace),
    Kind("replaced while hot", _replace, hot=True),
    Kind("map flipped", _map, sound=True, least=MIB + 1),
    Kind("map and data flipped", _map_too, least=MIB + 1),
    Kind("no map, data flipped", _no_map, least=MIB + 1),
    Kind("a map that lies", _other_map, sound=True, least=MIB + 1),
    # What the peer sends looks wrong, so the whole has to be loaded.
    Kind("a map that lies, data flipped", _other_map_too, least=MIB + 1, cuts=True),
)


class Trial:
    """A node whose blobs are spoilt, and a peer."""

    def __init__(self, zygote: Zygote, folder: str, seed: int, verify: str = "chunk") -> None:
        self._seed = seed
        self._verify = ("--verify", verify)
        self.victim, self.peer = House(zygote, f"{folder}/victim"), House(zygote, f"{folder}/peer")

    def run(self, kind: Kind, bodies: list[Body], *, peer: bool) -> tuple[Seen, list[str]]:
        """Spoil some blobs, and ask for them; return what was seen, and what is wrong."""
        self.victim.peers = [self.peer] if peer else []
        self.victim.again(*_NO_SCRUB, *self._verify)
        put_all(bodies, self.victim.port)
        chance = Random(f"{self._seed} {kind.name} {peer}")
        seen = Seen()
        # What has only just changed is not kept at hand.
        time.sleep(0.15)
        for body in bodies:
            at = chance.randrange(body.size)
            asker = Asker(self.victim.port, seen, chance)
            if kind.hot:
                asker.whole(body, at)
                asker.whole(body, at)
            else:
                out_of_memory(data_of(self.victim.store, body))
            kind.do(self.victim.store, body, at, chance)
            before = seen.complete
            some_way(asker)(body, at)
            between = seen.complete
            asker.whole(body, at)
            if kind.cuts and peer:
                before = seen.complete - 1
                asker.whole(body, at)
            if (peer or kind.sound) and seen.complete < before + 2:
                seen.wrong.append(f"{body.size} bytes: not answered in full")
            elif not peer and not kind.sound and seen.complete > between:
                seen.wrong.append(f"{body.size} bytes: answered in full, and nobody has it")
        wrong = [f"{kind.name}: {each}" for each in seen.wrong]
        if peer:
            until(5, lambda: not self._still(bodies))
            wrong += [f"{kind.name}: {each}" for each in self._still(bodies)]
        wrong += [f"{kind.name}: a traceback"] * self.victim.tracebacks()
        os.truncate(f"{self.victim.folder}/output", 0)
        return seen, wrong

    def _still(self, bodies: list[Body]) -> list[str]:
        found = []
        for body in bodies:
            try:
                with open(data_of(self.victim.store, body), "rb") as file:
                    if file.read() == body.whole:
                        continue
            except OSError as error:
                found.append(repr(error))
                continue
            found.append(f"{body.size} bytes: not healed")
        return found


def prove(seed: int, share: float) -> list[Row]:
    """Spoil 24 blobs in each way, or a share of that, with a peer and without one."""
    begun = time.monotonic()
    each = max(3, int(_EACH * share))
    wrong: list[str] = []
    seen: list[Seen] = []
    root = tempfile.mkdtemp(prefix="dtfc-prove-")
    try:
        with Zygote() as zygote:
            trial = Trial(zygote, root, seed)
            trial.peer.start(*_NO_SCRUB)
            for kind in KINDS:
                chance = Random(f"{seed} {kind.name}")
                bodies = [
                    body
                    for body in make_bodies(chance, each * 8, largest=6 * MIB)
                    if body.size >= kind.least
                ][:each]
                put_all(bodies, trial.peer.port)
                for peer in (True, False):
                    one, broken = trial.run(kind, bodies, peer=peer)
                    seen.append(one)
                    wrong += [f"{text} ({'a' if peer else 'no'} peer)" for text in broken]
            trial.victim.end()
            trial.peer.end()
    finally:
        shutil.rmtree(root, ignore_errors=True)
    cases = (
        f"{len(KINDS)} kinds, {each} blobs of each, with a peer and without; "
        f"{sum(each.answers for each in seen):,} answers: "
        f"{sum(each.complete for each in seen):,} complete, "
        f"{sum(each.refused for each in seen):,} refused, {sum(each.cut for each in seen):,} cut"
    )
    row = Row(
        "damage of other kinds", cases, len(wrong), time.monotonic() - begun, seed, wrong[:10]
    )
    print(f"  {row.name}: {cases}; {len(wrong)} wrong", flush=True)
    return [row]
