"""The metrics: their names, and that they count."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families
from twisted.internet.task import Clock

from dtfc.disk import InlineDisk
from dtfc.peers.picker import PeerStatus
from dtfc.peers.transfer import Counters
from dtfc.store.blobs import Store, open_store
from dtfc.web.metrics import Metrics
from dtfc.web.stalls import StallDetector
from tests.support.alone import upkeep_alone


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = open_store(str(tmp_path / "store"), fan_out=2)
    yield store
    store.close()


def values(metrics: Metrics) -> dict[str, float]:
    return {
        sample.name
        + "".join(f"{{{k}={v}}}" for k, v in sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(metrics.text().decode())
        for sample in family.samples
    }


def test_everything_is_counted(store: Store, new_wire: Callable[..., Any]) -> None:
    wire = new_wire(lambda request: request.answer(200, b"four", "text/plain"))
    loads = Counters(loaded=2, received_bytes=70)
    stalls = StallDetector(Clock())
    stalls.longest = 0.25
    intake = store.intake(None)
    intake.write([b"blob"])
    intake.commit("x")
    wire.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n" * 3)
    wire.send(b"nonsense\r\n\r\n")

    told = values(Metrics(wire.site, loads, store, stalls, upkeep_alone(store, InlineDisk())))

    expected = {
        "dtfc_http_requests_total{code=200}{method=GET}{route=front}": 3,
        "dtfc_http_requests_total{code=400}{method=-}{route=other}": 1,
        "dtfc_http_sent_bytes_total": 12,
        "dtfc_http_connections": 1,
        "dtfc_loads_total{result=loaded}": 2,
        "dtfc_loads_received_bytes_total": 70,
        "dtfc_store_blobs": 1,
        "dtfc_store_bytes": 4,
        "dtfc_loop_stall_seconds_max": 0.25,
    }
    assert {name: told.get(name) for name in expected} == expected


def test_nothing_tells_of_digests(store: Store, new_wire: Callable[..., Any]) -> None:
    wire = new_wire(lambda request: request.answer(200, b"", "text/plain"))
    wire.send(b"GET /" + b"ab" * 64 + b" HTTP/1.1\r\nHost: a\r\n\r\n")

    text = Metrics(
        wire.site, Counters(), store, StallDetector(Clock()), upkeep_alone(store, InlineDisk())
    ).text()

    assert b"abab" not in text


def test_each_peer_is_measured(store: Store, new_wire: Callable[..., Any]) -> None:
    fine = PeerStatus("http://a:1", "", 1, 0.25, 2e6, 0.0, False, 3, 0, 70, {"ok": 4})
    unknown = PeerStatus("http://b:1", "", 1, None, None, 12.5, True, 0, 2, 0)
    upkeep = upkeep_alone(store, InlineDisk())
    stalls = StallDetector(Clock())

    told = values(
        Metrics(new_wire().site, Counters(), store, stalls, upkeep, peers=lambda: (fine, unknown))
    )

    assert {name: value for name, value in told.items() if "{peer=" in name} == {
        "dtfc_peer_up{peer=http://a:1}": 1,
        "dtfc_peer_up{peer=http://b:1}": 0,
        "dtfc_peer_fetches_total{peer=http://a:1}{result=ok}": 4,
        "dtfc_peer_resting_seconds{peer=http://a:1}": 0.0,
        "dtfc_peer_resting_seconds{peer=http://b:1}": 12.5,
        "dtfc_peer_latency_seconds{peer=http://a:1}": 0.25,
        "dtfc_peer_rate_bytes{peer=http://a:1}": 2e6,
        "dtfc_peer_fetch_bytes_total{peer=http://a:1}": 70,
        "dtfc_peer_fetch_bytes_total{peer=http://b:1}": 0,
        "dtfc_peer_broken_total{peer=http://a:1}": 3,
        "dtfc_peer_broken_total{peer=http://b:1}": 0,
        "dtfc_peer_lies_total{peer=http://a:1}": 0,
        "dtfc_peer_lies_total{peer=http://b:1}": 2,
    }


def test_the_histogram_counts_what_was_answered(store: Store, new_wire: Callable[..., Any]) -> None:
    wire = new_wire(lambda request: request.answer(200, b"four", "text/plain"))
    wire.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n" * 3)
    upkeep = upkeep_alone(store, InlineDisk())
    told = values(Metrics(wire.site, Counters(), store, StallDetector(Clock()), upkeep))
    name = "dtfc_http_request_duration_seconds"
    assert [
        told[f"{name}_bucket{{le=0.001}}{{route=front}}"],
        told[f"{name}_bucket{{le=+Inf}}{{route=front}}"],
        told[f"{name}_count{{route=front}}"],
        told[f"{name}_sum{{route=front}}"],
    ] == [3, 3, 3, 0]
