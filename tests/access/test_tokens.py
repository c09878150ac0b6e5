"""Tokens: what their file may say, whose one is, and what it is good for."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dtfc.access.tokens import (
    LONGEST,
    MOST,
    MOST_PREFIXES,
    NamesNeeded,
    Target,
    Token,
    Tokens,
    line_of,
    parse_token,
    parse_tokens,
    when,
)
from dtfc.access.verbs import Verb
from dtfc.errors import BadToken, Denied

BROUGHT = "dtfc_0123456789abcdefghijklmnopqrstuvwxyz"
SHA256 = hashlib.sha256(BROUGHT.encode()).hexdigest()
NOW = 1_795_000_000.0
DIGEST = "ab12" + "0" * 124


def token(verbs: str = "get,head", *conditions: str) -> Token:
    return parse_token("camera", SHA256, verbs, conditions)


def reasons(text: str) -> list[tuple[int, str]]:
    return parse_tokens(text)[1]


class TestFile:
    def test_a_line_is_a_token(self) -> None:
        tokens, bad = parse_tokens(
            f"# who may\n\ncamera {SHA256} put,get names=a,b\t# the old one\n"
        )
        assert not bad
        assert len(tokens) == 1
        found = tokens.find(f"Bearer {BROUGHT}", NOW)
        assert found == Token(
            "camera", bytes.fromhex(SHA256), frozenset({Verb.PUT, Verb.GET}), names=("a", "b")
        )

    @pytest.mark.parametrize(
        ("line", "reason"),
        [
            ("camera", "a line has a name"),
            (f"camera {SHA256}", "a line has a name"),
            (f"ca:mera {SHA256} get", "a token's name is"),
            (f"camera {SHA256[1:]} get", "64 hexadecimal digits"),
            (f"camera {BROUGHT} get", "64 hexadecimal digits"),
            (f"camera {SHA256} post", "'post' is none of the verbs"),
            (f"camera {SHA256} get,", "'' is none of the verbs"),
            (f"camera {SHA256} get until=x", "is neither digests="),
            (f"camera {SHA256} get names", "is neither digests="),
            (f"camera {SHA256} get names=", "names= is 1 to"),
            (f"camera {SHA256} get names=a,", "names= is 1 to"),
            (f"camera {SHA256} get digests=xy", "digests= is 1 to"),
            (f"camera {SHA256} get digests={'a' * 129}", "digests= is 1 to"),
            (f"camera {SHA256} get digests={','.join(['a'] * (MOST_PREFIXES + 1))}", "digests="),
            (f"camera {SHA256} get expires=soon", "expires= is a date"),
            (f"camera {SHA256} get expires=2027-01-31T10:00", "expires= is a date"),
            (f"camera {SHA256} get names=a names=b", "names= is written twice"),
        ],
    )
    def test_a_line_that_makes_no_sense(self, line: str, reason: str) -> None:
        ((number, told),) = reasons(f"# first\n{line}\n")
        assert number == 2
        assert reason in told
        assert BROUGHT not in told.replace(repr(BROUGHT), "")

    def test_two_of_one_name(self) -> None:
        other = hashlib.sha256(b"x").hexdigest()
        assert reasons(f"a {SHA256} get\na {other} get\n") == [(2, "there is a token a already")]

    def test_one_under_two_names(self) -> None:
        ((number, told),) = reasons(f"a {SHA256} get\nb {SHA256} put\n")
        assert (number, told) == (2, "the token a has this SHA-256 already")

    def test_too_many(self) -> None:
        lines = [f"t{n} {hashlib.sha256(b'%d' % n).hexdigest()} get" for n in range(MOST + 2)]
        assert reasons("\n".join(lines)) == [(MOST + 1, f"there are more than {MOST} tokens")]

    @given(st.text(max_size=300))
    def test_any_text_is_read_or_refused(self, text: str) -> None:
        tokens, bad = parse_tokens(text)
        assert bad or not tokens or SHA256 in text

    @pytest.mark.parametrize(
        "conditions",
        [(), ("digests=ab,cd",), ("names=photo-",), ("expires=2027-01-31T10:00:00Z",)],
    )
    def test_a_token_makes_the_line_that_it_came_from(self, conditions: tuple[str, ...]) -> None:
        words = line_of(token("get,put", *conditions)).split()
        assert parse_token(words[0], words[1], words[2], words[3:]) == token("get,put", *conditions)

    @pytest.mark.parametrize(
        ("text", "seconds"),
        [
            ("2027-01-31", 1_801_353_600),
            ("2027-01-31T10:00:00Z", 1_801_389_600),
            ("2027-01-31T12:00:00+02:00", 1_801_389_600),
        ],
    )
    def test_a_date(self, text: str, seconds: int) -> None:
        assert when(text) == seconds


class TestWhose:
    @pytest.fixture
    def tokens(self) -> Tokens:
        return Tokens([token("get", "expires=2027-01-31")])

    def test_it_is_found(self, tokens: Tokens) -> None:
        for scheme in ("Bearer", "bearer", "BEARER  "):
            found = tokens.find(f"{scheme} {BROUGHT}", NOW)
            assert found is not None
            assert found.name == "camera"

    @pytest.mark.parametrize("other", ["Basic dXNlcjpwYXNz", "Digest x", ""])
    def test_another_scheme_is_somebody_elses(self, tokens: Tokens, other: str) -> None:
        assert tokens.find(other, NOW) is None

    @pytest.mark.parametrize(
        "bad",
        [
            "Bearer",
            "Bearer ",
            "Bearerx",
            f"Bearer {BROUGHT} more",
            f"Bearer {BROUGHT[:-1]}",
            f"Bearer {SHA256}",
            "Bearer \N{LATIN SMALL LETTER E WITH ACUTE}",
            f"Bearer {'a' * LONGEST}",
        ],
    )
    def test_what_is_no_token_of_ours(self, tokens: Tokens, bad: str) -> None:
        with pytest.raises(BadToken) as raised:
            tokens.find(bad, NOW)
        assert BROUGHT[:-1] not in str(raised.value)

    def test_one_that_has_expired(self, tokens: Tokens) -> None:
        tokens.find(f"Bearer {BROUGHT}", when("2027-01-31") - 0.1)
        with pytest.raises(BadToken, match="the token camera has expired"):
            tokens.find(f"Bearer {BROUGHT}", when("2027-01-31"))


class TestGoodFor:
    @pytest.mark.parametrize("verb", list(Verb))
    def test_its_verbs(self, verb: Verb) -> None:
        mine = token("get,put")
        if verb in (Verb.GET, Verb.PUT):
            assert mine.check(verb, Target(DIGEST)) is None
            assert mine.check(verb, None) is None
        else:
            with pytest.raises(Denied, match=f"good for GET, PUT, not for {verb.name}"):
                mine.check(verb, Target(DIGEST))

    @pytest.mark.parametrize("verb", list(Verb))
    def test_digests_that_begin_so(self, verb: Verb) -> None:
        mine = token("get,head,put,delete", "digests=ff,ab1")
        assert mine.check(verb, Target(DIGEST)) is None
        for other in (Target("ab2" + DIGEST[3:]), Target(None, "ab1"), None):
            with pytest.raises(Denied, match="digests that begin with 'ff' or 'ab1'"):
                mine.check(verb, other)

    def test_a_put_under_a_name_that_begins_so(self) -> None:
        mine = token("put", "names=photo-,scan-")
        assert mine.check(Verb.PUT, Target(None, "photo-1.jpg")) is None
        assert mine.check(Verb.PUT, Target(DIGEST, "scan-1")) is None
        for other in (Target(None, "photo"), Target(DIGEST), Target(DIGEST, "x"), None):
            with pytest.raises(Denied, match="names that begin with 'photo-' or 'scan-' only"):
                mine.check(Verb.PUT, other)

    @pytest.mark.parametrize("verb", [Verb.GET, Verb.HEAD])
    def test_a_blob_of_which_a_name_begins_so(self, verb: Verb) -> None:
        needed = token("get,head", "names=photo-").check(verb, Target(DIGEST))
        assert needed == NamesNeeded("camera", ("photo-",), every=False)
        needed.check(["x", "photo-1"])
        for names in ([], ["x", "photo"]):
            with pytest.raises(Denied, match="of which a name begins with 'photo-'"):
                needed.check(names)

    def test_a_deletion_takes_nobody_elses(self) -> None:
        """Whoever knows the bytes can give a blob a name, and would then delete another's."""
        needed = token("delete", "names=photo-").check(Verb.DELETE, Target(DIGEST))
        assert needed is not None
        needed.check(["photo-1", "photo-2"])
        for names in ([], ["x", "photo-1"]):
            with pytest.raises(Denied, match="whose every name begins with 'photo-'"):
                needed.check(names)

    def test_either_is_enough(self) -> None:
        mine = token("get", "names=photo-", "digests=ab")
        assert mine.check(Verb.GET, Target(DIGEST)) is None
        assert mine.check(Verb.GET, Target("c" * 128)) is not None
