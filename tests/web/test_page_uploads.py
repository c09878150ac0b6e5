"""How the page sends a file in parts: its script in Node.js, against answers written down."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

from tests.support.programs import require_program

PAGE = Path(__file__).resolve().parents[2] / "dtfc/web/page"
MIB = 1024 * 1024
DIGEST = "ab" * 64

#: What stands around the script: a browser and a node, as far as it asks for them.
AROUND = (Path(__file__).parents[1] / "support/upload_page.mjs").read_text()


def run(script: str) -> Any:
    """Return what a script says of ``upload``, and what it asked for."""
    told = (
        "console.log(JSON.stringify({state: upload.state, digest: upload.digest,"
        " words: upload.words, asked, kept: [...kept.keys()].length}))"
    )
    names = f"const PAGE = {json.dumps(str(PAGE))}; const DIGEST = {json.dumps(DIGEST)};"
    done = subprocess.run(
        [require_program("node"), "--input-type=module", "-"],
        input=f"{names}\n{AROUND}\n{script}\n{told}",
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


WHOLE = ["OPTIONS uploads/", "POST uploads/"]


def parts(*offsets: int, name: str = "id0") -> list[str]:
    return [f"PATCH uploads/{name} {offset * MIB}" for offset in offsets]


def test_a_file_goes_in_parts() -> None:
    told = run(f"const upload = await sent(new Upload(file({20 * MIB}), () => {{}}));")
    assert told["asked"] == [*WHOLE, *parts(0, 8, 16)]
    assert (told["digest"], told["kept"]) == (DIGEST, 0)


def test_a_small_one_goes_at_once() -> None:
    told = run("const upload = await sent(new Upload(file(9, 'a b#?.txt'), () => {}));")
    assert told["asked"] == ["PUT a%20b%23%3F.txt"]
    assert told["digest"] == DIGEST


def test_an_empty_one_too() -> None:
    told = run("const upload = await sent(new Upload(file(0, 'empty'), () => {}));")
    assert (told["asked"], told["digest"]) == (["PUT empty"], DIGEST)


def test_where_there_are_no_uploads_it_is_put() -> None:
    told = run(
        'answer = (method) => method === "OPTIONS" ? {status: 404, fields: {}} : null;'
        f"const upload = await sent(new Upload(file({9 * MIB}), () => {{}}));"
    )
    assert told["asked"] == ["OPTIONS uploads/", "PUT film.mkv"]


def test_a_part_that_arrived_damaged_is_sent_again() -> None:
    told = run(
        'answer = once((method, path, fields) => fields["Upload-Offset"] === String(8 << 20),'
        " {status: 460, fields: {}});"
        f"const upload = await sent(new Upload(file({20 * MIB}), () => {{}}));"
    )
    assert told["asked"] == [*WHOLE, *parts(0, 8), "HEAD uploads/id0", *parts(8, 16)]


def test_another_offset_is_followed() -> None:
    told = run(
        'answer = once((method) => method === "PATCH" && (node.held.set("id0", 5 << 20), true),'
        " {status: 0});"
        f"const upload = await sent(new Upload(file({9 * MIB}), () => {{}}));"
    )
    assert told["asked"] == [*WHOLE, *parts(0), "HEAD uploads/id0", *parts(5)]


def test_an_upload_that_is_gone_is_begun_anew() -> None:
    told = run(
        'answer = once((method) => method === "PATCH" && (node.held.delete("id0"), '
        'node.held.set("other", 0), true), {status: 404, fields: {}});'
        f"const upload = await sent(new Upload(file({9 * MIB}), () => {{}}));"
    )
    assert told["digest"] == DIGEST
    assert told["asked"] == [
        *WHOLE,
        *parts(0),
        "POST uploads/",
        *parts(0, 8, name="id1"),
    ]


def test_a_last_answer_that_was_lost_is_asked_for() -> None:
    told = run(
        "answer = once((method, path, fields, size) => "
        'fields["Upload-Offset"] === String(8 << 20) && (node.held.set("id0", 9 << 20), true),'
        " {status: 0});"
        f"const upload = await sent(new Upload(file({9 * MIB}), () => {{}}));"
    )
    assert told["asked"] == [*WHOLE, *parts(0, 8), "HEAD uploads/id0", "GET uploads/id0"]
    assert told["digest"] == DIGEST


def test_a_node_that_is_away_for_long_is_waited_for() -> None:
    told = run(
        "let away = 12;"
        'answer = (method) => method !== "OPTIONS" && away-- > 0 ? {status: 503} : null;'
        f"const upload = await sent(new Upload(file({9 * MIB}), () => {{}}));"
    )
    assert told["digest"] == DIGEST
    assert told["asked"].count("POST uploads/") == 13


def test_a_refusal_is_not_tried_again() -> None:
    told = run(
        'answer = (method) => method === "POST" ? {status: 413, fields: {}, text: JSON.stringify('
        '{title: "This is too large", detail: "more than 10 bytes"})} : null;'
        f"const upload = await sent(new Upload(file({9 * MIB}), () => {{}}));"
    )
    assert told["asked"] == WHOLE
    assert told["words"] == "This is too large: more than 10 bytes"


def test_it_goes_on_where_an_earlier_page_was() -> None:
    told = run(
        f"const pause = each => each.sent >= {8 * MIB} && each.pause();"
        f"await new Upload(file({20 * MIB}), pause).run();"
        "asked.length = 0;"
        f"const upload = await sent(new Upload(file({20 * MIB}), () => {{}}));"
    )
    assert told["asked"] == ["HEAD uploads/id0", *parts(8, 16)]
    assert told["kept"] == 0


def test_another_file_of_that_name_does_not() -> None:
    told = run(
        f"const pause = each => each.sent >= {8 * MIB} && each.pause();"
        f"await new Upload(file({20 * MIB}), pause).run();"
        "asked.length = 0;"
        f"const upload = await sent(new Upload(file({21 * MIB}), () => {{}}));"
    )
    assert told["asked"][0] == "POST uploads/"


def test_a_browser_that_keeps_nothing() -> None:
    told = run(
        'globalThis.localStorage = { getItem() { throw Error("no"); },'
        ' setItem() { throw Error("no"); }, removeItem() { throw Error("no"); } };'
        "let lost = 1;"
        'answer = (method) => method === "PATCH" && lost-- > 0 ? {status: 0} : null;'
        f"const upload = await sent(new Upload(file({9 * MIB}), () => {{}}));"
    )
    assert told["asked"] == [*WHOLE, *parts(0), "HEAD uploads/id0", *parts(0, 8)]
