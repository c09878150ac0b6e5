"""The command of users, and real nodes: what it prints, keeps and returns."""

from __future__ import annotations

import os
import pty
import random
import re
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from dtfc.cli.connecting import (
    DENIED,
    DONE,
    FAILED,
    INTERRUPTED,
    NOT_FOUND,
    USAGE,
    WRONG,
)
from tests.support.commanding import COMMAND, Command
from tests.support.live import MIB, LiveNode, sha512_of
from tests.support.waiting import until

CONTENT = random.Random(9).randbytes(24 * MIB + 11)
SLOW = ("--rate-per-address", "12M")

Live = Callable[..., LiveNode]


@pytest.fixture
def command(tmp_path: Path) -> Command:
    return Command(tmp_path / "user")


@pytest.fixture
def film(command: Command) -> Path:
    path = command.folder / "film.mp4"
    path.write_bytes(CONTENT)
    return path


def at(command: Command, node: LiveNode) -> Command:
    """Let a command ask this node."""
    command.environment["DTFC_NODE"] = node.url
    return command


def test_a_file_goes_and_comes(live: Live, command: Command, film: Path) -> None:
    at(command, live())

    put = command.run("put", "film.mp4")
    got = command.run("get", "film.mp4", "-o", "back")

    assert (put.returncode, put.stdout) == (DONE, f"{sha512_of(film)}  film.mp4\n".encode())
    assert (got.returncode, b"sha512 right" in got.stdout) == (DONE, True)
    assert (command.folder / "back").read_bytes() == CONTENT


def test_what_is_said_is_json_for_programs(live: Live, command: Command, film: Path) -> None:
    node = at(command, live()).environment["DTFC_NODE"]
    digest = sha512_of(film)

    (put,) = command.told("put", "film.mp4")
    (got,) = command.told("get", digest, "-o", "back")
    (row,) = command.told("ls", "film")
    (info,) = command.told("info", "film.mp4")
    (head,) = command.told("head", digest)
    (status,) = command.told("status")

    assert (put["sha512"], put["sent"]) == (digest, len(CONTENT))
    assert (got["sha512"], got["from"]) == (digest, {node: len(CONTENT)})
    assert (row["name"], row["sha512"], row["length"]) == ("film.mp4", digest, len(CONTENT))
    assert info["names"] == ["film.mp4"]
    assert (head["length"], head["name"]) == (len(CONTENT), "film.mp4")
    assert status["ready"] is True


def test_a_blob_goes_through_a_pipe(live: Live, command: Command) -> None:
    at(command, live())
    command.run("put", "-", "--name", "words.txt", feed=b"some words")

    got = command.run("get", "words.txt", "-o", "-")

    assert got.stdout == b"some words"


def test_several_nodes_send_at_once(live: Live, command: Command) -> None:
    nodes = [live("--rate-per-address", "20M") for _ in range(3)]
    digest = {node.put("film.mp4", CONTENT) for node in nodes}.pop()
    sources = [flag for node in nodes for flag in ("--from", node.url)]

    (got,) = command.told("get", digest, *sources)

    assert (command.folder / "film.mp4").read_bytes() == CONTENT
    assert set(got["from"]) == {node.url for node in nodes}


def test_exit_codes(live: Live, command: Command, tmp_path: Path) -> None:
    at(command, live())
    folder = tmp_path / "closed"

    codes = {
        "absent": command.run("get", "ab" * 64).returncode,
        "no such name": command.run("get", "no.txt").returncode,
        "usage": command.run("get", "a/b").returncode,
        "no option": command.run("get", "--nothing").returncode,
        "no node": command.run("ls", "--node", "http://127.0.0.1:1").returncode,
        "no file": command.run("put", str(folder)).returncode,
    }

    assert codes == {
        "absent": NOT_FOUND,
        "no such name": NOT_FOUND,
        "usage": USAGE,
        "no option": USAGE,
        "no node": FAILED,
        "no file": FAILED,
    }


def test_wrong_bytes_have_an_exit_code(command: Command) -> None:
    wrong = _Server(b"other bytes")
    try:
        got = command.run("get", "ab" * 64, "-o", "x", "--from", wrong.url)
    finally:
        wrong.close()

    assert (got.returncode, (command.folder / "x").exists()) == (WRONG, False)


