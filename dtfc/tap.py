"""twistd's door: options, then settings, then services.

Rules of this file: it wires and decides nothing. It is the one reader of the
global reactor, of the environment and of the current folder.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NoReturn

from twisted.application.service import MultiService
from twisted.python import usage

from dtfc import __version__
from dtfc.couchdb.prefetchrules import read_rules
from dtfc.daemon.crew import Crew
from dtfc.daemon.handover import PidFile, Predecessor, Succession, inherit
from dtfc.daemon.lifecycle import Daemon, ProcessSignals
from dtfc.daemon.listen import Listening, check_endpoints
from dtfc.daemon.logs import LoggedLines
from dtfc.daemon.notify import Notifier
from dtfc.daemon.place import spawner
from dtfc.daemon.privileges import choose_identity
from dtfc.daemon.trial import see_python, try_store
from dtfc.errors import BadSetting, BadSettings
from dtfc.logfile import ReopenableFile
from dtfc.peers.certificates import read_authorities, read_own
from dtfc.peers.listing import parse_roster
from dtfc.peers.roster import Roster
from dtfc.peers.secretfile import URL_SECRETS, read_secrets
from dtfc.replicas.filterfile import read_filter
from dtfc.settings import TABLE, Loaded, Settings, load
from dtfc.settings.declaring import Setting
from dtfc.settings.reading import unknown
from dtfc.settings.table import BY_NAME
from dtfc.steady import Dated, keep_steady
from dtfc.web.tokenfile import read_tokens

BAD_USAGE = 2


def _help(setting: Setting) -> str:
    if setting.is_switch:
        return setting.help
    return f"{setting.help} [default: {setting.shown_default}]"


def _adds(setting: Setting) -> Callable[[usage.Options, str], None]:
    """Make the method of a flag that may be given several times."""

    def add(options: usage.Options, value: str) -> None:
        options.setdefault(setting.name, []).append(value)

    add.__doc__ = _help(setting)
    return add


class Options(usage.Options):
    """dtfc's flags, as text: :mod:`dtfc.settings` parses them, together with the file."""

    synopsis = "[options]"
    longdesc = "A content-addressed HTTP mirror that loads what it lacks from its peers."
    optFlags = [  # noqa: N815, RUF012 - Twisted's own way to declare
        [each.name, each.short or None, _help(each)] for each in TABLE if each.is_switch
    ]
    optParameters = [  # noqa: N815, RUF012 - Twisted's own way to declare
        [each.name, each.short or None, None, _help(each)]
        for each in TABLE
        if not each.is_switch and not each.many
    ]

    def parseOptions(self, options: Sequence[str] | None = None) -> None:  # noqa: N802 - Twisted's name
        """Parse; what is no flag is answered in one line, not with two pages of help."""
        try:
            usage.Options.parseOptions(self, options)
        except usage.UsageError as error:
            refuse(_explained(str(error)))

    def postOptions(self) -> None:  # noqa: N802 - Twisted's name
        """Answer ``--check-config``: here already, as twistd next looks for a running daemon."""
        if self["check-config"]:
            _check(self)

    def opt_version(self) -> NoReturn:
        """Show dtfc's version and exit."""
        sys.stdout.write(f"dtfc {__version__}\n")
        sys.exit(0)


for _each in TABLE:
    if _each.many:
        setattr(Options, f"opt_{_each.attribute}", _adds(_each))


def makeService(options: Options) -> MultiService:  # noqa: N802 - Twisted's name
    """Make everything that twistd is to run.

    Args:
        options: parsed; their parent are twistd's own.

    Raises:
        SystemExit: with 2, after a line for each thing that is wrong.
    """
    from twisted.internet import reactor  # noqa: PLC0415 - twistd's --reactor has chosen by now

    keep_steady(reactor)
    parent = options.parent if options.parent is not None else {}
    inherited = inherit(os.environ)
    read = partial(load, dict(options), dict(os.environ), os.getcwd())
    try:
        loaded = read()
        identity = choose_identity(loaded, parent.get("uid"), parent.get("gid"), os.geteuid())
        settings = loaded.settings
        log = ReopenableFile(settings.log) if settings.log is not None else None
        node: Any = (_crew if settings.workers > 1 else _node)(settings, reactor, log)
    except BadSettings as error:
        refuse(*error.problems)
    except BadSetting as error:
        refuse(error)
    if identity is not None and options.parent is not None:
        # twistd sheds privileges by these, after the privileged step.
        options.parent["uid"], options.parent["gid"] = identity.uid, identity.gid
    listening = Listening(
        loaded,
        reactor,
        node.site,
        node.listening,
        keep_keys=settings.workers > 1,
        inherited=inherited,
    )
    if isinstance(node, Crew):
        node.keys_of = listening.keys_of
    daemon = Daemon(
        loaded,
        read=read,
        reactor=reactor,
        node=node,
        listening=listening,
        notifier=Notifier(os.environ, os.getpid()),
        signals=ProcessSignals(reactor),
        succession=Succession(
            reactor,
            [sys.executable, *sys.orig_argv[1:]],
            os.environ,
            listening.sockets,
            PidFile(parent),
        ),
        predecessor=Predecessor if inherited.sockets else None,
        log=log,
        identity=identity,
    )
    node.setServiceParent(daemon)
    listening.setServiceParent(daemon)
    return daemon


