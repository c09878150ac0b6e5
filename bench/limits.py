"""Rows about what stays small: memory (9), the start (10), the longest stall of the loop (11)."""

from __future__ import annotations

import contextlib
import glob
import os
import random
import shutil
import time
from collections.abc import Iterator, Sequence

from bench import servers
from bench.compare import Row, Target
from bench.load import Pulling, Wrong, pulled
from bench.servers import Server
from bench.stage import GIB, KIB, MIB, Stage, drop_caches, sha512
from dtfc.digest import Digest
from dtfc.store.blobs import open_store
from dtfc.store.layout import Layout, open_layout

_PUTS, _GETS = 16, 64
_WHOLE_SECONDS = 900.0
_SMALL = 4 * KIB
_PROBE_MICROS = 5000


# -- memory -----------------------------------------------------------------------


def memory(stage: Stage) -> Iterator[Row]:
    """Row 9: many large bodies in both directions at once."""
    quick = stage.options.quick
    body = 64 * MIB if quick else 2 * GIB
    room = shutil.disk_usage(stage.workdir).free - 4 * GIB
    fits = min(body, room // _PUTS // MIB * MIB)
    if fits < 16 * MIB:
        raise Wrong(f"{_PUTS} bodies of {body // MIB} MiB do not fit on the disk")
    blob = stage.blobs["big"]
    row = Row(
        "9",
        f"peak RSS: {_PUTS} PUTs of {fits // MIB} MiB and {_GETS} GETs of {stage.options.size}",
        "MiB",
        target=Target("<=", 150, of="value"),
    )
    if fits < body:
        row.note = f"bodies of {body // MIB} MiB do not fit on the disk"
    # In the store of its own that it fills; what it serves is put there first.
    with stage.scratch("memory") as basedir, stage.dtfc("9", basedir) as server:
        row.extra["at_rest"] = server.peak_rss()
        pulled(
            server.port, "/large.bin", "-F", stage.source, "-n1", seconds=_WHOLE_SECONDS, whole=True
        )
        row.extra["after_one_put"] = server.peak_rss()
        path = f"/{sha512(stage.source)}"
        puts = [f"-c{_PUTS}", f"-n{_PUTS}", f"-P{fits}"]
        gets = [f"-c{_GETS}", f"-n{_GETS}", f"-b{blob.length}"]
        with (
            Pulling(server.port, "/many-", puts, seconds=_WHOLE_SECONDS) as putting,
            Pulling(server.port, path, gets, seconds=_WHOLE_SECONDS) as getting,
        ):
            got, put = getting.result(), putting.result()
        if not (got.complete and put.complete):
            raise Wrong(f"not all bodies went through within {_WHOLE_SECONDS:.0f} s")
        row.ours.append(server.peak_rss())
        row.extra["get_mib_per_second"] = got.mib_per_second
        row.extra["put_mib_per_second"] = put.mib_per_second
    yield row


# -- the start -----------------------------------------------------------------------


def start(stage: Stage) -> Iterator[Row]:
    """Row 10: how long a start takes, and whether a GET is slower where there is more."""
    many = 10_000 if stage.options.quick else 100_000
    few, much = stage.folder("few"), stage.folder("many")
    some, all_ = _fill(few, 100), _fill(much, many)
    began = time.monotonic()
    for basedir in (few, much):
        _index(basedir)
    indexed = time.monotonic() - began
    row = Row(
        "10",
        f"start with {many:,} blobs; beside: with 100",
        "s",
        "the same with 100",
        target=Target("<=", 1.5, of="value"),
    )
    row.measure_pairs(
        stage.options.pairs,
        lambda _number: _started(stage, much),
        lambda _number: _started(stage, few),
    )
    row.extra["reindex_s"] = indexed
    yield row
    yield from _latencies(stage, few, much, some, all_)
    yield _without_catalog(stage, much, many)


def _fill(basedir: str, count: int) -> list[Digest]:
    """Write a store of small blobs as the daemon would leave it, but for the fsyncs."""
    layout = open_layout(basedir, 2)
    # The same hundred first, so that both stores have them.
    return [_write(layout, number) for number in range(count)]


def _write(layout: Layout, number: int) -> Digest:
    body = f"{number:016d}".encode("ascii") * (_SMALL // 16)
    digest = Digest.of(body)
    folder = layout.folder(digest)
    os.makedirs(folder, mode=0o700, exist_ok=True)
    with open(layout.data(digest), "wb") as file:
        file.write(body)
    with open(layout.names(digest), "wb") as file:
        file.write(f"blob-{number}.bin\n".encode("ascii"))
    return digest


def _index(basedir: str) -> None:
    """Leave the catalog as a clean shutdown does."""
    store = open_store(basedir, fan_out=2)
    try:
        store.reindex()
        if store.needs_reindex:
            raise Wrong("the catalog is not complete after a reindex")
    finally:
        store.close()


def _started(stage: Stage, basedir: str) -> float:
    with servers.dtfc(stage.folder("dtfc"), basedir) as server:
        return server.ready()


def _latencies(
    stage: Stage, few: str, much: str, some: Sequence[Digest], all_: Sequence[Digest]
) -> Iterator[Row]:
    """Median latency of a GET by one client."""
    hot = Row(
        "10b",
        f"GET 4 KiB, one of 100 hot blobs among {len(all_):,}: median latency",
        "µs",
        "among 100",
    )
    spread = Row("10c", f"the same, any of {len(all_):,}", "µs", "among 100")
    folder = stage.folder("paths")
    lists = {}
    for name, digests in (("some", some), ("all", all_)):
        lists[name] = os.path.join(folder, name)
        with open(lists[name], "w", encoding="ascii") as file:
            file.writelines(f"/{digest.hex}\n" for digest in digests)

    def median_of(server: Server, which: str, seed: int) -> float:
        options = ("-l", lists[which], "-R", f"-s{seed}", f"-b{_SMALL}")
        return pulled(server.port, "/", *options, seconds=stage.options.seconds).p50

    with stage.dtfc("10", few) as small, stage.dtfc("10", much) as large:
        for server in (small, large):
            median_of(server, "some", 0)
        for number in range(1, stage.options.pairs + 1):
            reference = median_of(small, "some", number)
            hot.theirs.append(reference)
            hot.ours.append(median_of(large, "some", number))
            spread.theirs.append(reference)
            spread.ours.append(median_of(large, "all", number))
    hot.target = Target("<=", 1.1)
    hot.note = "equal within noise is meant; more than a tenth is taken as more than noise"
    yield hot
    yield spread


def _without_catalog(stage: Stage, basedir: str, count: int) -> Row:
    """The start of a store whose catalog is lost: it is made anew while the node serves."""
    row = Row("10d", f"start with {count:,} blobs and no catalog", "s")
    for _ in range(stage.options.pairs):
        for path in glob.glob(f"{basedir}/.dtfc/catalog/*"):
            os.unlink(path)
        with servers.dtfc(stage.folder("dtfc"), basedir) as server:
            row.ours.append(server.ready())
            row.extra["first_get_ms"] = _first_get(server)
    return row


def _first_get(server: Server) -> float:
    """Return how long /livez takes while the catalog is made, in milliseconds."""
    began = time.monotonic()
    server.get("/livez", timeout=60)
    return (time.monotonic() - began) * 1000


# -- the loop --------------------------------------------------------------------------


def stall(stage: Stage) -> Iterator[Row]:
    """Row 11: everything at once, the cache dropped twice, and who waits how long for a word."""
    seconds = 6.0 if stage.options.quick else 40.0
    blob = stage.blobs["big"]
    file = os.path.join(stage.www, blob.file)
    path = f"/{blob.digest.hex}"
    small = stage.blobs["small"]
    loads = (
        (path, ["-c4", f"-b{blob.length}"]),
        (path, ["-c16", f"-r{64 * KIB}:{blob.length}", "-s7"]),
        ("/stall-", ["-c2", f"-P{32 * MIB}", f"-s{random.getrandbits(40)}"]),
        ("/stall-small-", ["-c4", f"-P{_SMALL}", f"-s{random.getrandbits(40)}"]),
    )
    outside = Row(
        "11b", "slowest /livez of one each 5 ms under that load", "ms", "an idle nginx, probed too"
    )
    probe = [f"-i{_PROBE_MICROS}"]
    with (
        contextlib.ExitStack() as pulling,
        stage.dtfc("11", stage.hot_store) as server,
        stage.nginx() as idle,
    ):
        everything = drop_caches(file)
        probes = [
            pulling.enter_context(Pulling(port, target, probe, seconds=seconds))
            for port, target in ((server.port, "/livez"), (idle.port, small.at(idle)))
        ]
        running = [
            pulling.enter_context(Pulling(server.port, where, options, seconds=seconds - 0.5))
            for where, options in loads
        ]
        time.sleep(seconds / 2)
        drop_caches(file)
        for each in running:
            each.result()
        ours, theirs = (each.result() for each in probes)
    outside.ours.append(ours.max / 1000)
    outside.theirs.append(theirs.max / 1000)
    for name, sample in (("ours", ours), ("theirs", theirs)):
        outside.extra |= {
            f"{name}_p50_ms": sample.p50 / 1000,
            f"{name}_p99_ms": sample.p99 / 1000,
            f"{name}_p999_ms": sample.p999 / 1000,
        }
    outside.note = (
        f"p50 {ours.p50 / 1000:.1f}, p99 {ours.p99 / 1000:.1f}, p99.9 {ours.p999 / 1000:.1f} ms,"
        f" nginx p99.9 {theirs.p999 / 1000:.1f} ms; it includes waiting for a CPU and for all"
        " other connections' turns, so it is no less than a stall"
        + ("" if everything else "; only the blob's own pages could be dropped (not root)")
    )
    told = stage.longest_stalls
    row = Row(
        "11",
        "longest stall of the loop, over all rows",
        "ms",
        target=Target("<=", 20, of="value"),
    )
    if told:
        row.ours.append(max(told.values()) * 1000)
        row.extra = {f"row_{key}_ms": value * 1000 for key, value in told.items()}
        worst = max(told, key=lambda key: told[key])
        row.note = f"what the daemons' own detectors said; the longest in row {worst}"
        if stage.longest_own_stalls:
            own = max(stage.longest_own_stalls.values()) * 1000
            row.extra["own_ms"] = own
            row.note += f"; without waiting for a processor {own:.1f} ms at most"
    else:
        row.ours.append(ours.max / 1000)
        row.note = "the daemon tells of no stalls: the slowest answer seen from outside (11b)"
    yield row
    yield outside
