"""Requests, made by the load generator."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Self

from bench.tools import dies_with_us, on_cpu, pull

HOST = "127.0.0.1"
_SLACK_SECONDS = 30


class Wrong(Exception):
    """A server did not answer as it must, so there is nothing to measure."""


@dataclass(frozen=True, slots=True)
class Pulled:
    """What the load generator saw; latencies in microseconds."""

    seconds: float
    requests: int
    bytes: int
    wrong: int
    wrong_status: int
    wrong_why: str
    reconnects: int
    complete: bool
    p50: float
    p99: float
    p999: float
    max: float

    @property
    def mib_per_second(self) -> float:
        """Bytes of bodies, both ways."""
        return self.bytes / self.seconds / 2**20

    @property
    def per_second(self) -> float:
        """Requests."""
        return self.requests / self.seconds


class Pulling:
    """A load generator that runs.

    Args:
        port: where the server listens.
        path: of every request (the beginning of it, for PUTs of unique bodies).
        options: the generator's own.
        seconds: its bound of time.
        cpu: the one it may use; None for any.
        urgent: whether it goes before all others, if we may say so.
    """

    def __init__(
        self,
        port: int,
        path: str,
        options: Sequence[str],
        *,
        seconds: float,
        cpu: int | None = None,
    ) -> None:
        self._seconds = seconds
        self._process = subprocess.Popen(
            [
                *dies_with_us(),
                *on_cpu(cpu),
                pull(),
                *("-t", str(seconds), *options, HOST, str(port), path),
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    @property
    def running(self) -> bool:
        """Whether it has not ended yet."""
        return self._process.poll() is None

    def result(self) -> Pulled:
        """Wait for it.

        Raises:
            Wrong: any answer was not what it had to be.
        """
        try:
            out, err = self._process.communicate(timeout=self._seconds + _SLACK_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.communicate()
            raise Wrong("the load generator did not end") from None
        if not out:
            raise Wrong(f"the load generator failed: {err.strip()}")
        said = json.loads(out)
        pulled = Pulled(**{each.name: said[each.name] for each in fields(Pulled)})
        if pulled.wrong:
            raise Wrong(
                f"{pulled.wrong} wrong answers, the last: {pulled.wrong_why}"
                f" (status {pulled.wrong_status})"
            )
        return pulled

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        if self.running:
            self._process.terminate()
        self._process.communicate()


def pulled(
    port: int, path: str, *options: str, seconds: float, cpu: int | None = None, whole: bool = False
) -> Pulled:
    """Run the load generator to its end.

    Args:
        port: where the server listens.
        path: of every request.
        options: the generator's own.
        seconds: its bound of time.
        cpu: the one it may use.
        whole: every request that was asked for must have ended within the time.

    Raises:
        Wrong: any answer was not what it had to be, or not all came in time.
    """
    with Pulling(port, path, options, seconds=seconds, cpu=cpu) as pulling:
        result = pulling.result()
    if whole and not result.complete:
        raise Wrong(f"only {result.requests} answers within {seconds:.0f} s")
    if not result.requests and not result.bytes:
        raise Wrong(f"no answer within {seconds:.0f} s")
    return result


def settle() -> None:
    """Let the machine come to rest between two samples."""
    time.sleep(0.05)
