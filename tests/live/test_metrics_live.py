"""A node that has done a bit of everything, asked for its metrics."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from dtfc.web.metricnames import TABLE
from tests.live.test_catalog_live import Sites
from tests.live.test_couchdb_live import Pouch, pouch
from tests.support.live import LiveNode
from tests.support.programs import require_program
from tests.support.waiting import until

__all__ = ["pouch"]

Live = Callable[..., LiveNode]


def text_of(node: LiveNode) -> str:
    status, _, body = node.request("GET", "/metrics")
    assert status == 200, body
    return body.decode()


def names(text: str) -> set[str]:
    """The names of families, counters' with ``_total``."""
    return {
        f"{each.name}_total" if each.type == "counter" else each.name
        for each in text_string_to_metric_families(text)
    }


def value(text: str, name: str, **labels: str) -> float:
    """The sum of all samples of a name that have these labels."""
    return sum(
        sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == name and labels.items() <= sample.labels.items()
    )


def do_a_bit_of_everything(first: LiveNode, second: LiveNode) -> None:
    """Store, read, load, copy, delete, refuse, reload."""
    large = os.urandom(3_000_000)
    digest = first.put("much-data", large)
    assert second.request("GET", f"/{digest}")[2] == large
    assert second.request("GET", f"/{digest}", Range="bytes=5-9")[0] == 206
    assert first.request("GET", f"/{digest}")[2] == large
    assert first.request("GET", f"/{digest}")[2] == large
    assert first.request("GET", f"/{'0' * 128}")[0] == 404
    assert first.request("GET", "/no/such/thing")[0] == 404
    assert first.request("GET", f"/{digest}/info")[0] == 200
    assert first.request("PUT", "/x", b"x", X_Forwarded_For="192.0.2.1")[0] in (401, 403)
    assert first.request("DELETE", f"/{first.put('small', b'small')}/allpeers")[0] == 202
    os.kill(first.pid, signal.SIGHUP)
    until(
        lambda: value(text_of(first), "dtfc_reloads_total", result="ok") == 1,
        lambda: text_of(first),
    )


def two_nodes(live: Live, tmp_path: Path, *flags: str) -> tuple[LiveNode, LiveNode]:
    lists = [tmp_path / "first", tmp_path / "second"]
    nodes = [live("--peerlist", str(each), *flags, begin=False) for each in lists]
    for node, other, listed in zip(nodes, nodes[::-1], lists, strict=True):
        listed.write_text(f"{other.url}/\n")
        node.flags += ["--me", f"{node.url}/"]
    return nodes[0].start(), nodes[1].start()


def check(text: str) -> None:
    """Have Prometheus' own tool look at it."""
    ran = subprocess.run(
        [require_program("promtool"), "check", "metrics"],
        input=text,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (ran.returncode, ran.stdout + ran.stderr) == (0, "")


def test_all_that_a_node_alone_tells(live: Live, tmp_path: Path) -> None:
    first, second = two_nodes(live, tmp_path, "--replicas", "2")
    do_a_bit_of_everything(first, second)
    text = text_of(first)
    check(text)
    wanted = {
        each.exposed
        for each in TABLE
        if not each.when or "replicas" in each.when or "Linux" in each.when
    }
    assert names(text) == wanted


def test_what_was_done_is_counted(live: Live, tmp_path: Path) -> None:
    first, second = two_nodes(live, tmp_path)
    do_a_bit_of_everything(first, second)
    at_first, at_second = text_of(first), text_of(second)
    duration = "dtfc_http_request_duration_seconds_count"
    found = {
        "blobs": value(at_first, "dtfc_http_requests_total", route="blob", method="GET"),
        "timed": value(at_first, duration, route="blob")
        == value(at_first, "dtfc_http_requests_total", route="blob"),
        "stored": value(at_first, "dtfc_store_blobs"),
        "denied": value(at_first, "dtfc_auth_checks_total", result="denied")
        + value(at_first, "dtfc_auth_checks_total", result="unauthenticated"),
        "loaded": value(at_second, "dtfc_loads_total", result="loaded"),
        "fetched": value(at_second, "dtfc_peer_fetch_bytes_total", peer=first.url),
        "fetches": value(at_second, "dtfc_peer_fetches_total", result="ok"),
        "up": value(at_second, "dtfc_peer_up"),
        "limit": value(at_first, "dtfc_store_limit_bytes")
        > value(at_first, "dtfc_store_bytes") + 1_000_000,
    }
    assert found == {
        "blobs": 3 + 1,
        "timed": True,
        "stored": 1,
        "denied": 1,
        "loaded": 1,
        "fetched": 3_000_000,
        "fetches": 1,
        "up": 1,
        "limit": True,
    }


def test_a_hot_hit_is_counted_with_what_it_took(live: Live) -> None:
    node = live()
    digest = node.put("x", b"x" * 100_000)

    def is_hot() -> bool:
        assert node.request("GET", f"/{digest}")[0] == 200
        return value(text_of(node), "dtfc_http_hot_hits_total") >= 1

    # What has just changed is not kept open yet.
    until(is_hot)
    text = text_of(node)
    timed = value(text, "dtfc_http_request_duration_seconds_count", route="blob")
    assert timed == value(text, "dtfc_http_requests_total", route="blob")


def test_no_label_tells_of_what_is_kept(live: Live, tmp_path: Path) -> None:
    first, second = two_nodes(live, tmp_path)
    do_a_bit_of_everything(first, second)
    digest = first.put("photo-of-ada", b"photo")
    assert first.request("GET", f"/{digest}/photo-of-ada")[0] in (200, 404, 405)
    assert not any(each in text_of(first) for each in (digest, "photo-of-ada", "much-data"))


def test_all_that_workers_tell(live: Live) -> None:
    node = live("--workers", "2")
    node.put("x", b"x")
    text = text_of(node)
    check(text)
    workers = {each.exposed for each in TABLE if "workers" in each.when}
    assert workers <= names(text)


def test_all_that_is_told_beside_couchdb(live: Live, pouch: Pouch, tmp_path: Path) -> None:
    sites = Sites(live, pouch, tmp_path)
    sites.database("names")
    sites.database("photos")
    node = sites.node("names", begin=False)
    node.flags += ["--couchdb-db", "photos", "--couchdb-prefetch", "all"]
    node.start()
    couchdb = {each.exposed for each in TABLE if "couchdb" in each.when}
    until(lambda: couchdb <= names(text_of(node)), lambda: couchdb - names(text_of(node)))
    check(text_of(node))
