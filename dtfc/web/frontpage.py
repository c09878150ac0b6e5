"""The page for people: itself, its files, and the facts that it shows."""

from __future__ import annotations

import json
import math
from html import escape
from typing import TYPE_CHECKING, Any

from dtfc import __version__
from dtfc.access.verbs import Verb
from dtfc.errors import BadInput, DtfcError
from dtfc.http.problems import not_found, problem_for
from dtfc.media_types import safe_endings
from dtfc.web.words import amount, spell

if TYPE_CHECKING:
    from dtfc.web.assets import Assets
    from dtfc.web.gate import Gate
    from dtfc.web.overview import Overview
    from dtfc.web.request import Request

#: What the page may do: nothing but ask this node, show what it has made itself of an
#: answer (``blob:``), and run the scripts that came with it.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; "
    "media-src 'self' blob:; connect-src 'self'; form-action 'self'; frame-ancestors 'none'; "
    "base-uri 'none'; require-trusted-types-for 'script'"
)


class FrontPage:
    """Answers ``/``, ``/page/…`` and ``/status.json``.

    Args:
        assets: the page's files.
        overview: the facts.
        gate: who may know them.
    """

    def __init__(self, assets: Assets, overview: Overview, gate: Gate) -> None:
        self._assets = assets
        self._overview = overview
        self._gate = gate

    async def front(self, request: Request) -> None:
        """Answer with the page: a form, and the main facts for who may know them."""
        request.put("Content-Security-Policy", POLICY)
        # With no-referrer its form would be sent with Origin: null, and be nobody's.
        request.put("Referrer-Policy", "same-origin")
        request.put("Cross-Origin-Opener-Policy", "same-origin")
        request.put("Cache-Control", "no-store")
        try:
            await self._gate.let_in(request, Verb.GET)
        except DtfcError as error:
            told, why = {}, str(error)
        else:
            told, why = await self._overview.tell(since=math.inf), ""
        page = self._assets.index.substitute(_places(told, why))
        request.answer(200, page.encode("utf-8"), "text/html; charset=utf-8")

    def asset(self, request: Request, name: str) -> None:
        """Answer with a file of the page; everybody may have it."""
        asset = self._assets.others.get(name)
        if asset is None:
            request.problem(not_found(request.path.decode("latin-1")))
            return
        request.put("ETag", asset.etag)
        # Asked for anew each time, and sent only when it is another one.
        request.put("Cache-Control", "no-cache")
        known = ",".join(request.field("if-none-match")).replace("W/", "").split(",")
        if asset.etag in (each.strip() for each in known):
            request.answer(304)
            return
        request.answer(200, asset.body, asset.content_type)

    async def status(self, request: Request) -> None:
        """Answer with the facts."""
        await self._gate.let_in(request, Verb.GET)
        since = _moment(request.query("since"))
        why = await self._why_no_troubles(request)
        told = await self._overview.tell(since=since, troubles=not why)
        if why:
            told["problems_withheld"] = why
        request.put("Cache-Control", "no-store")
        body = json.dumps(told, ensure_ascii=False).encode("utf-8", "backslashreplace") + b"\n"
        request.answer(200, body, "application/json")

    async def _why_no_troubles(self, request: Request) -> str:
        """Say why the log is not for this request's sender; empty if it is.

        It tells of the inside, paths for one; so it is for who may change something.
        """
        try:
            await self._gate.let_in(request, Verb.PUT)
        except DtfcError as error:
            return problem_for(error).detail
        return ""


def _moment(given: str | None) -> float:
    try:
        moment = float(given or 0)
    except ValueError:
        moment = math.nan
    if math.isnan(moment):
        raise BadInput("since is a time in seconds since 1970")
    return moment


def _is_well(peer: dict[str, Any]) -> bool:
    """Whether a peer has not been found wanting; the page's scripts say the same."""
    silent = peer["failures"] > 0 and peer["first_byte"] is None
    return peer["state"] == "fine" or (peer["state"] == "unknown" and not silent)


def _places(told: dict[str, Any], why: str) -> dict[str, str]:
    """Return what is put into the page's places, as HTML."""
    store, node = told.get("store", {}), told.get("node", {})
    peers = told.get("peers", ())
    well = sum(map(_is_well, peers))
    unknown = "\N{EN DASH}"
    found = {
        "version": __version__,
        "state": ("Shutting down" if node.get("draining") else "Serving") if node else "Running",
        "why": why,
        "blobs": spell(store["blobs"]) if "blobs" in store else unknown,
        "bytes": amount(store["bytes"]) if "bytes" in store else unknown,
        "free": amount(store["free_bytes"]) if "free_bytes" in store else unknown,
        "total": f"of {amount(store['total_bytes'])}" if "total_bytes" in store else "",
        "peers": (f"{well} of {len(peers)} well" if peers else "none") if node else unknown,
        "trouble": store.get("trouble", ""),
        "shown": " ".join(safe_endings()),
    }
    hidden = {"why_hidden": "" if why else " hidden"}
    return {name: escape(value) for name, value in found.items()} | hidden
