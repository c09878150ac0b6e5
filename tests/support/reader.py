"""Somebody who types what the documentation says, command by command, into a shell."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import time
from pathlib import Path

from tests.support.documents import Command
from tests.support.live import CHECKOUT, free_port
from tests.support.waiting import until

_MARK = "--- that was it"

#: ``make run`` is this, but for the set-up of ``.venv``; see the Makefile.
_MAKE_RUN = re.compile(r'^make run(?: ARGS="(?P<flags>[^"]*)")?(?: *#.*)?$')

#: A daemon in the foreground: the reader gives it a shell of its own.
_DAEMON = re.compile(r"^twistd .*\bdtfc\b(?!.*--(?:check-config|help))", re.DOTALL)

_SHORTENED = re.compile(r"(?P<begin>[0-9a-f]{4,})…(?P<end>[0-9a-f]{1,4})?")


#: What may be typed twice.
_READS = re.compile(r"^(?:dtfc verify|dtfc scrub|curl(?! .*(?:-T|-X|-d|-F|--data)))", re.DOTALL)
_SECONDS_TO_TYPE = 3.0


class Reader:
    """A shell in a folder of its own, on a machine where 8080 and so on are free.

    Args:
        folder: where it begins, with a ``.venv`` in it.
        ports: other ports, by what the documentation says.
    """

    def __init__(self, folder: Path, ports: dict[str, int] | None = None) -> None:
        self.folder = folder
        self._ports = {"8080": free_port(), "8081": free_port(), **(ports or {})}
        self._nodes: dict[str, subprocess.Popen[bytes]] = {}
        self._digests: dict[str, str] = {}
        (folder / ".venv").symlink_to((CHECKOUT / ".venv").resolve())
        self._environment = {
            **os.environ,
            "PATH": f"{folder}/.venv/bin:{os.environ['PATH']}:/usr/sbin:/sbin",
            "PYTHONPATH": str(CHECKOUT),
            "HOME": str(folder),
            # Without it dtfc asks 8080, which is another port here.
            "DTFC_NODE": f"http://localhost:{self._ports['8080']}",
        }
        self._shell = subprocess.Popen(
            ["bash", "--norc"],
            cwd=folder,
            env=self._environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def here(self, text: str) -> str:
        """Return a text with ports and folders as they are here."""
        for said, port in self._ports.items():
            text = re.sub(rf"\b{said}\b", str(port), text)
        for path in ("/tmp/", "/etc/dtfc", "/var/lib/dtfc", "/var/tmp/"):  # noqa: S108 -- said
            text = text.replace(path, f"{self.folder}{path}")
        return text

    def types(self, command: str) -> tuple[int, str]:
        """Type a command, and wait for its end; return its status and what was written."""
        command = self.here(command)
        made = _MAKE_RUN.match(command)
        if made is not None:
            command = f"twistd --nodaemon --pidfile= dtfc --basedir var {made['flags'] or ''}"
        if made is not None or _DAEMON.match(command):
            self._starts(command)
            return 0, ""
        assert self._shell.stdin is not None
        assert self._shell.stdout is not None
        self._shell.stdin.write(f"{command}\n_status=$?; echo; echo '{_MARK}' $_status\n")
        self._shell.stdin.flush()
        said = ""
        for line in self._shell.stdout:
            if line.startswith(_MARK):
                return int(line.split()[-1]), said.strip()
            said += line
        raise AssertionError(f"the shell has ended: {said}")

    def tries(self, command: Command) -> str:
        """Type a command, and compare what it writes; return what is wrong, empty if nothing is.

        A person takes a while to type: what only reads may be typed again for some seconds.
        """
        wrong = ""
        deadline = time.monotonic() + _SECONDS_TO_TYPE
        while True:
            status, said = self.types(command.text)
            wrong = f"it ended with {status}" if status else self.compare(command.output, said)
            again = _READS.match(command.text) and time.monotonic() < deadline
            if not wrong or not again:
                break
        return f"$ {command.text}\n{said}\nbut {wrong}:\n{command.output}" if wrong else ""

    def _starts(self, command: str) -> None:
        """Start a node, and wait until it answers."""
        found = re.search(r"(?:--port |tcp:)(\d+)", command)
        port = found[1] if found else str(self._ports["8080"])
        if not found and "--config" not in command:
            command += f" --port {port}"
        self._ends(port)
        root = " --allow-root" if os.geteuid() == 0 and "--allow-root" not in command else ""
        output = self.folder / f"node-{port}.log"
        with output.open("ab") as file:
            self._nodes[port] = subprocess.Popen(
                ["bash", "-c", f"exec {command}{root}"],
                cwd=self.folder,
                env=self._environment,
                stdout=file,
                stderr=subprocess.STDOUT,
            )
        until(lambda: _listens(int(port)), output.read_text)

    def _ends(self, port: str) -> None:
        node = self._nodes.pop(port, None)
        if node is not None:
            node.send_signal(signal.SIGTERM)
            node.wait(timeout=40)

    def closes(self) -> None:
        """End the shell and all nodes."""
        for port in list(self._nodes):
            self._ends(port)
        self._shell.kill()
        self._shell.communicate()

    def expects(self, said: str) -> re.Pattern[str]:
        """Return what the documentation says is written, as far as it is the same each time.

        Digests are shortened there, and one that comes again is the same again; times,
        lengths and what … stands for differ.
        """
        pattern = ""
        rest = self.here(said)
        parts = re.split(
            r"([0-9a-f]{4,}…(?:[0-9a-f]{1,4})?|…|\d{4}-\d\d-\d\dT[\d:.+]+|\w{3}, \d\d \w{3} \d{4} "
            r"[\d:]+ GMT|\d+\.\d+|\b\d{4,}\b|\s+)",
            rest,
        )
        for part in parts:
            if _SHORTENED.fullmatch(part):
                pattern += rf"(?P<{self._group(part)}>[0-9a-f]{{16,128}})"
            elif part == "…":
                pattern += r"[\s\S]*?"
            elif re.fullmatch(r"\d{4}-.*T.*", part):
                pattern += r"[0-9T:.+-]+"
            elif part.endswith(" GMT"):
                pattern += r"[\w:, ]+ GMT"
            elif re.fullmatch(r"\d+\.\d+|\d{4,}", part) and part not in map(
                str, self._ports.values()
            ):
                pattern += r"[\d.]+"
            elif part and not part.strip():
                pattern += r"\s*"
            else:
                pattern += re.escape(part)
        return re.compile(_once(pattern))

    @staticmethod
    def _group(shortened: str) -> str:
        return "d_" + shortened.replace("…", "_")

    def compare(self, said: str, was: str) -> str:
        """Return what is wrong with what was written; empty if nothing is."""
        if not said:
            return ""
        if said.startswith("HTTP/"):
            # Of the fields of an answer those that matter are shown.
            lines = [line for line in said.splitlines() if line]
            missing = [line for line in lines if self.expects(line).search(was) is None]
            return f"these lines are missing: {missing}" if missing else ""
        found = self.expects(said).search(was)
        if found is None:
            return "it does not look like that"
        for name, digest in found.groupdict().items():
            if self._digests.setdefault(name, digest) != digest:
                return f"{name} was {self._digests[name]} before, and is {digest} now"
        return ""


def _once(pattern: str) -> str:
    """Name each group where it comes first, and refer to it where it comes again."""
    seen: set[str] = set()

    def name(found: re.Match[str]) -> str:
        if found[1] in seen:
            return f"(?P={found[1]})"
        seen.add(found[1])
        return found[0]

    return re.sub(r"\(\?P<(\w+)>[^)]*\)", name, pattern)


def _listens(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0
