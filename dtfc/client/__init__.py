"""A client of dtfc nodes.

    from dtfc.client import Client

    async def work():
        async with Client("http://files.example:8080") as client:
            stored = await client.put("photo.jpg")
            await client.get(stored.digest, "back.jpg")

Methods are coroutines on Twisted's reactor; docs/client.md has all of it.
"""

from dtfc.client.answers import (
    Head,
    Info,
    NodeStatus,
    PeerDeletion,
    Peers,
    Receipt,
    Row,
    Stored,
)
from dtfc.client.client import Client
from dtfc.client.credentials import Cookie, Credential, Password, Token
from dtfc.client.failures import (
    ClientError,
    LocalTrouble,
    NotAllowed,
    NotFound,
    Rejected,
    Unavailable,
    Unreachable,
    WrongBytes,
)
from dtfc.client.flow import Got
from dtfc.client.mirroring import Blob, Mirrored
from dtfc.client.trust import Tls, read_tls
from dtfc.digest import Digest

__all__ = [
    "Blob",
    "Client",
    "ClientError",
    "Cookie",
    "Credential",
    "Digest",
    "Got",
    "Head",
    "Info",
    "LocalTrouble",
    "Mirrored",
    "NodeStatus",
    "NotAllowed",
    "NotFound",
    "Password",
    "PeerDeletion",
    "Peers",
    "Receipt",
    "Rejected",
    "Row",
    "Stored",
    "Tls",
    "Token",
    "Unavailable",
    "Unreachable",
    "WrongBytes",
    "read_tls",
]
