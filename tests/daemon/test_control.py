"""Messages between parent and workers: whole, byte by byte, and garbage."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dtfc.daemon import control
from dtfc.daemon.control import BadMessage, Inbox, Message, pack

FACTS = st.dictionaries(
    st.text(min_size=1).filter(lambda name: name != "kind"),
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        max_leaves=5,
    ),
    max_size=3,
)


@given(st.lists(st.tuples(st.text(), FACTS), max_size=4), st.data())
def test_messages_come_as_they_went_however_they_are_cut(
    sent: list[tuple[str, Message]], data: st.DataObject
) -> None:
    stream = b"".join(pack(kind, **facts) for kind, facts in sent)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=6)))
    inbox = Inbox()
    pieces = [stream[a:b] for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
    taken = [message for piece in pieces for message in inbox.feed(piece)]
    assert taken == [{"kind": kind, **facts} for kind, facts in sent]


def test_byte_by_byte() -> None:
    inbox = Inbox()
    stream = pack("ping", number=1) + pack("cut")
    taken = [message for byte in stream for message in inbox.feed(bytes([byte]))]
    assert taken == [{"kind": "ping", "number": 1}, {"kind": "cut"}]


@pytest.mark.parametrize(
    "line", [b"", b"\xff", b"{", b"[]", b"1", b"{}", b'{"kind": 1}', b"[" * 100_000]
)
def test_what_is_no_message(line: bytes) -> None:
    with pytest.raises(BadMessage):
        list(Inbox().feed(line + b"\n"))


@given(st.binary())
def test_garbage_raises_nothing_else(garbage: bytes) -> None:
    inbox = Inbox()
    try:
        for message in inbox.feed(garbage + b"\n"):
            assert isinstance(message["kind"], str)
    except BadMessage:
        return


def test_a_message_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control, "LONGEST", 1000)
    inbox = Inbox()
    assert list(inbox.feed(b"x" * 1000)) == []
    with pytest.raises(BadMessage, match="more than 1000 bytes"):
        list(inbox.feed(b"x"))
