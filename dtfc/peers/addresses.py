"""Which addresses a node connects to.

Rules of this file: pure. What an operator wrote down as an address is meant; a
name is somebody else's to answer for. So an address is looked at after the name
was resolved, and it is that one that is connected to.

Never connected to, unless it is listed:

* what is on the link alone, where clouds answer with a machine's own secrets
  (169.254.0.0/16, ``fe80::/10``), and the addresses of that kind elsewhere;
* what is no host: unspecified, multicast, reserved;
* any of these in the clothes of another (IPv4 in IPv6, NAT64, 6to4);
* this machine, where a name leads to it that is not its own: what listens on
  loopback trusts whoever can reach it.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

EVERYWHERE: tuple[Network, ...] = (
    ipaddress.IPv4Network("0.0.0.0/0"),
    ipaddress.IPv6Network("::/0"),
)
"""Every address there is, forbidden ones included."""

#: Where clouds tell a machine about itself, besides on the link.
_METADATA = frozenset(
    map(
        ipaddress.ip_address,
        ("fd00:ec2::254", "fd20:ce::254", "100.100.100.200", "168.63.129.16", "192.0.0.192"),
    )
)
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_LOCAL_NAT64 = ipaddress.IPv6Network("64:ff9b:1::/48")
_THIS_NETWORK = ipaddress.IPv4Network("0.0.0.0/8")


#: Names that no public DNS answers for: RFC 6762 and its appendix G, RFC 6761, 8375, and .internal.
_PRIVATE_ENDS = (
    *(".local", ".internal", ".localhost", ".test", ".invalid", ".home.arpa", ".lan", ".home"),
    *(".intranet", ".private", ".corp"),
)


def is_public(host: str) -> bool:
    """Whether everybody can reach a host by what was written down, as far as that tells.

    Args:
        host: an address, or a name; in lower case.
    """
    try:
        address = ipaddress.ip_address(host.strip("[]").partition("%")[0])
    except ValueError:
        name = host.rstrip(".")
        return "." in name and not name.endswith(_PRIVATE_ENDS)
    # IPv4 in the clothes of IPv6 is of use to hardly anybody.
    return all(face.is_global and not face.is_multicast for face in {address, *_behind(address)})


def why_not(
    address: str, allowed: Sequence[Network], *, host: str, own_names: Sequence[str] = ()
) -> str:
    """Say why an address is not connected to; empty if it is.

    Args:
        address: that is about to be connected to.
        allowed: the only networks that may be, whatever they are; if there are none,
            those above are not.
        host: what was written down: the address, or the name that led to it.
        own_names: of this machine.
    """
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return "is no address"
    faces = {parsed, *_behind(parsed)}
    if allowed:
        within = any(
            face.version == network.version and face in network
            for face in faces
            for network in allowed
        )
        return "" if within else "is in none of --peer-networks"
    for face in faces:
        why = _forbidden(face)
        if why:
            return f"is {why}, and not listed in --peer-networks"
    if any(face.is_loopback for face in faces) and not _means_loopback(host, own_names):
        return "is this machine, which nobody meant by that name (--peer-networks)"
    return ""


def _behind(address: Address) -> list[Address]:
    """Return the addresses that another one stands for."""
    if isinstance(address, ipaddress.IPv4Address):
        return []
    found: list[Address | None] = [address.ipv4_mapped, address.sixtofour]
    if address in _NAT64 or address in _LOCAL_NAT64:
        found.append(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF))
    if int(address) >> 32 == 0 and int(address) > 1:
        # The old "IPv4-compatible" form, ::127.0.0.1.
        found.append(ipaddress.IPv4Address(int(address)))
    if address.teredo is not None:
        found += address.teredo
    return [each for each in found if each is not None]


def _forbidden(address: Address) -> str:
    if address in _METADATA:
        return "where a cloud tells a machine about itself"
    if address.is_link_local:
        return "on the link alone"
    if address.is_multicast:
        return "multicast"
    if address.is_unspecified or (address.version == 4 and address in _THIS_NETWORK):
        return "no host's"
    if address.version == 4 and address.is_reserved:
        return "reserved"
    return ""


def _means_loopback(host: str, own_names: Sequence[str]) -> bool:
    name = host.lower().rstrip(".")
    try:
        ipaddress.ip_address(name.strip("[]").partition("%")[0])
    except ValueError:
        return name == "localhost" or name.endswith(".localhost") or name in own_names
    return True
