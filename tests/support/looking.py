"""A page in Chromium, looked at: in light and dark, on a desk and on a phone, and by axe-core."""

from __future__ import annotations

import json
import os
import re
from base64 import b64decode
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prove.chromium import Chromium, Page
from tests.support.programs import require_npm_package

#: The folder that pictures are put into; a test's own where it is not set.
PICTURES = "DTFC_PICTURES"

#: Seconds for which something on the page is waited for.
PATIENCE = 30.0


@dataclass(frozen=True)
class View:
    """How a page is looked at.

    Args:
        name: for the picture's file.
        width: in CSS pixels.
        height: likewise.
        dark: whether the reader wants it dark.
        phone: whether it is one, with touch and small screen.
    """

    name: str
    width: int = 1280
    height: int = 900
    dark: bool = False
    phone: bool = False


DESK = View("desk")
DARK = View("dark", dark=True)
PHONE = View("phone", 390, 844, phone=True)
PHONE_DARK = View("phone-dark", 390, 844, dark=True, phone=True)


class Looking:
    """One page, and what can be done with it.

    Args:
        browser: that it is in.
        page: it.
        folder: for pictures.
    """

    def __init__(self, browser: Chromium, page: Page, folder: Path) -> None:
        self.browser = browser
        self.page = page
        self.folder = folder
        # Told with the bodies that it sends, the browser would say nothing else for minutes.
        self.do("Network.enable", maxPostDataSize=1)
        self.do("DOM.enable")
        self.do("Log.enable")

    def do(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Have the browser do something with the page."""
        answer = self.browser.call(method, self.page.session, **parameters)
        assert not answer.get("error"), answer
        return answer

    def view(self, view: View) -> None:
        """Look at it this way from now on."""
        self.do(
            "Emulation.setDeviceMetricsOverride",
            width=view.width,
            height=view.height,
            deviceScaleFactor=2 if view.phone else 1,
            mobile=view.phone,
        )
        self.do("Emulation.setTouchEmulationEnabled", enabled=view.phone)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if view.dark else "light"}
        still = {"name": "prefers-reduced-motion", "value": "reduce"}
        self.do("Emulation.setEmulatedMedia", features=[scheme, still])
        # Two frames: what hangs on the width is drawn by then.
        self.run("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")

    def go(self, url: str) -> None:
        """Go to a URL."""
        assert self.page.go(url, PATIENCE), url

    def run(self, script: str) -> Any:
        """Return the value of a script; what it throws fails the test."""
        answer = self.do(
            "Runtime.evaluate",
            expression=script,
            awaitPromise=True,
            returnByValue=True,
            userGesture=True,
        )
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def until(self, script: str, *, seconds: float = PATIENCE) -> None:
        """Wait until a script has a true value."""

        def so() -> bool:
            if self.run(f"Boolean({script})"):
                return True
            self.browser.settle(0.1)
            return False

        assert self.browser.wait(so, seconds), (script, self.text())

    def text(self) -> str:
        """Return what is to be read on the page."""
        return str(self.run("document.body.innerText"))

    def choose(self, selector: str, *files: Path) -> None:
        """Choose files, as with the browser's own dialog."""
        root = self.do("DOM.getDocument")["root"]["nodeId"]
        node = self.do("DOM.querySelector", nodeId=root, selector=selector)["nodeId"]
        self.do("DOM.setFileInputFiles", nodeId=node, files=[str(each) for each in files])

    def drop(self, *files: Path) -> None:
        """Drag files over the page, and drop them."""
        data = {"items": [], "files": [str(each) for each in files], "dragOperationsMask": 1}
        for kind in ("dragEnter", "dragOver", "drop"):
            self.do("Input.dispatchDragEvent", type=kind, x=300, y=300, data=data)

    def press(self, key: str, *, code: int) -> None:
        """Press a key."""
        text = {"text": "\r"} if key == "Enter" else {}
        for kind in ("keyDown", "keyUp"):
            more = text if kind == "keyDown" else {}
            named = {"type": kind, "key": key, "code": key, "windowsVirtualKeyCode": code}
            self.do("Input.dispatchKeyEvent", **named, **more)

    def slowly(self, *, up: float = -1, down: float = -1) -> None:
        """Let no more bytes a second come and go from now on; -1: as many as do."""
        self.do(
            "Network.emulateNetworkConditions",
            offline=False,
            latency=0,
            downloadThroughput=down,
            uploadThroughput=up,
        )

    def picture(self, name: str) -> Path:
        """Take a picture of all of the page."""
        size = self.do("Page.getLayoutMetrics")["cssContentSize"]
        clip = {"x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1}
        shot = self.do("Page.captureScreenshot", captureBeyondViewport=True, clip=clip)
        path = self.folder / f"{name}.png"
        path.write_bytes(b64decode(shot["data"]))
        return path

    def sideways(self) -> int:
        """Return by how many pixels the page is wider than the screen."""
        return int(self.run("document.documentElement.scrollWidth - innerWidth"))

    def violations(self) -> list[str]:
        """Return what axe-core finds wrong with the page."""
        script = Path(require_npm_package("axe-core"), "axe-core", "axe.min.js").read_text()
        # Past the page's own policy, as the developer's tools are.
        self.run(f"{script}; undefined")
        found = self.run(
            "axe.run(document, {resultTypes: ['violations']}).then(found => JSON.stringify("
            "found.violations.map(each => ({rule: each.id, help: each.help,"
            " nodes: each.nodes.map(node => node.html.slice(0, 160) + ' | ' +"
            " node.failureSummary)}))))"
        )
        return [json.dumps(each, indent=1) for each in json.loads(found)]

    def complaints(self) -> list[str]:
        """Return what scripts and the browser wrote on the console: errors, policies broken."""
        return [f"{each.text} ({each.script})" for each in self.browser.said]

    def elsewhere(self, url: str) -> list[str]:
        """Return what the page asked for that was not below a URL."""
        inside = re.compile(rf"{re.escape(url)}(/|$)|blob:{re.escape(url)}/|data:|about:|chrome")
        return [each for each in self.browser.asked if not inside.match(each)]


@contextmanager
def looking(browser: Chromium, folder: Path) -> Iterator[Looking]:
    """Open a page in a browser; what was asked and said before is forgotten."""
    pictures = Path(os.environ.get(PICTURES) or folder / "pictures")
    pictures.mkdir(parents=True, exist_ok=True)
    browser.asked.clear()
    browser.said.clear()
    page = browser.page()
    try:
        yield Looking(browser, page, pictures)
    finally:
        page.close()
