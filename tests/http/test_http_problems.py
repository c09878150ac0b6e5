"""Errors as answers: RFC 9457, and the one table."""

from __future__ import annotations

import ast
import errno
import inspect
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import dtfc
from dtfc import errors
from dtfc.http import problems
from dtfc.http.fields import BadMessage
from dtfc.http.problems import (
    Problem,
    length_required,
    method_not_allowed,
    not_found,
    not_implemented,
    precondition_failed,
    problem_for,
    range_not_satisfiable,
    unsupported_media_type,
)

HEX = "ab" * 64
ALWAYS = (("Content-Type", "application/problem+json"), ("Cache-Control", "no-store"))

# Errors of one room that never reach a client as themselves.
INTERNAL = {
    "ClientError",  # of the client: its program hears them
    # Of a command, which tells them on its standard error.
    "Away",
    "Conflict",
    "Stopped",
    "Unfit",
    "Shrunk",  # an answer was begun: the connection is cut
    "PeerFailure",  # becomes a line of PeersUnreached
    "Refused",  # a copy is offered to somebody else
}


def failure(number: int) -> errors.StoreFailure:
    return errors.StoreFailure("write", OSError(number, "reason"))


def read(problem: Problem) -> dict[str, Any]:
    found = json.loads(problem.body())
    assert isinstance(found, dict)
    return found


@pytest.mark.parametrize(
    ("error", "status", "more"),
    [
        (errors.BadDigest("x"), 400, {}),
        (errors.BadName("no"), 400, {}),
        (errors.BadInput("no"), 400, {}),
        (errors.WrongLength(5, 4), 400, {"expected": 5, "actual": 4}),
        (errors.Denied("a deny file"), 403, {}),
        (errors.Absent(HEX), 404, {"sha512": HEX, "deleted": False}),
        (errors.Absent(HEX, deleted=True), 404, {"sha512": HEX, "deleted": True}),
        (errors.Stalled("the body", 30), 408, {}),
        (errors.TooLarge(10, "--max-body"), 413, {"limit": 10}),
        (
            errors.WrongDigest("sha-512", "aa", "bb"),
            422,
            {"algorithm": "sha-512", "expected": "aa", "actual": "bb"},
        ),
        (errors.ConnectionGone(), 499, {}),
        (errors.BrokenStore("/secret/path", "why"), 500, {}),
        (errors.BadSetting("--flag", "why"), 500, {}),
        (errors.BadSettings([errors.BadSetting("--flag", "why")]), 500, {}),
        (failure(errno.EIO), 500, {}),
        (failure(errno.EACCES), 500, {}),
        (errors.StoreFailure("read", OSError("no number")), 500, {}),
        (errors.Busy("this blob"), 503, {}),
        (
            errors.PeersUnreached(HEX, {"http://a:1": "timed out"}, 7),
            503,
            {"sha512": HEX, "unreached": {"http://a:1": "timed out"}},
        ),
        (errors.Draining(), 503, {}),
        (failure(errno.EROFS), 503, {}),
        (failure(errno.EMFILE), 503, {}),
        (errors.NoSpace(1, 2, 3), 507, {"needed": 1}),
        (errors.NoInodes(1, 2), 507, {}),
        (failure(errno.ENOSPC), 507, {}),
        (failure(errno.EDQUOT), 507, {}),
        (failure(errno.EFBIG), 413, {}),
    ],
)
def test_each_error_has_its_status_and_members(
    error: Exception, status: int, more: dict[str, Any]
) -> None:
    problem = problem_for(error)
    found = read(problem)
    standard = {key: found.pop(key) for key in ("type", "title", "status", "detail")}
    assert (problem.status, standard["status"], standard["type"], found) == (
        status,
        status,
        "about:blank",
        more,
    )


@pytest.mark.parametrize(
    ("error", "seconds"),
    [
        (errors.Busy("x"), "2"),
        (errors.Draining(), "5"),
        (errors.PeersUnreached(HEX, {}, 7), "7"),
        (failure(errno.EROFS), "60"),
        (errors.Absent(HEX), None),
        (errors.NoSpace(1, 2, 3), None),
    ],
)
def test_what_passes_says_when_to_ask_again(error: Exception, seconds: str | None) -> None:
    assert dict(problem_for(error).fields).get("Retry-After") == seconds


def test_detail_is_the_sentence_of_the_error() -> None:
    error = errors.WrongLength(5, 4)
    assert problem_for(error).detail == str(error)


@pytest.mark.parametrize(
    "error",
    [
        errors.BrokenStore("/secret/path", "secret"),
        errors.BadSetting("--secret", "secret"),
        errors.BadSettings([errors.BadSetting("--secret", "secret")]),
        ValueError("secret"),
        OSError(5, "secret", "/secret"),
        KeyError("secret"),
        type("SecretError", (errors.DtfcError,), {})("secret"),
    ],
)
def test_nothing_of_the_inside_gets_out(error: Exception) -> None:
    problem = problem_for(error)
    assert (problem.status, b"ecret" in problem.body(), "log" in problem.detail) == (
        500,
        False,
        True,
    )


