"""What every test gets: no logged failure and no unclean reactor passes unseen."""

from __future__ import annotations

import os
from collections.abc import Iterator
from random import Random

import pytest
from hypothesis import HealthCheck, settings
from twisted.internet import reactor as _reactor
from twisted.logger import ILogObserver, LogEvent, eventAsText, globalLogPublisher
from twisted.python.failure import Failure
from zope.interface import implementer

from tests.support.leaks import leaks

settings.register_profile("fast", max_examples=60, deadline=None)
settings.register_profile(
    "ci", max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile("big", max_examples=5000, deadline=None)
settings.load_profile(os.environ.get("DTFC_HYPOTHESIS", "fast"))


#: Of which tests CI takes a part each time, another one with each seed: they start daemons.
_SLOW = ("tests/live/", "tests/process/", "tests/prove/", "tests/etc/", "tests/docs/")

#: Which of these are quick, or few.
_QUICK = ("tests/live/test_framing_live.py", "tests/live/test_selectors_live.py")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Choose a part of the slow tests, if one was asked for."""
    share = float(os.environ.get("DTFC_SLOW_SHARE") or 1)
    if share >= 1:
        return
    seed = os.environ["DTFC_SEED"]
    chosen = [
        item
        for item in items
        if not item.nodeid.startswith(_SLOW)
        or item.nodeid.startswith(_QUICK)
        or Random(f"{seed} {item.nodeid}").random() < share
    ]
    left = [item for item in items if item not in set(chosen)]
    config.hook.pytest_deselected(items=left)
    items[:] = chosen


@implementer(ILogObserver)
class LoggedFailures:
    """The failures that were logged during one test."""

    def __init__(self) -> None:
        self.failures: list[Failure | str] = []

    def __call__(self, event: LogEvent) -> None:
        """Observe one log event."""
        for leak in leaks(eventAsText(event)):
            self.failures.append(f"the log holds a secret: {leak}")
        failure = event.get("log_failure") or event.get("failure")
        if failure is not None:
            self.failures.append(failure)
        elif event.get("isError"):
            self.failures.append(str(event.get("log_text", event)))

    def flush(self, *kinds: type[Exception]) -> list[Failure | str]:
        """Take out the failures of these kinds (all, if none is named): they were expected."""
        taken = [
            failure
            for failure in self.failures
            if not kinds or (isinstance(failure, Failure) and failure.check(*kinds))
        ]
        self.failures = [failure for failure in self.failures if failure not in taken]
        return taken


@pytest.fixture(autouse=True)
def logged_failures() -> Iterator[LoggedFailures]:
    """Fail the test on any failure that was logged and not flushed."""
    observer = LoggedFailures()
    globalLogPublisher.addObserver(observer)
    yield observer
    globalLogPublisher.removeObserver(observer)
    if observer.failures:
        pytest.fail(f"failures were logged: {observer.failures!r}", pytrace=False)


@pytest.fixture(autouse=True)
def clean_reactor() -> Iterator[None]:
    """Fail the test if it leaves timers or sockets in the reactor."""
    before = set(_watched())
    yield
    left = [call for call in _reactor.getDelayedCalls() if call.active()]
    watched = [each for each in _watched() if each not in before]
    for call in left:
        call.cancel()
    if left or watched:
        pytest.fail(f"the reactor is unclean: {left!r} {watched!r}", pytrace=False)


def _watched() -> list[object]:
    waker: set[object] = getattr(_reactor, "_internalReaders", set())
    readers = _reactor.getReaders()
    writers = _reactor.getWriters()
    return [each for each in [*readers, *writers] if each not in waker]
