"""Files that would run a script in a browser, if a server let them.

Each holds the same script, which tells of itself in three ways: on the console,
which no policy of a page forbids; in the title; and by a request to a port here.
"""

from __future__ import annotations

import base64
import io
import struct
import zipfile
import zlib
from dataclasses import dataclass

#: What a script says before the name of the file that it came in.
RAN = "dtfc-ran"

_XHTML = "http://www.w3.org/1999/xhtml"
_SVG = "http://www.w3.org/2000/svg"
_PDF = "%PDF-1.7\n"


@dataclass(frozen=True, slots=True)
class File:
    """One file.

    Args:
        name: that it is stored under.
        body: what is in it.
    """

    name: str
    body: bytes


def script(name: str, beacon: str) -> str:
    """Return the script, in words that need no quoting in HTML, XML or an attribute.

    Args:
        name: of the file that it stands in.
        beacon: URL of the port that it tells.
    """
    return (
        f"console.log('{RAN} {name} '+self.location);"
        f"try{{document.title='{RAN} {name}'}}catch(e){{}}"
        f"try{{new Image().src='{beacon}/{name}'}}catch(e){{}}"
        f"try{{fetch('{beacon}/{name}',{{mode:'no-cors'}})}}catch(e){{}}"
    )


def files(beacon: str) -> list[File]:
    """Return all of them."""
    found: list[File] = []

    def add(name: str, text: str | bytes, encoding: str = "utf-8") -> None:
        # What the script says of itself is filled in here.
        inner = script(name, beacon)
        if isinstance(text, str):
            named = text.replace("BEACON", f"{beacon}/{name}").replace("JS", inner)
            body = named.encode(encoding)
        else:
            body = text.replace(b"JS", inner.encode())
        found.append(File(name, body))

    for part in (_pages, _drawings, _markup, _documents, _scripts, _pictures, _encodings, _others):
        for name, text, *encoding in part():
            add(name, text, *encoding)
    return found


_Parts = list[tuple[str, str | bytes] | tuple[str, str | bytes, str]]


def _pages() -> _Parts:
    html = "<!doctype html><title>x</title><script>JS</script>"
    return [
        ("page.html", html),
        ("page.htm", f"<!-- comment -->\n{html}"),
        ("events.html", ('<body onload="JS"><img src=x: onerror="JS"><svg onload="JS"></svg>'
         '<details open ontoggle="JS">x</details><video><source onerror="JS"></video>')),
        ("frames.html", ('<iframe srcdoc="<script>JS</script>"></iframe>'
         '<iframe src="javascript:JS"></iframe>'
         '<iframe src="data:text/html,<script>JS</script>"></iframe><object '
         'data="data:text/html,<script>JS</script>"></object>')),
        ("refresh.html", ('<meta http-equiv=refresh content="0;url=javascript:JS">'
         '<meta http-equiv=refresh content="0;url=data:text/html,<script>JS</script>">')),
        ("focus.html", ('<input autofocus onfocus="JS"><a id=a href="javascript:JS">x</a>'
         '<style>@keyframes k{}</style><b style="animation:k 1ms" onanimationstart="JS">x</b>')),
        ("base.html", ('<base href="javascript:/a/-JS//"><script src="data:text/javascript,JS">'
         '</script><link rel=stylesheet href="data:text/css," onload="JS">')),
        ("worker.html", ("<script>JS;new Worker('data:text/javascript,'+encodeURI("
         "'1'));navigator.serviceWorker.register(location.href)</script>")),
        ("policy.html", ('<meta http-equiv=Content-Security-Policy content="script-src *'
         f" 'unsafe-inline'\">{html}")),
        ("page.hta", f"<hta:application id=a>{html}"),
        ("page.shtml", html),
        ("page.php", html),
    ]  # fmt: skip


