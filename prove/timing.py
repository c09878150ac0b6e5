"""Proof: how long a wrong token, signed URL or signature takes says nothing of the right one.

Each is compared with ones that agree with it in the first 0, 1, 16 and all but the last
byte. The classes take turns, in an order that chance makes anew each time, so that
whatever else the machine does meets all of them alike. What counts as noise is how far
the medians of one and the same class differ, when chance deals it out to as many.
"""

from __future__ import annotations

import base64
import hashlib
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from random import Random
from statistics import median

from dtfc.access.links import check_link, sign_link
from dtfc.access.signatures import Message, PeerTerms, Proof, parse_secrets, sign, verify
from dtfc.access.tokens import Token, Tokens
from dtfc.access.verbs import Verb
from dtfc.errors import DtfcError
from prove.figures import Row

#: Timings of each class.
TIMINGS = 200_000

#: Bytes from the front in which a wrong one is right.
AGREE = (0, 1, 16, -1)

#: Nanoseconds below which a clock of this kind says nothing.
_LEAST = 25.0

_NOW = 1_800_000_000
_OTHER_TOKENS = 20

Attempt = Callable[[], object]


def _spoilt(right: bytes, agree: int) -> bytes:
    """Return bytes that differ from the right ones behind so many."""
    wrong = bytearray(right)
    for at in range(agree % len(right), len(right)):
        wrong[at] ^= 0x55
    return bytes(wrong)


def tokens(chance: Random) -> list[Attempt]:
    """Return an attempt with a token for each class: what is kept agrees with its hash so far."""
    value = "dtfc_" + chance.randbytes(24).hex()
    right = hashlib.sha256(value.encode()).digest()
    verbs = frozenset(Verb)
    others = [Token(f"t{number}", chance.randbytes(32), verbs) for number in range(_OTHER_TOKENS)]
    kept = [Tokens([*others, Token("t", _spoilt(right, agree), verbs)]) for agree in AGREE]
    return [partial(each.find, f"Bearer {value}", _NOW) for each in kept]


def links(chance: Random) -> list[Attempt]:
    """Return an attempt with a signed URL for each class."""
    key = chance.randbytes(32)
    signed, _, signature = sign_link(key, Verb.GET, f"/{'ab' * 64}", _NOW + 60).partition("&sig=")
    alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    attempts: list[Attempt] = []
    for agree in AGREE:
        wrong = bytearray(signature.encode())
        for at in range(agree % len(wrong), len(wrong)):
            wrong[at] = alphabet[(alphabet.index(wrong[at]) + 7) % 64]
        target = f"{signed}&sig={wrong.decode()}"
        attempts.append(partial(check_link, [key], Verb.GET, target, "192.0.2.1", _NOW))
    return attempts


def signatures(chance: Random) -> list[Attempt]:
    """Return an attempt with a peer's signature for each class."""
    secrets = parse_secrets(chance.randbytes(32).hex().encode())
    terms = PeerTerms(secrets=secrets, skew=3600.0, own=frozenset({"a:80"}))
    message = Message("PUT", f"/{'ab' * 64}", None, {}, has_body=False)
    told = sign(secrets.keys[0], message, "a:80", Proof("0" * 16, 1, _NOW))
    (listing, listed), (name, signed) = told
    label, _, encoded = signed.partition("=:")
    attempts: list[Attempt] = []
    for agree in AGREE:
        mac = base64.b64encode(_spoilt(base64.b64decode(encoded.rstrip(":")), agree)).decode()
        fields = {listing.lower(): [listed], name.lower(): [f"{label}=:{mac}:"]}
        came = Message("PUT", message.path, None, fields, has_body=False)
        attempts.append(partial(verify, terms, came, ["a:80"], float(_NOW)))
    return attempts


def measure(attempts: Sequence[Attempt], count: int, chance: Random) -> list[list[int]]:
    """Return so many timings of each attempt, in nanoseconds; each must be refused.

    Raises:
        AssertionError: one was not.
    """
    took: list[list[int]] = [[] for _ in attempts]
    order = list(range(len(attempts)))
    clock = time.perf_counter_ns
    for _ in range(count):
        chance.shuffle(order)
        for each in order:
            attempt = attempts[each]
            began = clock()
            with suppress(DtfcError):
                attempt()
                raise AssertionError("a wrong one was taken for right")
            took[each].append(clock() - began)
    return took


def noise(timings: Sequence[int], classes: int, chance: Random) -> float:
    """Return how far medians differ that chance alone makes differ, at the most of 20 times."""
    dealt = list(timings)
    worst = 0.0
    for _ in range(20):
        chance.shuffle(dealt)
        size = len(dealt) // classes
        found = [median(dealt[number * size : (number + 1) * size]) for number in range(classes)]
        worst = max(worst, max(found) - min(found))
    return worst


def compare(what: str, attempts: Sequence[Attempt], count: int, seed: int) -> Row:
    """Measure one kind of secret."""
    began = time.monotonic()
    chance = Random(f"{seed} timing {what}")
    measure(attempts, min(count, 1000), chance)
    took = measure(attempts, count, chance)
    medians = [median(each) for each in took]
    apart = max(medians) - min(medians)
    # Fewer timings of a class make its medians differ more: as many as in the classes.
    allowed = max(_LEAST, 3 * noise(took[0] + took[1] + took[2] + took[3], len(AGREE), chance))
    wrong = [f"the medians are {apart:.0f} ns apart, {allowed:.0f} would be noise"]
    cases = (
        f"{count} timings of each; medians "
        f"{', '.join(f'{each / 1000:.2f}' for each in medians)} µs; {apart:.0f} ns apart, "
        f"noise {allowed:.0f} ns"
    )
    violations = int(apart > allowed)
    seconds = time.monotonic() - began
    name = f"a wrong {what} that is right in its first 0, 1, 16, all but one bytes: time tells"
    return Row(name, cases, violations, seconds, seed, wrong if violations else [])


def prove(seed: int, share: float) -> list[Row]:
    """Measure all three."""
    chance = Random(f"{seed} timing")
    count = max(3000, int(TIMINGS * share))
    return [
        compare("token", tokens(chance), count, seed),
        compare("signed URL", links(chance), count, seed),
        compare("signature", signatures(chance), count, seed),
    ]
