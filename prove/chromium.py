"""Chromium, told what to do over a pair of pipes: the DevTools protocol, without a library.

``--remote-debugging-pipe`` reads JSON on descriptor 3 and writes it on 4, each
message ended by a zero byte. No port is opened that a page could reach, too.
"""

from __future__ import annotations

import fcntl
import json
import os
import select
import shutil
import signal
import time
from base64 import b64encode
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

#: Seconds within which each command is answered, also on a busy machine.
_PATIENCE = 60.0

#: Without what a browser does for its maker, and without guards of its own that
#: would keep from the node what it is to be asked.
_FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    *("--disable-default-apps", "--disable-extensions", "--disable-popup-blocking"),
    *("--disable-client-side-phishing-detection", "--no-pings=false", "--mute-audio"),
    *("--no-proxy-server", "--password-store=basic", "--autoplay-policy=no-user-gesture-required"),
    (
        "--disable-features=HttpsUpgrades,HttpsFirstBalancedModeAutoEnable,LocalNetworkAccessChecks,"
        "BlockInsecurePrivateNetworkRequests,OptimizationHints,MediaRouter,Translate"
    ),
    "--remote-debugging-pipe",
)


@dataclass(frozen=True, slots=True)
class Said:
    """What a script wrote on the console.

    Args:
        text: that.
        script: the URL of the script; empty where the browser does not know.
    """

    text: str
    script: str


class Chromium:
    """One browser, with an empty profile.

    Args:
        folder: for the profile; made if it is not there.
        hosts: names that lead to this machine.
    """

    def __init__(self, folder: str, hosts: Iterable[str]) -> None:
        program = shutil.which("chromium")
        assert program is not None
        rules = ",".join(f"MAP {host} 127.0.0.1" for host in hosts)
        arguments = [program, *_FLAGS, f"--user-data-dir={folder}"]
        # Whatever else a page names leads nowhere.
        elsewhere = "MAP * ~NOTFOUND,EXCLUDE localhost,EXCLUDE 127.0.0.1"
        arguments += [f"--host-resolver-rules={rules},{elsewhere}"]
        ours, self._write = (_high(end) for end in os.pipe())
        self._read, theirs = (_high(end) for end in os.pipe())
        null = os.open(os.devnull, os.O_RDWR)
        actions = [(os.POSIX_SPAWN_DUP2, null, number) for number in (0, 1, 2)]
        actions += [(os.POSIX_SPAWN_DUP2, ours, 3), (os.POSIX_SPAWN_DUP2, theirs, 4)]
        self.pid = os.posix_spawn(
            program, [*arguments, "about:blank"], os.environ, file_actions=actions, setpgroup=0
        )
        for end in (ours, theirs, null):
            os.close(end)
        self._number = 0
        self._kept = bytearray()
        self._answers: dict[int, dict[str, Any]] = {}
        self.said: list[Said] = []
        #: Titles of all pages and frames, as they changed.
        self.titles: set[str] = set()
        #: What is to be answered in the place of a server, by URL.
        self.instead: dict[str, str] = {}
        #: URLs that pages asked for, where ``Network.enable`` was called.
        self.asked: list[str] = []
        self._loaded: set[str] = set()
        self._attach: dict[str, Any] = {
            "autoAttach": True,
            "waitForDebuggerOnStart": True,
            "flatten": True,
        }
        self.call("Target.setAutoAttach", **self._attach)
        self.call("Target.setDiscoverTargets", discover=True)
        self.call("Browser.setDownloadBehavior", behavior="deny")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        os.close(self._read)
        os.close(self._write)

    # -- messages -------------------------------------------------------------

    def call(self, method: str, session: str = "", **parameters: object) -> dict[str, Any]:
        """Have something done; return what the browser answers.

        Raises:
            AssertionError: it does not answer.
        """
        number = self._send(method, session, parameters)
        self.wait(lambda: number in self._answers)
        answer = self._answers.pop(number, None)
        assert answer is not None, f"Chromium does not answer {method}"
        result: dict[str, Any] = answer.get("result", {"error": answer.get("error")})
        return result

    def _send(self, method: str, session: str, parameters: dict[str, Any]) -> int:
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if session:
            message["sessionId"] = session
        left = memoryview(json.dumps(message).encode() + b"\0")
        while left:
            left = left[os.write(self._write, left) :]
        return self._number

    def wait(self, there: Callable[[], object], patience: float = _PATIENCE) -> bool:
        """Take what the browser says until something is so; return whether it came to be.

        Args:
            there: called without arguments; what is so when it returns something true.
            patience: seconds.
        """
        end = time.monotonic() + patience
        while not there():
            left = end - time.monotonic()
            if left <= 0:
                return False
            if not select.select([self._read], [], [], left)[0]:
                continue
            got = os.read(self._read, 1 << 20)
            assert got, "Chromium has ended"
            self._kept += got
            *whole, rest = self._kept.split(b"\0")
            self._kept = bytearray(rest)
            for message in whole:
                self._take(json.loads(message))
        return True

    def settle(self, seconds: float) -> None:
        """Take what the browser says for a while."""
        self.wait(lambda: False, seconds)

    def _take(self, message: dict[str, Any]) -> None:
        if "id" in message:
            self._answers[message["id"]] = message
            return
        session = message.get("sessionId", "")
        told = message["params"]
        match message["method"]:
            case "Target.attachedToTarget":
                # Frames of other sites, windows and workers: each stands still until heard.
                new = told["sessionId"]
                self._tell(new, "Runtime.enable")
                self._tell(new, "Page.enable")
                self._tell(new, "Target.setAutoAttach", **self._attach)
                self._tell(new, "Runtime.runIfWaitingForDebugger")
            case "Target.targetInfoChanged" | "Target.targetCreated":
                self.titles.add(told["targetInfo"]["title"])
            case "Runtime.consoleAPICalled":
                words = " ".join(str(each.get("value", "")) for each in told["args"])
                frames = told.get("stackTrace", {}).get("callFrames", [])
                self.said.append(Said(words, frames[0]["url"] if frames else ""))
            case "Network.requestWillBeSent":
                self.asked.append(told["request"]["url"])
            case "Log.entryAdded":
                # Where ``Log.enable`` was called: what the browser itself has to say.
                entry = told["entry"]
                self.said.append(Said(entry["text"], entry.get("url", "")))
            case "Page.loadEventFired":
                self._loaded.add(session)
            case "Page.javascriptDialogOpening":
                self._tell(session, "Page.handleJavaScriptDialog", accept=True)
            case "Fetch.requestPaused":
                self._answer_instead(session, told)

    def _tell(self, session: str, method: str, **parameters: object) -> None:
        # Nobody waits for its answer, and the session may be gone.
        self._send(method, session, parameters)

    def _answer_instead(self, session: str, told: dict[str, Any]) -> None:
        self._tell(
            session,
            "Fetch.fulfillRequest",
            requestId=told["requestId"],
            responseCode=200,
            responseHeaders=[{"name": "Content-Type", "value": "text/html"}],
            body=b64encode(self.instead[told["request"]["url"]].encode()).decode(),
        )

    # -- pages ----------------------------------------------------------------

    def page(self) -> Page:
        """Open an empty page."""
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for method in ("Page.enable", "Runtime.enable"):
            self.call(method, session)
        # It stands still for the session that came of itself.
        self.call("Runtime.runIfWaitingForDebugger", session)
        self.call("Target.setAutoAttach", session, **self._attach)
        return Page(self, target, session)

    def has_loaded(self, session: str) -> bool:
        """Whether a page has loaded since it was last sent anywhere."""
        return session in self._loaded

    def begin(self, session: str) -> None:
        """Forget that a page has loaded."""
        self._loaded.discard(session)

    def windows(self) -> list[str]:
        """Return the targets that are pages."""
        found = self.call("Target.getTargets")["targetInfos"]
        return [each["targetId"] for each in found if each["type"] == "page"]


