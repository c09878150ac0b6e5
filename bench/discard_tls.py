"""A TLS client that shakes hands, asks, and drops the enciphered answer in the kernel.

    discard_tls.py PORT PATH LENGTH

Deciphering is the receiver's work, not the server's: it is left out. How long
the answer has to be, give or take the records' own bytes, is checked all the
same; that the bytes are right is another test's affair. Prints JSON.
"""

from __future__ import annotations

import json
import select
import socket
import ssl
import sys
import time

HOST = "127.0.0.1"
_TURN = 8 << 20
_QUIET_SECONDS = 0.3
#: 5 bytes of header, 16 of tag, one of type for as little as 4 KiB, and a head.
_MOST = 1.01


def _more_within(raw: socket.socket, seconds: float) -> bool:
    """Tell whether anything comes: some servers wait for our goodbye, which we cannot say."""
    return bool(select.select([raw], [], [], seconds)[0])


def main(port: int, path: str, length: int) -> int:
    """Ask once and count."""
    trusting = ssl.create_default_context()
    trusting.check_hostname = False
    trusting.verify_mode = ssl.CERT_NONE
    trusting.minimum_version = ssl.TLSVersion.TLSv1_3
    plain = socket.create_connection((HOST, port), timeout=60)
    with trusting.wrap_socket(plain, server_hostname="localhost") as secret:
        cipher = secret.cipher()
        request = f"GET {path} HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n\r\n"
        began = time.monotonic()
        secret.sendall(request.encode("ascii"))
        # From here on nobody deciphers: the bytes are dropped where they arrive.
        with socket.socket(fileno=secret.detach()) as raw:
            raw.settimeout(60)
            block = bytearray(_TURN)
            total = 0
            last = began
            while total <= length or _more_within(raw, _QUIET_SECONDS):
                got = raw.recv_into(block, _TURN, socket.MSG_TRUNC)
                if not got:
                    break
                total += got
                last = time.monotonic()
        seconds = last - began
    if not length < total < length * _MOST + 16384:
        sys.stderr.write(f"{total} bytes came for a body of {length}\n")
        return 1
    json.dump({"seconds": seconds, "cipher": cipher[0] if cipher else "none"}, sys.stdout)
    return 0


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), sys.argv[2], int(sys.argv[3])))
