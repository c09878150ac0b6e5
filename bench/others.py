"""Row 14: SeaweedFS, for comparison."""

from __future__ import annotations

import secrets
from collections.abc import Iterator

from bench import servers
from bench.compare import Row
from bench.load import pulled
from bench.stage import Stage, forget, sha512, warm

_WHOLE_SECONDS = 300.0
#: What was deleted from SeaweedFS stays on the disk for a while.
_PAIRS = {False: 3, True: 1}


def seaweedfs(stage: Stage) -> Iterator[Row]:
    """PUT and GET one large body, through a filer."""
    size = stage.options.size
    puts = Row("14", f"PUT {size}", "MiB/s", "SeaweedFS, which does not fsync")
    gets = Row("14b", f"GET {size} hot", "MiB/s", "SeaweedFS")
    with (
        stage.scratch("dtfc-store") as basedir,
        stage.scratch("seaweedfs") as folder,
        servers.seaweedfs(folder) as theirs,
        stage.dtfc("14", basedir) as ours,
    ):
        theirs.ready()
        for number in range(_PAIRS[stage.options.quick] + 1):
            stage.restamp()
            warm(stage.source)
            name = f"/bench-{secrets.token_hex(4)}.bin"
            digest = sha512(stage.source)
            seconds = []
            for server, path in ((ours, f"/{digest}"), (theirs, name)):
                put = ("-F", stage.source, "-n1")
                get = ("-n2", f"-b{stage.options.big}")
                for target, options in ((name, put), (path, get), (path, get)):
                    # The second GET counts: the first finds what the PUT has left in memory.
                    sample = pulled(
                        server.port, target, *options, seconds=_WHOLE_SECONDS, whole=True
                    )
                    seconds.append(sample.mib_per_second)
            forget(ours, digest)
            if number:
                for row, side, at in (
                    (puts, "ours", 0),
                    (gets, "ours", 2),
                    (puts, "theirs", 3),
                    (gets, "theirs", 5),
                ):
                    getattr(row, side).append(seconds[at])
    yield puts
    yield gets
