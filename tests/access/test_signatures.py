"""Signatures of peers: RFC 9421's own example, each part tampered with, clocks, grammar."""

from __future__ import annotations

import base64
import hmac
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dtfc.access.signatures import (
    MOST_SECRETS,
    Message,
    PeerTerms,
    Proof,
    Secrets,
    authorities_at,
    authority_of,
    key_id_of,
    parse_secrets,
    sign,
    signature_base,
    verify,
)
from dtfc.errors import BadSignature

KEY = b"0123456789abcdef0123456789abcdef"
OTHER = b"another secret of a decent length"
NOW = 1_795_000_000.0
HERE = "files1.example:8080"
TERMS = PeerTerms(secrets=Secrets((KEY,)), skew=3600)
PROOF = Proof("00112233445566ff", 7, int(NOW))
BODY = ["sha-512=:" + base64.b64encode(bytes(64)).decode() + ":"]

PUT = Message(
    "PUT",
    "/abc/photo.jpg",
    "x=1",
    {
        "host": [HERE],
        "content-digest": BODY,
        "if-none-match": ["*"],
        "dtfc-deleted": ["2026-11-26", "second"],
        "user-agent": ["dtfc/1"],
    },
    has_body=True,
)


def signed(
    message: Message = PUT, key: bytes = KEY, authority: str = HERE, proof: Proof = PROOF
) -> Message:
    fields = dict(message.fields)
    for name, value in sign(key, message, authority, proof):
        fields[name.lower()] = [value]
    return replace(message, fields=fields)


def changed(message: Message, **fields: list[str] | None) -> Message:
    named = {name.replace("_", "-"): value for name, value in fields.items()}
    kept = {name: value for name, value in message.fields.items() if name not in named}
    added = {name: value for name, value in named.items() if value is not None}
    return replace(message, fields={**kept, **added})


def judged(message: Message, terms: PeerTerms = TERMS, now: float = NOW) -> Proof | None:
    return verify(terms, message, [HERE], now)


def edited(message: Message, edit: Callable[[str], str]) -> Message:
    return changed(message, signature_input=[edit(message.fields["signature-input"][0])])


def test_the_base_is_that_of_the_rfcs_own_example() -> None:
    # RFC 9421 appendix B.2.5, with the secret of B.1.5.
    message = Message(
        "POST",
        "/foo",
        "param=Value&Pet=dog",
        {"date": ["Tue, 20 Apr 2021 02:07:55 GMT"], "content-type": ["application/json"]},
        has_body=True,
    )
    names = ["date", "@authority", "content-type"]
    parameters = (
        '("date" "@authority" "content-type");created=1618884473;keyid="test-shared-secret"'
    )
    secret = base64.b64decode(
        "uzvJfB4u3N0Jy4T7NZ75MDVcr8zSTInedJtkgcu46YW4XByzNJjxBdtjUkdJPBtbmHhIDi6pcl8jsasjlTMtDQ=="
    )

    base = signature_base(message, "example.com", names, parameters)

    mac = base64.b64encode(hmac.digest(secret, base, "sha256"))
    assert mac == b"pxcQw6G3AjtMBQjwo8XzkZf/bws5LelbaMk5rGIGtE8="


def test_what_is_signed_is_believed() -> None:
    assert judged(signed()) == PROOF


def test_an_unsigned_request_is_nobodys() -> None:
    assert judged(PUT) is None


def test_without_a_secret_no_signature_is_looked_at() -> None:
    assert judged(signed(), PeerTerms()) is None


def test_a_signature_that_is_no_nodes_is_passed_over() -> None:
    proxys = 'proxy=("@method");created=1;keyid="x";alg="ed25519";tag="other"'

    assert judged(changed(PUT, signature_input=[proxys], signature=["proxy=:AA==:"])) is None


def test_beside_the_signature_of_a_proxy() -> None:
    message = signed()
    both = changed(
        message,
        signature_input=['p=("@method";req "date");created=1', *message.fields["signature-input"]],
        signature=["p=:AA==:", *message.fields["signature"]],
    )

    assert judged(both) == PROOF


@pytest.mark.parametrize(
    "tampered",
    [
        replace(signed(), method="DELETE"),
        replace(signed(), path="/abc/photo.png"),
        replace(signed(), query="x=2"),
        replace(signed(), query=None),
        replace(signed(), query=""),
        changed(signed(), content_digest=["sha-512=:" + "B" * 86 + "==:"]),
        changed(signed(), content_digest=None),
        changed(signed(), if_none_match=None),
        changed(signed(), if_none_match=['"x"']),
        changed(signed(), if_match=["*"]),
        changed(signed(), content_type=["text/html"]),
        changed(signed(), dtfc_deleted=["2026-11-26"]),
        changed(signed(), dtfc_deleted=None),
        changed(signed(), dtfc_more=["x"]),
        changed(signed(), signature=None),
        changed(signed(), signature=["dtfc=:AAAA:"]),
        changed(signed(), signature=["dtfc=:A:"]),
        changed(signed(), signature=["else=:AAAA:"]),
        signed(authority="files2.example:8080"),
        signed(key=OTHER),
    ],
)
def test_each_part_is_guarded(tampered: Message) -> None:
    with pytest.raises(BadSignature):
        judged(tampered)