def _drawings() -> _Parts:
    head = f'<svg xmlns="{_SVG}" xmlns:xlink="http://www.w3.org/1999/xlink"'
    return [
        ("onload.svg", f'{head} onload="JS"><rect width="9" height="9"/></svg>'),
        ("script.svg", f"{head}><script>JS</script></svg>"),
        ("declared.svg", (f'<?xml version="1.0"?>\n<!DOCTYPE svg [<!ENTITY s "JS">]>\n{head}>'
         "<script>&s;</script></svg>")),
        ("foreign.svg", (f'{head}><foreignObject width="9" height="9"><body xmlns="{_XHTML}">'
         '<script>JS</script><iframe src="javascript:JS"/></body></foreignObject></svg>')),
        ("animated.svg", (f'{head}><a><set attributeName="href" to="javascript:JS"/></a><animate '
         'onbegin="JS" attributeName="x" dur="1s"/><script xlink:href="data:text/javascript,JS"/>'
         "</svg>")),
    ]  # fmt: skip


def _markup() -> _Parts:
    page = f'<html xmlns="{_XHTML}"><head><title>x</title></head><body><script>JS</script></body>'
    sheet = (
        '<xsl:stylesheet version="1.0" xmlns:xsl="http://www.w3.org/1999/XSL/Transform">'
        '<xsl:template match="/"><html><script>JS</script></html></xsl:template></xsl:stylesheet>'
    )
    packed = base64.b64encode(sheet.encode()).decode()
    return [
        ("page.xhtml", f"{page}</html>"),
        ("page.xht", f"<?xml version='1.0'?>{page}</html>"),
        ("page.xml", f"{page}</html>"),
        ("styled.xml", (f'<?xml-stylesheet type="text/xsl" href="data:text/xsl;base64,{packed}"?>'
         "<a/>")),
        ("itself.xml", ('<?xml version="1.0"?><?xml-stylesheet type="text/xsl" href="#s"?>'
         f'<!DOCTYPE a [<!ATTLIST xsl:stylesheet id ID #IMPLIED>]><a>{sheet}</a>')),
        ("sheet.xsl", sheet),
        ("feed.rss", ('<rss version="2.0"><channel><title>&lt;script>JS&lt;/script></title>'
         f'<script xmlns="{_XHTML}">JS</script></channel></rss>')),
        ("feed.atom", (f'<feed xmlns="http://www.w3.org/2005/Atom"><content type="xhtml"><div '
         f'xmlns="{_XHTML}"><script>JS</script></div></content></feed>')),
        ("formula.mml", (f'<math xmlns="http://www.w3.org/1998/Math/MathML"><script '
         f'xmlns="{_XHTML}">JS</script></math>')),
        ("binding.xbl", ('<bindings xmlns="http://www.mozilla.org/xbl"><binding id="a">'
         f'<implementation><constructor>JS</constructor></implementation></binding><script '
         f'xmlns="{_XHTML}">JS</script></bindings>')),
    ]  # fmt: skip


def _documents() -> _Parts:
    def pdf(action: str) -> str:
        return (
            f"{_PDF}1 0 obj<</Type/Catalog/Pages 2 0 R/OpenAction {action}>>endobj\n"
            "2 0 obj<</Type/Pages/Kids[3 0 R]/Count 1>>endobj\n"
            f"3 0 obj<</Type/Page/Parent 2 0 R/MediaBox[0 0 9 9]/AA<</O {action}>>>>endobj\n"
            "trailer<</Root 1 0 R>>\n%%EOF\n"
        )

    page = "<html><script>JS</script></html>"
    mime = (
        "From: <Saved by Blink>\r\nMIME-Version: 1.0\r\nContent-Type: multipart/related; "
        'type="text/html"; boundary="b"\r\n\r\n--b\r\nContent-Type: text/html\r\n'
        f"Content-Location: http://node.example/\r\n\r\n{page}\r\n--b--\r\n"
    )
    return [
        (
            "opens.pdf",
            pdf(
                "<</S/JavaScript/J#53(app.launchURL\\('BEACON'\\);this.submitForm\\('BEACON'\\))>>"
            ),
        ),
        ("address.pdf", pdf("<</S/URI/URI(javascript:JS)>>")),
        ("page.pdf", f"{_PDF}{page}"),
        ("saved.mhtml", mime),
        ("saved.mht", mime),
        ("letter.eml", mime),
        ("page.webarchive", f"bplist00<?xml version='1.0'?><plist><data>{page}</data></plist>"),
        ("link.url", "[InternetShortcut]\r\nURL=javascript:JS\r\n"),
        ("notes.md", f"# x\n\n{page}\n[x](javascript:JS)\n"),
    ]