def test_an_error_of_a_finer_kind_is_answered_as_its_base() -> None:
    finer = type("FinerName", (errors.BadName,), {})
    assert problem_for(finer("no")).status == 400


def test_a_message_that_is_no_http_brings_its_own_answer() -> None:
    problem = problem_for(BadMessage(431, "Too many fields", "more than 100"))
    assert (problem.status, problem.title, problem.detail) == (
        431,
        "Too many fields",
        "more than 100",
    )


def test_every_error_of_the_errors_module_is_in_the_table() -> None:
    kinds = {
        kind
        for _, kind in inspect.getmembers(errors, inspect.isclass)
        if issubclass(kind, errors.DtfcError) and kind is not errors.DtfcError
    }
    assert kinds == set(problems._TABLE)


def test_every_other_error_in_the_source_is_answered_or_known_to_stay_inside() -> None:
    bases: dict[str, set[str]] = {}
    for path in Path(dtfc.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef):
                names = {ast.unparse(base).rpartition(".")[2] for base in node.bases}
                bases.setdefault(node.name, set()).update(names - {node.name})

    def below(roots: set[str]) -> set[str]:
        found = roots
        while more := {name for name in bases if bases[name] & found} - found:
            found = found | more
        return found

    answered = {kind.__name__ for kind in problems._TABLE} | {"BadMessage"}
    assert below({"DtfcError"}) - below(answered | INTERNAL) == {"DtfcError"}


# The form.


def test_the_body_is_one_line_of_json_in_utf_8() -> None:
    problem = Problem(400, "T", "déjà", {"a": 1})
    assert (
        problem.body()
        == (
            '{"type": "about:blank", "title": "T", "status": 400, "detail": "déjà", "a": 1}\n'
        ).encode()
    )


def test_the_standard_members_win() -> None:
    problem = Problem(400, "T", "d", {"status": "ready", "type": "x", "detail": 5, "title": None})
    assert read(problem) == {"type": "about:blank", "title": "T", "status": 400, "detail": "d"}


def test_a_type_of_its_own_is_written() -> None:
    assert read(Problem(409, "T", "d", type="https://example.org/p"))["type"] == (
        "https://example.org/p"
    )


@given(st.text())
def test_any_detail_is_json(detail: str) -> None:
    assert read(Problem(400, "T", detail))["detail"] == detail


def test_a_byte_that_is_no_utf_8_is_json() -> None:
    assert b'"a\\udcff"' in Problem(400, "T", "a\udcff").body()


def test_a_member_that_json_does_not_know_is_written_as_text() -> None:
    assert read(Problem(400, "T", "d", {"at": Path("x")}))["at"] == "x"


@pytest.mark.parametrize(
    "problem",
    [
        Problem(400, "T", "d"),
        Problem(400, "T", "d", fields=(("cache-control", "public"), ("content-type", "a/b"))),
        Problem(400, "T", "d").with_members(a=1),
        problem_for(errors.BadInput("x")),
        problem_for(ValueError()),
        not_found("/x"),
    ],
)
def test_every_problem_has_the_two_fields(problem: Problem) -> None:
    assert problem.fields == ALWAYS


def test_further_fields_come_behind() -> None:
    problem = Problem(503, "T", "d", fields=(("Retry-After", "5"),))
    assert problem.fields == (*ALWAYS, ("Retry-After", "5"))


def test_further_members_leave_everything_else() -> None:
    problem = Problem(503, "T", "d", {"a": 1, "b": 1}, (("Retry-After", "5"),), "t:x")
    assert problem.with_members(b=2, c=3) == Problem(
        503, "T", "d", {"a": 1, "b": 2, "c": 3}, (("Retry-After", "5"),), "t:x"
    )


# Routing.


@pytest.mark.parametrize(
    ("problem", "status", "field"),
    [
        (not_found("/a%2Fb"), 404, None),
        (method_not_allowed({"PUT", "GET"}), 405, ("Allow", "GET, PUT")),
        (method_not_allowed(()), 405, ("Allow", "")),
        (length_required(), 411, None),
        (precondition_failed(), 412, None),
        (unsupported_media_type("a/b", "multipart/form-data"), 415, None),
        (range_not_satisfiable(100), 416, ("Content-Range", "bytes */100")),
        (not_implemented("BREW"), 501, None),
    ],
)
def test_routing_problems(problem: Problem, status: int, field: tuple[str, str] | None) -> None:
    assert (problem.status, problem.fields) == (status, (*ALWAYS, *([field] if field else [])))


@pytest.mark.parametrize(
    ("problem", "word"),
    [
        (not_found("/a%2Fb"), "/a%2Fb"),
        (not_implemented("BREW"), "BREW"),
        (unsupported_media_type("", "x/y"), "without Content-Type"),
        (method_not_allowed(()), "none"),
    ],
)
def test_routing_problems_name_what_was_sent(problem: Problem, word: str) -> None:
    assert word in problem.detail