def _node(settings: Settings, reactor: Any, log: ReopenableFile | None) -> Any:
    # Everything is imported before privileges are shed: the user that the
    # process becomes may not be able to read it.
    from dtfc.node import Node  # noqa: PLC0415 - --help and --check-config do without

    return Node(settings, Dated(reactor), (log or LoggedLines()).lines)


def _crew(settings: Settings, reactor: Any, log: ReopenableFile | None) -> Crew:
    def check(fresh: Settings) -> None:
        Roster(fresh.peerlist, me=fresh.me, melist=fresh.melist)
        read_secrets(fresh.peer_secret_file)
        read_secrets(fresh.url_secret_file, URL_SECRETS)
        read_tokens(fresh.tokens)
        read_authorities(fresh.peer_ca)
        read_own(fresh.peer_cert, fresh.peer_key)
        read_filter(fresh.replica_filter)

    def attempt(settings: Settings) -> None:
        see_python()
        try_store(settings)

    return Crew(
        settings,
        reactor,
        check=check,
        log_fd=lambda: log.fd if log is not None else None,
        attempt=attempt,
        spawn=spawner(reactor, dict(os.environ)),
    )


def refuse(*problems: BadSetting) -> NoReturn:
    """Print each problem in a line and exit with 2."""
    for problem in problems:
        sys.stderr.write(f"dtfc: {problem}\n")
    sys.exit(BAD_USAGE)


def _check(options: Options) -> NoReturn:
    from twisted.internet import reactor  # noqa: PLC0415 - twistd's --reactor has chosen by now

    try:
        loaded = load(dict(options), dict(os.environ), os.getcwd())
    except BadSettings as error:
        refuse(*error.problems)
    problems = _found_by_looking(loaded, reactor)
    if problems:
        refuse(*problems)
    sys.stdout.write("configuration is fine\n")
    sys.exit(0)


def _found_by_looking(loaded: Loaded, reactor: Any) -> list[BadSetting]:
    """Look at what settings name: endpoints, certificates, the peer list."""
    problems = check_endpoints(loaded, reactor, given_sockets="LISTEN_FDS" in os.environ)
    for name in ("peerlist", "melist"):
        path = getattr(loaded.settings, name)
        if path is None:
            continue
        try:
            with open(path, encoding="utf-8", errors="replace") as file:
                content = file.read()
        except OSError as error:
            problems.append(loaded.problem(name, f"{path}: {error.strerror}"))
            continue
        if name == "peerlist":
            _, bad = parse_roster(content, path)
            problems += [BadSetting(f"{path}:{line.number}", line.reason) for line in bad]
    try:
        read_rules(loaded.settings.couchdb_prefetch, loaded.settings.couchdb_db)
    except BadSetting as error:
        problems.append(loaded.problem("couchdb-prefetch", error.reason))
    for name in ("peer-secret-file", URL_SECRETS):
        try:
            read_secrets(getattr(loaded.settings, name.replace("-", "_")), name)
        except BadSetting as error:
            problems.append(loaded.problem(name, error.reason))
    for read, path in (
        (read_tokens, loaded.settings.tokens),
        (read_filter, loaded.settings.replica_filter),
    ):
        try:
            read(path)
        except BadSettings as error:
            problems += [
                loaded.problem(each.where, each.reason) if each.where in BY_NAME else each
                for each in error.problems
            ]
    return problems


def _explained(message: str) -> BadSetting:
    """Turn what getopt says into a problem like any other, with the flag that was meant."""
    if match := re.fullmatch(r"option --([^ ]+) not recognized", message):
        return BadSetting(f"--{match[1]}", unknown(match[1]))
    if match := re.fullmatch(r"option (-\S+) (requires argument)", message):
        return BadSetting(match[1], "needs a value")
    return BadSetting("command line", message)
