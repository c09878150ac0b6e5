"""The ports: bound while the process may, closed first when it drains."""

from __future__ import annotations

import errno
import ipaddress
import os
import socket
import stat
from collections.abc import Callable, Iterable
from typing import Any, cast

from twisted.application.service import Service
from twisted.internet import unix
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.defer import Deferred, gatherResults, maybeDeferred
from twisted.internet.endpoints import serverFromString
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IListeningPort, IProtocolFactory
from twisted.logger import Logger
from twisted.python.failure import Failure

from dtfc.daemon.cannot_start import CannotStart
from dtfc.daemon.handover import Inheritance
from dtfc.daemon.tls import Keys, TlsEndpoint
from dtfc.errors import BadSetting
from dtfc.settings import Loaded

BACKLOG = 1024
_TRIES_FOR_A_SHARED_PORT = 16
# What a kernel without the protocol says: to socket(), and to bind() where an
# operator has switched IPv6 off.
_NO_SUCH_PROTOCOL = {errno.EAFNOSUPPORT, errno.EPROTONOSUPPORT, errno.EADDRNOTAVAIL}
_REMEDIES = {
    errno.EADDRINUSE: "another process listens there; --port takes another (0: any free one)",
    errno.EACCES: "ports below 1024 need root, which --uid then gives up, or a systemd socket",
    errno.EADDRNOTAVAIL: "this machine does not have that address",
}


def open_sockets(port: int, interface: str | None) -> list[socket.socket]:
    """Open listening sockets on every address, or on one.

    On every address there are two sockets, one for each version of IP: a single
    one for both would show IPv4 clients as ``::ffff:192.0.2.1``. A version
    that this machine does not have is left out.

    Args:
        port: the TCP port; 0 for a free one, the same for both versions.
        interface: an IP address; ``None`` for all.

    Raises:
        OSError: it cannot be listened there.
    """
    if interface is not None:
        family = socket.AF_INET6 if ":" in interface else socket.AF_INET
        return [_listening_socket(family, interface, port)]
    for tries_left in reversed(range(_TRIES_FOR_A_SHARED_PORT)):
        try:
            return _on_every_address(port)
        except OSError as error:
            # A port that was free for IPv4 may be taken for IPv6.
            if port != 0 or error.errno != errno.EADDRINUSE or tries_left == 0:
                raise
    raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))