@pytest.mark.parametrize("field", ["user-agent", "accept", "x-forwarded-for", "via"])
def test_what_a_proxy_may_change_is_not(field: str) -> None:
    assert judged(changed(signed(), **{field.replace("-", "_"): ["proxy"]})) == PROOF


@pytest.mark.parametrize(
    "edit",
    [
        lambda text: text.replace("created=17", "created=16"),
        lambda text: text.replace(".7", ".8"),
        lambda text: text.replace("00112233445566ff", "00112233445566fe"),
        lambda text: text.replace('"@method" ', ""),
        lambda text: text.replace('"@authority" ', ""),
        lambda text: text.replace('"@path" ', ""),
        lambda text: text.replace('"@query" ', ""),
        lambda text: text.replace('"content-digest" ', ""),
        lambda text: text.replace('"if-none-match"', '"if-none-match" "if-none-match"'),
        lambda text: text.replace('"if-none-match"', '"if-none-match";sf'),
        lambda text: text.replace('"if-none-match"', '"if-none-match" "if-match"'),
        lambda text: text.replace(";created=", ";expires="),
        lambda text: text.replace(";nonce=", ";knowns="),
        lambda text: text.replace("hmac-sha256", "hmac-sha512"),
        lambda text: text + ", other=" + text.partition("=")[2],
        lambda text: text + ",",
        lambda text: text + " x",
        lambda text: text.replace("(", "(("),
        lambda text: text + ";x=" + "1" * 5000,
    ],
)
def test_the_terms_of_the_signature_are_guarded(edit: Callable[[str], str]) -> None:
    with pytest.raises(BadSignature):
        judged(edited(signed(), edit))


@pytest.mark.parametrize(
    "unusable", ["created=1795000000.5", 'created="1795000000"', "created=-1", "created"]
)
def test_created_is_a_number_even_where_the_secret_is_right(unusable: str) -> None:
    text = signed().fields["signature-input"][0].removeprefix("dtfc=")
    text = text.replace(f"created={PROOF.created}", unusable)
    names = [each.strip('"') for each in text[1 : text.index(")")].split()]
    mac = base64.b64encode(hmac.digest(KEY, signature_base(PUT, HERE, names, text), "sha256"))
    message = changed(PUT, signature_input=[f"dtfc={text}"], signature=[f"dtfc=:{mac.decode()}:"])

    with pytest.raises(BadSignature):
        judged(message)


@pytest.mark.parametrize("off", [-3600, 0, 3600])
def test_clocks_may_be_off_by_as_much_as_is_allowed(off: int) -> None:
    assert judged(signed(), now=NOW + off) == PROOF


@pytest.mark.parametrize(("off", "word"), [(-3601, "after"), (3601, "before")])
def test_and_by_no_more(off: int, word: str) -> None:
    with pytest.raises(BadSignature, match=f"3601 seconds {word} now"):
        judged(signed(), now=NOW + off)


def test_any_of_the_secrets_will_do_and_the_first_one_signs() -> None:
    old, new = PeerTerms(Secrets((KEY,))), PeerTerms(Secrets((OTHER, KEY)))

    assert judged(signed(key=KEY), new) == PROOF
    assert judged(signed(key=OTHER), new) == PROOF
    assert new.secrets is not None
    assert new.secrets.signing == OTHER
    with pytest.raises(BadSignature, match="does not have"):
        judged(signed(key=OTHER), old)


def test_a_body_without_a_digest_cannot_be_signed() -> None:
    with pytest.raises(ValueError, match="Content-Digest"):
        signed(changed(PUT, content_digest=None))


@pytest.mark.parametrize("digest", ["md5=:AAAA:", "sha-512=:AAAA:", "nonsense", "sha-256"])
def test_a_body_whose_digest_says_nothing_is_refused(digest: str) -> None:
    with pytest.raises(BadSignature, match="Content-Digest"):
        judged(signed(changed(PUT, content_digest=[digest])))


def test_a_body_that_was_added_is_refused() -> None:
    delete = Message("DELETE", "/abc", None, {}, has_body=False)

    assert judged(signed(delete)) == PROOF
    with pytest.raises(BadSignature, match="Content-Digest"):
        judged(replace(signed(delete), has_body=True))


