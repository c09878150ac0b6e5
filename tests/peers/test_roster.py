"""The peer list: what a line may say, and the ways in which a list comes into force."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from dtfc.disk import InlineDisk
from dtfc.errors import BadSetting
from dtfc.peers.listing import normal_url
from dtfc.peers.roster import Peer, Roster, RosterChange, RosterWatch, parse_roster


def urls(text: str) -> list[str]:
    return [peer.url for peer in parse_roster(text)[0]]


@pytest.mark.parametrize(
    ("line", "url"),
    [
        ("http://a:8080/", "http://a:8080"),
        ("http://a:8080", "http://a:8080"),
        ("  http://a:8080/  ", "http://a:8080"),
        ("http://a:8080/\r", "http://a:8080"),
        ("http://a:8080/ # the attic", "http://a:8080"),
        ("\ufeffhttp://a:8080/", "http://a:8080"),
        ("HTTP://NODE.Example/", "http://node.example:80"),
        ("https://node.example", "https://node.example:443"),
        ("https://node.example.:443/", "https://node.example:443"),
        ("http://node.example:/", "http://node.example:80"),
        ("http://node.example:0080/", "http://node.example:80"),
        ("http://127.0.0.1:8080/", "http://127.0.0.1:8080"),
        ("http://[::1]:8080/", "http://[::1]:8080"),
        ("http://[2001:DB8:0:0::1]/", "http://[2001:db8::1]:80"),
        ("http://under_score:1/", "http://under_score:1"),
    ],
)
def test_one_normal_form(line: str, url: str) -> None:
    peers, bad = parse_roster(line)
    assert [peer.url for peer in peers] == [url]
    assert bad == []


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("a:8080", "starts with http"),
        ("ftp://a/", "starts with http"),
        ("file:///etc/passwd", "starts with http"),
        ("http://user@a:8080/", "no user name"),
        ("http://user:pw@a:8080/", "no user name"),
        ("http://a:8080/path", "no path"),
        ("http://a:8080//", "no path"),
        ("http://a:8080/?x=1", "no query"),
        ("http://a:8080?", "no query"),
        ("http://a:8080/#x", "no fragment"),
        ("http://a:0/", "1 to 65535"),
        ("http://a:65536/", "1 to 65535"),
        ("http://a:+80/", "1 to 65535"),
        ("http://a:8_0/", "1 to 65535"),
        ("http://a:80:80/", "1 to 65535"),
        ("http://[::1]x/", "1 to 65535"),
        ("http://:8080/", "names a host"),
        ("http:///", "names a host"),
        ("http://a..b/", "no host name"),
        ("http://-a/", "no host name"),
        ("http://a%2fb/", "no host name"),
        ("http://[::g]/", "no IPv6 address"),
        ("http://[/", "no IPv6 address"),
        ("http://[fe80::1%eth0]:80/", "with a zone"),
        ("http://2130706433/", "dotted form"),
        ("http://0x7f.1/", "dotted form"),
        ("http://0x7f000001/", "dotted form"),
        ("http://127.1/", "dotted form"),
        ("http://127.0.0.1.1/", "dotted form"),
        ("http://bücher.example/", "punycode"),
        ("http://a:8080/ wieght=2", "neither weight= nor zone="),
        ("http://a:8080/ http://b:8080/", "neither weight= nor zone="),
        ("http://a:8080/ weight=0", "from 1 to 1000"),
        ("http://a:8080/ weight=1001", "from 1 to 1000"),
        ("http://a:8080/ weight=²", "from 1 to 1000"),
        ("http://a:8080/ weight", "neither weight= nor zone="),
        ("http://a:8080/ weight=1 weight=2", "written twice"),
        ("http://a:8080/ zone=a/b", "zone= is"),
    ],
)
def test_a_bad_line_is_reported_with_its_number_and_the_others_hold(line: str, reason: str) -> None:
    peers, bad = parse_roster(f"# list\nhttp://good:1/\n{line}\nhttp://fine:2/\n", "peers.txt")
    assert [peer.url for peer in peers] == ["http://good:1", "http://fine:2"]
    assert [(each.number, each.text) for each in bad] == [(3, line)]
    assert reason in bad[0].reason
    assert str(bad[0]).startswith("peers.txt, line 3: ")


def test_a_2015_file_with_everything_odd_about_it() -> None:
    text = "\r\nhttp://10.0.0.1:8080/\r\n\r\nhttp://10.0.0.2:8080\r\n# gone\r\n#http://x/\r\n\t\r\n"
    assert urls(text) == ["http://10.0.0.1:8080", "http://10.0.0.2:8080"]
    assert parse_roster(text)[1] == []


def test_options() -> None:
    peers, bad = parse_roster("http://a/ zone=north-1 weight=7")
    assert peers == (Peer("http://a:80", 7, "north-1"),)
    assert bad == []


def test_the_first_of_equal_lines_wins() -> None:
    peers, _ = parse_roster("http://a/ weight=2\nHTTP://A:80 weight=3\n")
    assert peers == (Peer("http://a:80", 2),)


@given(st.text())
def test_any_text_gives_only_plain_origins(text: str) -> None:
    peers, bad = parse_roster(text)
    assert all(normal_url(peer.url) == peer.url for peer in peers)
    assert len(peers) + len(bad) <= text.count("\n") + 1


@given(st.from_regex(r"https?://[ -~]{0,24}", fullmatch=True))
def test_a_normal_form_is_its_own_normal_form(text: str) -> None:
    try:
        url = normal_url(text)
    except ValueError:
        return
    assert normal_url(url) == url
    assert normal_url(url + "/") == url


THREE = "http://a:8080/\nhttp://b:8080/\nhttp://c:8080\n"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "peers.txt"
    file.write_text(THREE)
    return file


def in_force(roster: Roster) -> list[str]:
    return [peer.url for peer in roster.current()]


@pytest.mark.parametrize(
    "me", ["b:8080", "B:8080", "http://b:8080", "http://b:8080/", "HTTP://B:8080/", "b.:8080"]
)
def test_this_node_is_taken_out(path: Path, me: str) -> None:
    roster = Roster(str(path), me=me)
    roster.reload()
    assert in_force(roster) == ["http://a:8080", "http://c:8080"]


def test_a_default_port_is_the_same_address(path: Path) -> None:
    path.write_text("http://b/\nhttps://b/\nhttp://a/\n")
    roster = Roster(str(path), me="b")
    roster.reload()
    assert in_force(roster) == ["http://a:80"]


def test_a_url_takes_out_its_own_scheme_only(path: Path) -> None:
    path.write_text("http://b:8443/\nhttps://b:8443/\n")
    roster = Roster(str(path), me="https://b:8443/")
    roster.reload()
    assert in_force(roster) == ["http://b:8443"]


def test_the_first_line_of_the_melist_is_this_node(path: Path, tmp_path: Path) -> None:
    melist = tmp_path / "me"
    melist.write_text("# this node\n\nhttp://c:8080/\nhttp://a:8080/\n")
    roster = Roster(str(path), melist=str(melist))
    roster.reload()
    assert in_force(roster) == ["http://a:8080", "http://b:8080"]


def test_an_unreadable_melist_keeps_what_it_last_said(path: Path, tmp_path: Path) -> None:
    melist = tmp_path / "me"
    melist.write_text("c:8080\n")
    roster = Roster(str(path), melist=str(melist))
    roster.reload()
    melist.unlink()
    change = roster.reload()
    assert in_force(roster) == ["http://a:8080", "http://b:8080"]
    assert change.errors == (f"{melist}: No such file or directory",)


@pytest.mark.parametrize("text", ["\n", "ftp://x\n"])
def test_a_melist_that_says_nothing_is_reported(path: Path, tmp_path: Path, text: str) -> None:
    melist = tmp_path / "me"
    melist.write_text(text)
    change = Roster(str(path), melist=str(melist)).reload()
    assert len(change.peers) == 3
    assert str(melist) in change.errors[0]


def test_a_bad_me_is_refused_at_once() -> None:
    with pytest.raises(BadSetting):
        Roster(None, me="http://a/b/c")


def test_no_list_is_no_peers() -> None:
    roster = Roster(None)
    assert roster.reload() == RosterChange((), (), (), (), ())
    assert roster.generation == 0


def test_what_a_change_says(path: Path) -> None:
    roster = Roster(str(path))
    first = roster.reload()
    path.write_text("http://c:8080/\nnonsense\nhttp://d:8080/\n")
    second = roster.reload()
    assert [peer.url for peer in first.added] == ["http://a:8080", "http://b:8080", "http://c:8080"]
    assert second.peers == roster.current()
    assert [peer.url for peer in second.added] == ["http://d:8080"]
    assert [peer.url for peer in second.removed] == ["http://a:8080", "http://b:8080"]
    assert [line.number for line in second.bad] == [2]
    assert roster.last_change == second


def test_the_generation_grows_only_with_a_change(path: Path) -> None:
    roster = Roster(str(path))
    roster.reload()
    roster.reload()
    assert roster.generation == 1
    path.write_text("http://d/")
    roster.reload()
    assert roster.generation == 2


def make_missing(path: Path) -> None:
    path.unlink()


def make_a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def make_a_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def make_huge(path: Path) -> None:
    path.write_bytes(b"\n" * (4 * 1024 * 1024 + 1))


@pytest.mark.parametrize("spoil", [make_missing, make_a_folder, make_a_pipe, make_huge])
def test_a_file_that_cannot_be_used_keeps_the_peers_in_force(path: Path, spoil: object) -> None:
    roster = Roster(str(path))
    roster.reload()
    assert callable(spoil)
    spoil(path)
    change = roster.reload()
    assert len(roster.current()) == 3
    assert len(change.errors) == 1
    assert change.errors[0].startswith(str(path))


def test_bytes_that_are_no_text_are_bad_lines(path: Path) -> None:
    path.write_bytes(b"http://a/\n\xff\xfe\x00\nhttp://b/\n")
    change = Roster(str(path)).reload()
    assert [line.number for line in change.bad] == [2]
    assert len(change.peers) == 2


def test_the_watch_sees_a_changed_file(path: Path) -> None:
    clock = Clock()
    roster = Roster(str(path))
    roster.reload()
    changes: list[RosterChange] = []
    watch = RosterWatch(roster, InlineDisk(), clock, seconds=5, changed=changes.append)
    watch.startService()
    clock.advance(5)
    assert changes == []
    path.write_text("http://d/")
    clock.advance(5)
    assert in_force(roster) == ["http://d:80"]
    assert len(changes) == 1
    clock.advance(5)
    assert len(changes) == 1
    watch.stopService()
    assert clock.getDelayedCalls() == []


def test_the_watch_sees_a_replaced_file_of_the_same_size_and_date(path: Path) -> None:
    clock = Clock()
    roster = Roster(str(path))
    roster.reload()
    watch = RosterWatch(roster, InlineDisk(), clock, seconds=5)
    watch.startService()
    facts = path.stat()
    other = path.with_name("new")
    other.write_text(THREE.replace("a", "z"))
    os.utime(other, ns=(facts.st_atime_ns, facts.st_mtime_ns))
    other.rename(path)
    clock.advance(5)
    assert in_force(roster)[0] == "http://z:8080"
    watch.stopService()


def test_the_watch_reports_a_vanished_file_once(path: Path) -> None:
    clock = Clock()
    roster = Roster(str(path))
    roster.reload()
    changes: list[RosterChange] = []
    watch = RosterWatch(roster, InlineDisk(), clock, seconds=5, changed=changes.append)
    watch.startService()
    path.unlink()
    clock.pump([5, 5, 5])
    assert len(changes) == 1
    assert len(roster.current()) == 3
    watch.stopService()


def test_stopping_the_watch_waits_for_a_look_in_progress(path: Path) -> None:
    class Slow:
        def __init__(self) -> None:
            self.asked: list[Deferred[object]] = []

        def run(self, *_: object) -> Deferred[object]:
            self.asked.append(Deferred())
            return self.asked[-1]

    clock = Clock()
    slow = Slow()
    watch = RosterWatch(Roster(str(path)), slow, clock, seconds=5)  # type: ignore[arg-type]  # one result fits
    watch.startService()
    clock.advance(5)
    stopped = watch.stopService()
    assert stopped is not None
    assert not stopped.called
    slow.asked[0].callback(())
    assert stopped.called


def test_other_sources_are_read_from_the_next_reading_on(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    first.write_text("http://a:1/\nhttp://b:1/\n")
    second.write_text("http://b:1/\nhttp://c:1/\n")
    roster = Roster(str(first), me="a:1")
    roster.reload()

    roster.set_sources(str(second), me="c:1")
    before = [peer.url for peer in roster.current()]
    roster.reload()

    assert before == ["http://b:1"]
    assert [peer.url for peer in roster.current()] == ["http://b:1"]


def test_a_bad_me_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "peers"
    path.write_text("http://a:1/\nhttp://b:1/\n")
    roster = Roster(str(path), me="a:1")

    with pytest.raises(BadSetting):
        roster.set_sources(None, me="http://x:1/path")
    roster.reload()

    assert [peer.url for peer in roster.current()] == ["http://b:1"]


def test_without_a_list_there_are_no_peers(tmp_path: Path) -> None:
    path = tmp_path / "peers"
    path.write_text("http://a:1/\n")
    roster = Roster(str(path))
    roster.reload()

    roster.set_sources(None)
    roster.reload()

    assert roster.current() == ()


@pytest.mark.parametrize(
    ("me", "listed", "found"),
    [
        (None, "http://a:1", None),
        ("http://A:1/", "http://a:1\nhttp://b:1", "http://a:1"),
        ("a:1", "https://a:1\nhttp://b:1", "https://a:1"),
        ("a:1", "http://b:1", "http://a:1"),
    ],
)
def test_what_a_node_is_called_in_the_list(
    tmp_path: Path, me: str | None, listed: str, found: str | None
) -> None:
    (tmp_path / "peers").write_text(listed)
    roster = Roster(str(tmp_path / "peers"), me=me)
    roster.reload()

    assert roster.me == found