def _on_every_address(port: int) -> list[socket.socket]:
    opened: list[socket.socket] = []
    missing: OSError | None = None
    for family, address in ((socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::")):
        try:
            opened.append(_listening_socket(family, address, port))
        except OSError as error:
            if error.errno not in _NO_SUCH_PROTOCOL:
                for each in opened:
                    each.close()
                raise
            missing = error
        else:
            port = opened[-1].getsockname()[1]
    if missing is not None and not opened:
        raise missing
    return opened


def _listening_socket(family: socket.AddressFamily, address: str, port: int) -> socket.socket:
    # Python's sockets are close-on-exec.
    opened = socket.socket(family, socket.SOCK_STREAM)
    try:
        opened.setblocking(False)
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        # getaddrinfo turns the scope of fe80::1%eth0 into its number.
        found = socket.getaddrinfo(
            address, port, family, socket.SOCK_STREAM, 0, socket.AI_NUMERICHOST
        )
        opened.bind(found[0][4])
        opened.listen(BACKLOG)
    except BaseException:
        opened.close()
        raise
    return opened


def adopt(reactor: Any, fd: int, family: int, factory: IProtocolFactory) -> IListeningPort:
    """Return a port that accepts on a socket which listens already.

    Args:
        reactor: accepts.
        fd: the socket; closed, for the reactor has a copy of its own.
        family: of its address.
        factory: makes the protocol of each connection.
    """
    path = ""
    if family == socket.AF_UNIX:
        with socket.socket(fileno=os.dup(fd)) as opened:
            path = str(opened.getsockname())
    mode = stat.S_IMODE(os.stat(path).st_mode) if path.startswith("/") else None
    port: IListeningPort = reactor.adoptStreamPort(fd, family, factory)
    os.close(fd)
    if mode is not None:
        # Twisted has given the file the mode that it gives to new ones.
        os.chmod(path, mode)
    return port


class Listening(Service):
    """Every port of this node.

    The ports are bound in the privileged step, while the process may still be
    root; under ``twist``, which has no such step, at start.

    Args:
        loaded: says where to listen.
        reactor: accepts.
        factory: makes the protocol of each connection.
        bound: is told of each port before it accepts its first connection.
        keep_keys: whether what TLS needs is kept for other processes.
        inherited: sockets from the process that this one takes over from.
    """

    _log = Logger()

    def __init__(
        self,
        loaded: Loaded,
        reactor: Any,
        factory: IProtocolFactory,
        bound: Callable[[IListeningPort], None],
        *,
        keep_keys: bool = False,
        inherited: Inheritance | None = None,
    ) -> None:
        self._loaded = loaded
        self._inherited = inherited or Inheritance()
        self._names: dict[IListeningPort, str] = {}
        self._reactor = reactor
        self._factory = factory
        self._bound = bound
        self._keep_keys = keep_keys
        self._tls: dict[IListeningPort, TlsEndpoint] = {}
        self.ports: list[IListeningPort] = []

    def privilegedStartService(self) -> None:  # noqa: N802 - Twisted's name
        """Bind every port."""
        Service.privilegedStartService(self)
        self._open()

    def startService(self) -> None:  # noqa: N802 - Twisted's name
        """Bind every port, if nobody did so before."""
        Service.startService(self)
        if not self.ports:
            self._open()

    def stopService(self) -> Deferred[Any]:  # noqa: N802 - Twisted's name
        """Close every port."""
        Service.stopService(self)
        return self.close()

    def close(self) -> Deferred[Any]:
        """Accept no more connections; those that are open go on."""
        ports, self.ports = self.ports, []
        return gatherResults([maybeDeferred(port.stopListening) for port in ports])

    def let_go(self) -> Deferred[Any]:
        """Accept no more connections; another process does so at the same sockets."""
        for port in self.ports:
            if isinstance(port, unix.Port):
                # To stop it would remove its file, which the other one needs.
                port.stopReading()
            else:
                # Twisted shuts down a socket that it has made: it would listen for nobody.
                port._shouldShutdown = False  # type: ignore[attr-defined]  # noqa: SLF001
        self.ports = [port for port in self.ports if not isinstance(port, unix.Port)]
        return self.close()

    def sockets(self) -> dict[str, list[tuple[int, int]]]:
        """Return the descriptors of all ports, with their address families, by setting."""
        found: dict[str, list[tuple[int, int]]] = {}
        for port in self.ports:
            opened: Any = port
            pair = opened.fileno(), int(opened.addressFamily)
            found.setdefault(self._names[port], []).append(pair)
        return found

    def reread_certificates(self) -> Callable[[], None]:
        """Read keys and certificates again; what is returned puts them in force.

        Raises:
            BadSetting: one of them is unusable; the old ones hold.
        """
        try:
            uses = [endpoint.reread() for endpoint in self._tls.values()]
        except Exception as error:
            raise self._loaded.problem("listen", _said(error)) from error

        def use_all() -> None:
            for use in uses:
                use()

        return use_all

    def keys_of(self, port: IListeningPort) -> Keys | None:
        """Return what a port's TLS needs, if it speaks TLS and that was kept."""
        endpoint = self._tls.get(port)
        return endpoint.keys if endpoint is not None else None

    def _open(self) -> None:
        settings = self._loaded.settings
        if settings.port is not None:
            name = f"port {settings.port} {settings.interface}"
            inherited = self._inherited.take(name)
            for fd, family in inherited:
                self._add(adopt(self._reactor, fd, family, self._factory), "http", name)
            for opened in () if inherited else self._own_sockets(settings.port, settings.interface):
                port = adopt(self._reactor, opened.detach(), opened.family, self._factory)
                self._add(port, "http", name)
        for description in settings.listen:
            self._open_endpoint(description)
        self._inherited.close_rest()

    def _own_sockets(self, port: int, interface: str | None) -> Iterable[socket.socket]:
        try:
            return open_sockets(port, interface)
        except OSError as error:
            raise _cannot_listen(_authority(interface or "0.0.0.0", port), error) from error

    def _open_endpoint(self, description: str) -> None:
        try:
            if description.startswith("ssl:"):
                endpoint = TlsEndpoint(
                    description,
                    self._reactor,
                    keep_keys=self._keep_keys,
                    peer_ca=self._loaded.settings.peer_ca,
                )
                factory = endpoint.wrap(self._factory)
                port = self._adopted(description, factory) or endpoint.listen(self._factory)
                self._tls[port] = endpoint
                self._add(port, "https", description)
            else:
                adopted = self._adopted(description, self._factory)
                if adopted is None:
                    outcome = serverFromString(self._reactor, description).listen(self._factory)
                    adopted = _result_of(outcome)
                self._add(adopted, "http", description)
        except CannotListenError as error:
            raise _cannot_listen(description, cast("OSError", error.socketError)) from error
        except (IndexError, KeyError) as error:
            # Twisted's own words for a socket that systemd did not hand over.
            reason = "systemd has handed over no such socket (see FileDescriptorName=)"
            raise CannotStart(f"cannot listen on {description}: {reason}") from error
        except Exception as error:
            raise CannotStart(f"cannot listen on {description}: {_said(error)}") from error

    def _adopted(self, description: str, factory: IProtocolFactory) -> IListeningPort | None:
        """Return the port that the process before this one had for an endpoint, if it had one."""
        for fd, family in self._inherited.take(description):
            return adopt(self._reactor, fd, family, factory)
        return None

    def _add(self, port: IListeningPort, scheme: str, name: str) -> None:
        self.ports.append(port)
        self._names[port] = name
        self._bound(port)
        self._log.info("listening on {where}", where=_shown(port, scheme))


def check_endpoints(loaded: Loaded, reactor: Any, *, given_sockets: bool) -> list[BadSetting]:
    """Say which endpoint strings Twisted cannot use, without listening on any.

    Args:
        loaded: has the strings.
        reactor: is given to Twisted's parsers, which do nothing with it.
        given_sockets: this process was given sockets by systemd, so
            that ``systemd:`` strings can be looked at too.
    """
    problems: list[BadSetting] = []
    for description in loaded.settings.listen:
        if description.startswith("systemd:") and not given_sockets:
            continue
        try:
            if description.startswith("ssl:"):
                TlsEndpoint(description, reactor, peer_ca=loaded.settings.peer_ca)
            else:
                serverFromString(reactor, description)
        except Exception as error:  # noqa: BLE001 - parsers raise whatever they like
            reason = f"{description}: {_said(error)}"
            problems.append(loaded.problem("listen", reason))
    return problems


def _result_of(outcome: Deferred[IListeningPort]) -> IListeningPort:
    """Take the result out of a Deferred that Twisted's own endpoints fire at once."""
    results: list[Any] = []
    outcome.addBoth(results.append)
    if not results:
        raise ValueError("this kind of endpoint does not listen at once")
    if isinstance(results[0], Failure):
        results[0].raiseException()
    return cast("IListeningPort", results[0])


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


def _cannot_listen(where: str, error: OSError) -> CannotStart:
    remedy = _REMEDIES.get(error.errno or 0, "")
    return CannotStart(f"cannot listen on {where}: {error.strerror}" + (remedy and f"; {remedy}"))


def _authority(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _shown(port: IListeningPort, scheme: str) -> str:
    host = port.getHost()
    if isinstance(host, IPv4Address | IPv6Address):
        shown = str(ipaddress.ip_address(host.host))
        return f"{scheme}://{_authority(shown, host.port)}/"
    if isinstance(host, UNIXAddress):
        return f"unix:{(host.name or b'').decode('utf-8', 'backslashreplace')}"
    return str(host)