@dataclass(frozen=True, slots=True)
class Page:
    """One page.

    Args:
        browser: that it is in.
        target: what the browser calls it.
        session: with it.
    """

    browser: Chromium
    target: str
    session: str

    def go(self, url: str, patience: float = 10.0) -> bool:
        """Go to a URL, and wait until it has loaded; return False if it is a download, or fails."""
        self.browser.begin(self.session)
        answer = self.browser.call("Page.navigate", self.session, url=url)
        if answer.get("errorText") or answer.get("isDownload"):
            return False
        return self.browser.wait(lambda: self.browser.has_loaded(self.session), patience)

    def run(self, script: str) -> Any:
        """Run a script in the page, and wait for what it promises; return its value."""
        answer = self.browser.call(
            "Runtime.evaluate", self.session, expression=script,
            awaitPromise=True, returnByValue=True, userGesture=True,
        )  # fmt: skip
        return answer.get("result", {}).get("value")

    def close(self) -> None:
        """Close it."""
        self.browser.call("Target.closeTarget", targetId=self.target)

    def put_in_place(self, url: str, html: str) -> None:
        """Answer a URL with a page of ours when this page asks for it, in the server's place."""
        self.browser.instead[url] = html
        self.browser.call("Fetch.enable", self.session, patterns=[{"urlPattern": url}])


def _high(end: int) -> int:
    """Move a descriptor to where it is in nobody's way."""
    moved = fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 10)
    os.close(end)
    return moved