def _scripts() -> _Parts:
    return [
        ("code.js", "JS"),
        ("module.mjs", "JS;export default 1"),
        ("worker.js", ("JS;self.addEventListener('fetch',function(e){e.respondWith(new Response("
         "'<script>JS</script>',{headers:{'Content-Type':'text/html'}}))})")),
        ("code.user.js", "// ==UserScript==\n// @match *://*/*\n// ==/UserScript==\nJS"),
        ("callback.json", "JS//"),
        ("page.json", '{"a": "<script>JS</script>"}'),
        ("style.css", ("@import 'javascript:JS';a{background:url('javascript:JS');behavior:"
         "url(#x);-moz-binding:url(data:text/xml,x)}/*<script>JS</script>*/")),
        ("app.webmanifest", '{"start_url": "javascript:JS", "name": "<script>JS</script>"}'),
        ("module.wasm", b"\0asm\1\0\0\0\0\x05\x04evil<script>JS</script>"),
    ]  # fmt: skip


def _pictures() -> _Parts:
    page = b"<html><script>JS</script></html>"

    def chunk(kind: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    png = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", 1, 1, 8, 0, 0, 0, 0))
    tail = chunk(b"IDAT", zlib.compress(b"\0\0")) + chunk(b"IEND", b"")
    gif = b"GIF89a\1\0\1\0\x80\0\0\0\0\0\xff\xff\xff,\0\0\0\0\1\0\1\0\0\2\2D\1\0;"
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("index.html", page)
    return [
        ("page.jpg", page),
        ("page.png", page),
        ("page.gif", page),
        ("page.webp", page),
        ("picture.gif", gif + page),
        ("picture.png", png + chunk(b"tEXt", b"Comment\0" + page) + tail + page),
        ("picture.jpg", b"\xff\xd8\xff\xe0\0\x10JFIF\0\1\1\0\0\1\0\1\0\0\xff\xfe\0\xff" + page
         + b"\xff\xd9"),
        ("script.gif", b"GIF89a/*\0\0\0\0,*/=1;JS"),
        ("script.bmp", b"BM=1;JS"),
        ("script.ico", b"\0\0\1\0\1\0" + page),
        ("script.webp", b"RIFF=1;/*WEBPVP8 */JS"),
        ("archive.gif", gif + packed.getvalue()),
    ]  # fmt: skip


def _encodings() -> _Parts:
    page = "<html><script>JS</script></html>"
    return [
        ("page.txt", page),
        ("mark.html", "\ufeff" + page),
        ("mark.txt", "\ufeff" + page),
        ("wide.html", "\ufeff" + page, "utf-16-le"),
        ("wide.txt", page, "utf-16-le"),
        ("seven.html", '<meta charset="utf-7">+ADw-script+AD4-JS+ADw-/script+AD4-' + page),
        ("seven.txt", "+/v8-+ADw-script+AD4-JS+ADw-/script+AD4-"),
        ("shifted.html", "<meta charset=iso-2022-jp>\x1b$B<!--\x1b(B" + page),
    ]


def _others() -> _Parts:
    page = "<html><script>JS</script></html>"
    return [
        ("README", page),
        ("page", "\n\n\n  " + page),
        ("captions.vtt", f"WEBVTT\n\n00:00.000 --> 00:09.000\n<c.{page}>{page}\n"),
        ("list.m3u8", f"#EXTM3U\n#EXTINF:1,{page}\njavascript:JS\n"),
        ("movie.swf", "FWS\x08" + page),
        ("film.mp4", b"\0\0\0\x18ftypmp42\0\0\0\0" + page.encode()),
        ("sound.wav", b"RIFF=1;/*WAVEfmt */JS"),
        ("page.html.jpg", page),
        ("page.jpg.html", page),
        ("table.csv", f'=cmd|"/c"!A1,{page}'),
    ]