class _Server:
    """Sends the same bytes whatever it is asked for."""

    def __init__(self, content: bytes) -> None:
        from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer  # noqa: PLC0415
        from threading import Thread  # noqa: PLC0415

        class Same(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(200)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_args: object) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Same)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = Thread(target=self._server.serve_forever)
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


def test_a_get_that_is_killed_goes_on(live: Live, command: Command) -> None:
    node = live(*SLOW)
    digest = node.put("film.mp4", CONTENT)
    at(command, node)
    getting = command.start("get", digest)
    _wait_for_state(command, 4 * MIB)
    getting.send_signal(signal.SIGKILL)
    getting.communicate()

    (got,) = command.told("get", digest)

    assert (command.folder / "film.mp4").read_bytes() == CONTENT
    assert got["resumed"] >= 4 * MIB
    assert sum(got["from"].values()) == len(CONTENT) - got["resumed"]


def _wait_for_state(command: Command, count: int) -> None:
    """Wait until the state of the part says that so many bytes are there."""
    from dtfc.store.progress import Progress  # noqa: PLC0415 -- reads what the command wrote

    part = command.folder / "film.mp4.dtfc-part"

    def ready() -> int:
        state = Progress.open(f"{part}.state", part.stat().st_ino) if part.exists() else None
        if state is None:
            return 0
        try:
            return state.known.ready
        finally:
            state.close()

    until(lambda: ready() >= count)


def test_a_node_that_is_killed_is_waited_for(live: Live, command: Command) -> None:
    node = live(*SLOW)
    digest = node.put("film.mp4", CONTENT)
    at(command, node)
    getting = command.start("get", digest)
    _wait_for_state(command, 2 * MIB)
    node.end(signal.SIGKILL)
    node.start()

    getting.communicate(timeout=60)

    assert getting.returncode == DONE
    assert (command.folder / "film.mp4").read_bytes() == CONTENT


def test_an_interrupted_get_says_how_to_go_on(live: Live, command: Command) -> None:
    node = live(*SLOW)
    digest = node.put("film.mp4", CONTENT)
    at(command, node)
    getting = command.start("get", digest)
    _wait_for_state(command, 2 * MIB)

    getting.send_signal(signal.SIGINT)
    _, said = getting.communicate(timeout=60)

    assert (getting.returncode, b"goes on there" in said) == (INTERRUPTED, True)
    assert b"Traceback" not in said


def test_on_a_terminal_it_shows_how_far_it_is(live: Live, command: Command) -> None:
    node = live(*SLOW)
    digest = node.put("film.mp4", CONTENT)
    at(command, node)
    ours, theirs = pty.openpty()
    try:
        done = subprocess.run(
            [*COMMAND, "get", digest],
            cwd=command.folder,
            env=command.environment,
            stdout=subprocess.PIPE,
            stderr=theirs,
            timeout=60,
            check=False,
        )
        os.close(theirs)
        shown = os.read(ours, 1 << 20).decode()
    finally:
        os.close(ours)

    lines = [each for each in shown.replace("\x1b[J", "").split("\r") if "%" in each]
    assert (done.returncode, len(lines) <= 5 * 30) == (DONE, True)
    assert all("film.mp4" in each and "MiB" in each for each in lines[:3])
    assert max(map(len, lines)) < 80


def test_without_a_terminal_it_shows_nothing(live: Live, command: Command) -> None:
    node = live(*SLOW)
    at(command, node)

    got = command.run("get", node.put("film.mp4", CONTENT[: 6 * MIB]))

    assert (got.returncode, got.stderr) == (DONE, b"")


def test_a_token_opens_a_private_node(live: Live, command: Command, tmp_path: Path) -> None:
    made = command.run("token", "new", "ada", "get,put", "--append", str(tmp_path / "tokens"))
    token = made.stdout.decode().strip()
    os.chmod(tmp_path / "tokens", 0o644)
    at(command, live("--private", "--tokens", str(tmp_path / "tokens"), "--allow-anonymous", ""))
    command.environment["DTFC_TOKEN"] = token

    put = command.run("put", "-", "--name", "a.txt", feed=b"secret words")
    got = command.run("get", "a.txt", "-o", "-")
    command.environment["DTFC_TOKEN"] = "some-other-token"  # noqa: S105 -- it opens nothing
    denied = command.run("get", "a.txt", "-o", "-")

    assert (put.returncode, got.stdout) == (DONE, b"secret words")
    assert (denied.returncode, b"token" in denied.stderr) == (DENIED, True)
    assert b"some-other-token" not in denied.stderr


