"""Something that goes on by itself: how it ends."""

from __future__ import annotations

from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure

from dtfc.background import Background


class Work:
    """Waits for ever, and remembers how it was ended."""

    def __init__(self, error: Exception | None = None) -> None:
        self.began = 0
        self.cancelled = 0
        self.error = error
        self.told: list[Failure] = []
        self.background = Background(self.run, self.told.append)

    async def run(self) -> None:
        self.began += 1
        if self.error is not None:
            raise self.error
        try:
            await Deferred(lambda _waiting: None)
        except CancelledError:
            self.cancelled += 1
            raise


def stop(work: Work) -> None:
    assert Deferred.fromCoroutine(work.background.stop()).called


def test_who_is_stopped_is_cancelled_and_nobody_is_told() -> None:
    work = Work()
    work.background.start()
    stop(work)
    assert (work.began, work.cancelled, work.told) == (1, 1, [])


def test_a_mistake_is_told() -> None:
    work = Work(ZeroDivisionError())
    work.background.start()
    assert [type(each.value) for each in work.told] == [ZeroDivisionError]


def test_it_runs_from_its_start_to_its_stop() -> None:
    work = Work()
    found = [work.background.runs]
    work.background.start()
    found.append(work.background.runs)
    stop(work)
    found.append(work.background.runs)
    assert found == [False, True, False]


def test_to_stop_what_never_began_or_has_ended_is_harmless() -> None:
    work = Work()
    stop(work)
    work.background.start()
    stop(work)
    stop(work)
    assert work.cancelled == 1
