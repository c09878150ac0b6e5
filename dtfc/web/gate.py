"""Asks whether a request may do what it wants, before anything else happens."""

from __future__ import annotations

import ipaddress
import os
from typing import TYPE_CHECKING

from dtfc.access.decisions import Caller, Policy, Verb, check

if TYPE_CHECKING:
    from dtfc.web.request import Request


#: Fields that only a proxy sets.
_SIGNS_OF_A_PROXY = (
    "forwarded",
    "via",
    "x-real-ip",
    "x-forwarded-host",
    "x-forwarded-proto",
    "x-forwarded-port",
    "x-forwarded-server",
)


class Gate:
    """The policy in force, applied to requests.

    Args:
        policy: replaced as a whole when the configuration is read again.
    """

    def __init__(self, policy: Policy) -> None:
        self.policy = policy

    def admit(self, request: Request, verb: Verb) -> None:
        """Return if the request's sender may do this.

        Deny files are looked at on each request: one stat of a path that the
        kernel has cached, so it is done on the loop.

        Raises:
            Denied: it may not.
        """
        check(self.policy, caller_of(request), verb, may_exist)

    def admits_all(self, verb: Verb) -> bool:
        """Whether anybody at all may do this, at this moment."""
        policy = self.policy
        if policy.deny_prefix and may_exist(policy.deny_prefix + verb.value):
            return False
        return verb in policy.anonymous


def may_exist(path: str) -> bool:
    """Whether a deny file is there; what cannot be looked at counts as there.

    A dangling link is somebody's deny file too.
    """
    try:
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return True
    return True


def caller_of(request: Request) -> Caller:
    """Say where a request comes from."""
    address = getattr(request.getClientAddress(), "host", None)
    forwarded = request.field("x-forwarded-for")
    if not forwarded and any(map(request.field, _SIGNS_OF_A_PROXY)):
        # Somebody forwarded it, and does not say for whom.
        forwarded = ["unknown"]
    return Caller(address, tuple(forwarded), is_foreign(request), is_rebound(request))


def is_rebound(request: Request) -> bool:
    """Whether a browser asks under a host name that could have been made to point here."""
    if not any(map(request.field, ("origin", "sec-fetch-site", "sec-fetch-mode"))):
        return False
    host = request.head.host.decode("ascii").lower()
    name = host[1 : host.index("]")] if host.startswith("[") else host.partition(":")[0]
    if name == "localhost":
        return False
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return True
    return False


def is_foreign(request: Request) -> bool:
    """Whether a browser makes this request for a page of another site.

    A form on any page may POST to any address that its reader's machine can
    reach, this machine's own included; the browser says so in Sec-Fetch-Site,
    older ones in Origin. Programs send neither.
    """
    site = request.field("sec-fetch-site")
    if site:
        return any(value not in ("same-origin", "none") for value in site)
    host = request.head.host.decode("ascii").lower()
    return any(origin.lower().partition("://")[2] != host for origin in request.field("origin"))