TOKENS = st.text("abcdefghijklmnopqrstuvwxyz-", min_size=1, max_size=12)
VALUES = st.text(st.characters(min_codepoint=0x20, max_codepoint=0xFF, exclude_categories=["Cc"]))
MESSAGES = st.builds(
    Message,
    st.sampled_from(["GET", "PUT", "DELETE", "POST"]),
    st.text("abc/%20.~", max_size=20).map(lambda text: "/" + text),
    st.none() | st.text("a=&?%", max_size=10),
    st.dictionaries(
        st.sampled_from(["range", "if-match", "digest", "accept", "dtfc-x"])
        | TOKENS.map(lambda token: "dtfc-" + token),
        st.lists(VALUES, min_size=1, max_size=3),
        max_size=5,
    ),
    has_body=st.just(False),
)
PROOFS = st.builds(
    Proof,
    st.integers(0, 2**64 - 1).map(lambda number: f"{number:016x}"),
    st.integers(0, 10**18 - 1),
    st.integers(int(NOW) - 3600, int(NOW) + 3600),
)


@given(MESSAGES, PROOFS)
def test_whatever_is_signed_holds(message: Message, proof: Proof) -> None:
    assert judged(signed(message, proof=proof)) == proof


@given(MESSAGES, MESSAGES, PROOFS)
def test_a_signature_is_good_for_one_message(one: Message, other: Message, proof: Proof) -> None:
    names = ("signature-input", "signature")
    taken = {name: signed(one, proof=proof).fields[name] for name in names}
    moved = replace(other, fields={**other.fields, **taken})

    def meaning(message: Message) -> Any:
        covered = {
            name: ", ".join(value.strip() for value in values)
            for name, values in message.fields.items()
            if name != "accept"
        }
        return message.method, message.path, message.query or "", covered

    if meaning(one) == meaning(other):
        assert judged(moved) == proof
    else:
        with pytest.raises(BadSignature):
            judged(moved)


def believed(message: Message) -> bool:
    try:
        return judged(message) is not None
    except BadSignature:
        return False


@given(st.text(max_size=200), st.text(max_size=80))
def test_garbage_is_refused_or_is_nobodys(given_input: str, given_signature: str) -> None:
    for text in (given_input, f'dtfc=("@method");tag="dtfc-peer"{given_input}'):
        message = changed(PUT, signature_input=[text], signature=[given_signature])
        assert not believed(message)


@pytest.mark.parametrize(
    ("url", "authority"),
    [
        ("http://files1.example:8080", "files1.example:8080"),
        ("http://Files1.example:80/x?y", "files1.example"),
        ("https://files1.example:443", "files1.example"),
        ("https://files1.example:80/", "files1.example:80"),
        ("http://[2001:db8::1]:8080/x", "[2001:db8::1]:8080"),
    ],
)
def test_authorities(url: str, authority: str) -> None:
    assert authority_of(url) == authority


@pytest.mark.parametrize(
    ("host", "port", "found"),
    [
        ("10.0.0.5", 8080, ("10.0.0.5:8080",)),
        ("::ffff:10.0.0.5", 80, ("10.0.0.5:80", "10.0.0.5")),
        ("FE80::1%eth0", 443, ("[fe80::1]:443", "[fe80::1]")),
    ],
)
def test_the_authorities_of_a_socket(host: str, port: int, found: tuple[str, ...]) -> None:
    assert authorities_at(host, port) == found


class TestSecretFiles:
    def test_a_secret_a_line(self) -> None:
        text = b"# first\r\n" + KEY + b"\r\n\n  " + OTHER + b"  \n" + KEY

        assert parse_secrets(text).keys == (KEY, OTHER)

    def test_one_that_is_too_short_is_named_by_its_line(self) -> None:
        with pytest.raises(ValueError, match="line 3: a secret has at least 32") as caught:
            parse_secrets(KEY + b"\n\nhunter2\n")

        assert "hunter2" not in str(caught.value)

    @pytest.mark.parametrize("text", [b"", b"\n# nothing\n"])
    def test_none(self, text: bytes) -> None:
        with pytest.raises(ValueError, match="holds no secret"):
            parse_secrets(text)

    def test_more_than_anybody_rotates(self) -> None:
        keys = b"\n".join(KEY + b"%02d" % number for number in range(MOST_SECRETS + 1))

        with pytest.raises(ValueError, match="more than 16"):
            parse_secrets(keys)

    def test_they_are_in_no_repr(self) -> None:
        assert "0123" not in repr(PeerTerms(Secrets((KEY,))))
        assert key_id_of(KEY) not in (KEY.decode(), KEY.hex()[:16])