def test_a_deletion_everywhere_shows_its_receipt(
    live: Live, command: Command, tmp_path: Path
) -> None:
    peers = tmp_path / "peers"
    second = live()
    peers.write_text(f"{second.url}/\n")
    node = live("--peerlist", str(peers))
    digest = node.put("x", b"data")
    second.put("x", b"data")
    at(command, node)

    (told,) = command.told("rm", digest, "--everywhere", "--wait")

    assert (told["status"], told["peers"][second.url]["state"]) == ("complete", "acknowledged")
    assert second.request("GET", f"/{digest}")[0] == 404


def test_a_name_of_several_blobs_is_not_deleted(live: Live, command: Command) -> None:
    node = live()
    digests = [node.put("x", content) for content in (b"one", b"two")]
    at(command, node)

    done = command.run("rm", "x")

    assert done.returncode == FAILED
    assert [node.request("HEAD", f"/{digest}")[0] for digest in digests] == [200, 200]


def uploaded(node: LiveNode) -> int:
    """How many bytes a node has of uploads that are not over."""
    folder = node.basedir / ".dtfc" / "uploads"
    return sum(each.stat().st_size for each in folder.iterdir() if not each.suffix)


def test_a_put_that_is_killed_goes_on(live: Live, command: Command, film: Path) -> None:
    node = live(*SLOW)
    at(command, node)
    putting = command.start("put", "film.mp4")
    until(lambda: uploaded(node) >= 3 * MIB)
    putting.send_signal(signal.SIGKILL)
    putting.communicate()

    (put,) = command.told("put", "film.mp4")

    assert put["sha512"] == sha512_of(film)
    assert put["sent"] <= len(CONTENT) - 3 * MIB
    assert list((command.folder / "state/dtfc/uploads").iterdir()) == []


def test_a_put_outlives_its_node(live: Live, command: Command, film: Path) -> None:
    node = live(*SLOW)
    at(command, node)
    putting = command.start("put", "film.mp4")
    until(lambda: uploaded(node) >= 3 * MIB)
    node.end(signal.SIGKILL)
    node.start()

    said, _ = putting.communicate(timeout=90)

    assert (putting.returncode, said.split()[0].decode()) == (DONE, sha512_of(film))


def test_what_is_there_already_is_not_sent(live: Live, command: Command, film: Path) -> None:
    at(command, live())
    command.run("put", "film.mp4")

    (again,) = command.told("put", "film.mp4")

    assert (again["sha512"], again["new"], again["sent"]) == (sha512_of(film), False, 0)


def test_a_mirror_copies_what_is_lacking(live: Live, command: Command) -> None:
    one, other = live(), live()
    digests = {name: one.put(name, name.encode() * 9) for name in ("a-1", "a-2", "a-3", "b-1")}
    large = one.put("a-film", CONTENT)
    other.put("a-1", b"a-1" * 9)
    other.put("a-3", b"a-3" * 9)
    other.request("DELETE", f"/{digests['a-3']}")

    *copied, last = command.told("mirror", one.url, other.url, "--name", "a-*")

    assert {each["copied"] for each in copied} == {"a-2", "a-film"}
    assert last["summary"] == {
        "looked_at": 4,
        "copied": 2,
        "length": len(CONTENT) + 27,
        "there": 1,
        "deleted": 1,
        "failed": 0,
    }
    absent = [digests["a-3"], digests["b-1"]]
    assert [other.request("HEAD", f"/{each}/nopeerload")[0] for each in absent] == [404, 404]
    assert other.request("GET", f"/{large}")[2] == CONTENT


def test_a_mirror_that_is_killed_goes_on(live: Live, command: Command) -> None:
    one, other = live(), live(*SLOW)
    digest = one.put("film.mp4", CONTENT)
    mirroring = command.start("mirror", one.url, other.url)
    until(lambda: uploaded(other) >= 3 * MIB)
    mirroring.send_signal(signal.SIGKILL)
    mirroring.communicate()

    done = command.run("mirror", one.url, other.url)

    received = re.search(
        rb"(?m)^dtfc_http_received_bytes_total (\S+)", other.request("GET", "/metrics")[2]
    )
    assert (done.returncode, done.stdout) == (DONE, f"{digest}  film.mp4\n".encode())
    # What had come was not sent again.
    assert received is not None
    assert float(received[1]) <= len(CONTENT) + MIB
