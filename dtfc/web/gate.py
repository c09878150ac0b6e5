"""Asks whether a request may do what it wants, before anything else happens."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from dtfc.access.decisions import Caller, Policy, Verb, check

if TYPE_CHECKING:
    from dtfc.web.request import Request


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
        check(self.policy, caller_of(request), verb, os.path.exists)

    def admits_all(self, verb: Verb) -> bool:
        """Whether anybody at all may do this, at this moment."""
        policy = self.policy
        if policy.deny_prefix and os.path.exists(policy.deny_prefix + verb.value):
            return False
        return verb in policy.anonymous


def caller_of(request: Request) -> Caller:
    """Say where a request comes from."""
    address = getattr(request.getClientAddress(), "host", None)
    forwarded = [*request.field("x-forwarded-for")]
    if not forwarded and (request.field("forwarded") or request.field("via")):
        # Somebody forwarded it, and does not say for whom.
        forwarded = ["unknown"]
    return Caller(address, tuple(forwarded), is_foreign(request))


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
