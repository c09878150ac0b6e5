"""A slice of what strangers try, and a look at whether it would be seen."""

from __future__ import annotations

from functools import partial
from random import Random

import pytest

from dtfc.errors import BadToken
from prove import bombs, descriptors, fuzz, media, paths, slow, smuggling, timing
from tests.support.programs import require_program


def test_a_slice_of_hostile_media(seed: int) -> None:
    for program in ("ffmpeg", "ffprobe", "strace"):
        require_program(program)
    (row,) = media.prove(seed, 0.07)
    print(row.cases)
    assert row.violations == 0, "\n".join(row.examples)


def test_a_slice_of_slowness(seed: int) -> None:
    require_program("slowhttptest")
    chance = Random(seed)
    row = slow.attack(chance.choice(("heads", "bodies", "answers")), 80, 4, chance)
    print(row.name, row.cases)
    assert row.violations == 0, "\n".join(row.examples)


def test_a_slice_of_few_descriptors(seed: int) -> None:
    row = descriptors.storm(seed, 300, 2.5)
    print(row.cases)
    assert row.violations == 0, "\n".join(row.examples)


def test_a_slice_of_bombs(seed: int) -> None:
    for row in bombs.prove(seed, 0.05):
        print(row.name, row.cases)
        assert row.violations == 0, "\n".join(row.examples)


def test_a_slice_of_inputs(seed: int) -> None:
    (row,) = fuzz.prove(seed, 0.01)
    print(row.cases)
    assert row.violations == 0, "\n".join(row.examples)


def test_a_slice_of_paths_and_planted_things(seed: int) -> None:
    require_program("strace")
    for row in paths.prove(seed, 0.1):
        print(row.name, row.cases)
        assert row.violations == 0, "\n".join(row.examples)


def test_an_open_outside_of_the_store_is_found() -> None:
    trace = [
        '7 openat(5</s/store/ab>, "data", O_RDONLY|O_NOFOLLOW) = 9</s/store/ab/data>\n',
        '7 openat(AT_FDCWD, "/proc/self/fd/3", O_RDONLY) = -1 ENOENT (No such file)\n',
        '7 openat2(5</s/store>, "../secret", {flags=O_RDONLY}, 24) = -1 EXDEV\n',
    ]
    assert paths.outside(iter(trace), "/s/store") == []
    wrong = [
        '7 openat(5</s/store/ab>, "data", O_RDONLY) = 9</etc/passwd>\n',
        '7 openat(5</s/store/ab>, "../../x", O_RDONLY) = 9\n',
    ]
    assert len(paths.outside(iter(wrong), "/s/store")) == 2


@pytest.mark.parametrize("proxy", ["nginx", "haproxy"])
def test_a_slice_of_smuggling(seed: int, proxy: str) -> None:
    require_program(proxy)
    row = smuggling.through(proxy, seed, 150, 0.06)
    print(row.cases)
    assert row.violations == 0, "\n".join(row.examples)


def test_a_second_answer_is_counted() -> None:
    one = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"
    assert smuggling.final_answers(b"HTTP/1.1 100 Continue\r\n\r\n" + one) == 1
    assert smuggling.final_answers(one + one) == 2
    assert smuggling.final_answers(one + b"HTTP/1.1 204 No Content\r\n\r\n" + one) == 3


def test_a_slice_of_timings(seed: int) -> None:
    for row in timing.prove(seed, 0.02):
        print(row.name, row.cases)
        assert row.violations == 0, "\n".join(row.examples)


def test_a_comparison_that_stops_early_is_found(seed: int) -> None:
    right = bytes(32)

    def compare(agree: int) -> None:
        wrong = bytes(agree % 32) + b"x" * (32 - agree % 32)
        if all(one == other for one, other in zip(right, wrong, strict=True)):
            return
        raise BadToken("no")

    attempts = [partial(compare, agree) for agree in timing.AGREE]
    assert timing.compare("naive", attempts, 3000, seed).violations == 1


def test_an_open_that_should_not_be_is_found() -> None:
    trace = [
        '7 execve("/usr/bin/ffprobe", ["ffprobe"], 0x1 /* 2 vars */) = 0\n',
        '7 openat(AT_FDCWD, "/usr/lib/libx.so", O_RDONLY) = 3\n',
        '7 openat(AT_FDCWD, "/etc/shadow", O_RDONLY) = -1 EACCES (Permission denied)\n',
        '8 openat(AT_FDCWD, "/etc/hosts", O_RDONLY) = 3\n',
    ]
    wrong: list[str] = []
    assert media.read_trace(iter(trace), wrong) == 1
    assert wrong == []
    media.read_trace(iter([*trace, '7 openat(AT_FDCWD, "/etc/passwd", O_RDONLY) = 3\n']), wrong)
    media.read_trace(iter([*trace, "7 socket(AF_INET, SOCK_STREAM, IPPROTO_IP) = 4\n"]), wrong)
    assert len(wrong) == 2
