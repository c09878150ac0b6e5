r"""Requests as bytes, and how a strict server answers each of them.

Each `Payload` is all that a client sends on one new connection, complete, so
that it can be fed to the parser alone or written to a real socket:

- ``expected`` has one set of status codes for each final answer, in order; any
  code of the set will do. Interim answers (100) may come before a final one
  and do not count.
- ``closes`` tells whether the server ends the connection after the last
  answer. It always does after a refusal (RFC 9112 section 9.6); bytes that
  follow are then not a request any more.

Where the answer is not a refusal, the request is a GET or HEAD of
``/health.html`` (200), OPTIONS (200 or 204), or a PUT of ``/framing.bin``
(201 the first time, 200 later).
"""

from __future__ import annotations

from dataclasses import dataclass

OK = frozenset({200})
STORED = frozenset({200, 201})
OPTIONS = frozenset({200, 204})


@dataclass(frozen=True, slots=True)
class Payload:
    """What is sent, and what must come back."""

    name: str
    raw: bytes
    expected: tuple[frozenset[int], ...]
    closes: bool


def good(name: str, raw: bytes, *expected: frozenset[int], closes: bool = False) -> Payload:
    return Payload(name, raw, expected or (OK,), closes)


def bad(
    name: str, raw: bytes, status: int = 400, after: tuple[frozenset[int], ...] = ()
) -> Payload:
    return Payload(name, raw, (*after, frozenset({status})), closes=True)


def lines(*each: bytes) -> bytes:
    """Join lines as HTTP does, with the empty line at the end."""
    return b"".join(line + b"\r\n" for line in each) + b"\r\n"


def get(*fields: bytes, target: bytes = b"/health.html", version: bytes = b"HTTP/1.1") -> bytes:
    return lines(b"GET " + target + b" " + version, b"Host: localhost", *fields)


def put(*fields: bytes, body: bytes = b"") -> bytes:
    return lines(b"PUT /framing.bin HTTP/1.1", b"Host: localhost", *fields) + body


def chunked(body: bytes, *fields: bytes) -> bytes:
    return put(b"Transfer-Encoding: chunked", *fields, body=body)


def host(value: bytes) -> bytes:
    return lines(b"GET /health.html HTTP/1.1", b"Host: " + value)


GET = get()
END = b"0\r\n\r\n"
FIVE = b"5\r\nhello\r\n"
LIMIT = 16384 - len(get(b"X: "))  # how long a field's value may be in GET

REQUEST_LINES = [
    good("plain GET", GET),
    good("HEAD", lines(b"HEAD /health.html HTTP/1.1", b"Host: localhost")),
    good("two pipelined", GET * 2, OK, OK),
    good("ten pipelined", GET * 10, *[OK] * 10),
    good("an empty line before the request", b"\r\n" + GET),
    good("an empty line between two requests", GET + b"\r\n" + GET, OK, OK),
    good("a query", get(target=b"/health.html?a=1&b=%zz")),
    good("an empty query", get(target=b"/health.html?")),
    good("odd visible characters in a query", get(target=b'/health.html?a|b\\c^{"<>`}')),
    good("HTTP/1.0", get(version=b"HTTP/1.0"), closes=True),
    good("HTTP/1.0 without Host", lines(b"GET /health.html HTTP/1.0"), closes=True),
    good("HTTP/1.2 is answered as 1.1", get(version=b"HTTP/1.2")),
    good("HTTP/1.9 is answered as 1.1", get(version=b"HTTP/1.9")),
    good("absolute-form", get(target=b"http://localhost/health.html")),
    good("absolute-form with a port", get(target=b"http://localhost:8080/health.html")),
    good("absolute-form in capitals", get(target=b"HTTP://LOCALHOST/health.html")),
    good("absolute-form https", get(target=b"https://localhost/health.html")),
    good("absolute-form with a query", get(target=b"http://localhost/health.html?a=http://b/")),
    good("absolute-form of another host", get(target=b"http://other.example/health.html")),
    good("absolute-form with IPv6", get(target=b"http://[::1]:8080/health.html")),
    good(
        "absolute-form on HTTP/1.0 without Host",
        lines(b"GET http://localhost/health.html HTTP/1.0"),
        closes=True,
    ),
    good("OPTIONS *", lines(b"OPTIONS * HTTP/1.1", b"Host: localhost"), OPTIONS),
    good(
        "OPTIONS of a whole URL without a path",
        lines(b"OPTIONS http://localhost HTTP/1.1", b"Host: localhost"),
        OPTIONS,
    ),
    good("OPTIONS of a path", lines(b"OPTIONS /health.html HTTP/1.1", b"Host: localhost"), OPTIONS),
    bad("two empty lines before the request", b"\r\n\r\n" + GET),
    bad("a bare LF before the request", b"\n" + GET),
    bad("a bare CR before the request", b"\r" + GET),
    bad("a blank before the method", b" " + GET),
    bad("HTTP/0.9", b"GET /health.html\r\n"),
    bad("HTTP/0.9 with a blank at the end", b"GET /health.html \r\n"),
    bad("only a method", b"GET\r\n\r\n"),
    bad("two blanks after the method", GET.replace(b"GET ", b"GET  ")),
    bad("two blanks before the version", GET.replace(b" HTTP", b"  HTTP")),
    bad("a tab after the method", GET.replace(b"GET ", b"GET\t")),
    bad("a tab before the version", GET.replace(b" HTTP", b"\tHTTP")),
    bad("a form feed after the method", GET.replace(b"GET ", b"GET\x0c")),
    bad("a blank after the version", GET.replace(b"HTTP/1.1", b"HTTP/1.1 ")),
    bad("a word after the version", GET.replace(b"HTTP/1.1", b"HTTP/1.1 x")),
    bad("a blank in the target", get(target=b"/health.html x")),
    bad("a no-break space in the target", get(target=b"/health.html\xa0x")),
    bad("no target", GET.replace(b"/health.html ", b"")),
    bad("an empty target", GET.replace(b"/health.html", b"")),
    bad("UTF-8 in the target", get(target="/é".encode())),
    bad("a byte over 0x7f in the target", get(target=b"/\xff")),
    bad("a control character in the target", get(target=b"/\x01")),
    bad("DEL in the target", get(target=b"/\x7f")),
    bad("NUL in the target", get(target=b"/\x00")),
    bad("a bare CR in the target", get(target=b"/\r")),
    bad("a bare LF in the target", get(target=b"/\n")),
    bad("a fragment", get(target=b"/health.html#top")),
    bad("a fragment in a whole URL", get(target=b"http://localhost/health.html#top")),
    bad("a target without a slash", get(target=b"health.html")),
    bad("authority-form", get(target=b"localhost:80")),
    bad("asterisk-form with GET", get(target=b"*")),
    bad("asterisk with more", lines(b"OPTIONS *a HTTP/1.1", b"Host: localhost")),
    bad("a backslash for a slash", get(target=b"\\health.html")),
    bad("another scheme", get(target=b"ftp://localhost/health.html")),
    bad("a scheme with one slash", get(target=b"http:/health.html")),
    bad("a whole URL without a host", get(target=b"http:///health.html")),
    bad("a whole URL with only a port", get(target=b"http://:80/health.html")),
    bad("user information", get(target=b"http://me@localhost/health.html")),
    bad("user information with a password", get(target=b"http://me:pw@localhost/health.html")),
    bad("a whole URL with a bad port", get(target=b"http://localhost:99999/health.html")),
    bad("a whole URL with a bad host", get(target=b"http://a..b/health.html")),
    bad("a percent sign alone", get(target=b"/100%")),
    bad("a percent sign and one digit", get(target=b"/%4")),
    bad("a percent sign and letters", get(target=b"/%zz")),
    bad("a percent sign in a whole URL's path", get(target=b"http://localhost/%g0")),
    bad("a version in small letters", get(version=b"http/1.1")),
    bad("a version without a minor part", get(version=b"HTTP/1")),
    bad("a version with two minor digits", get(version=b"HTTP/1.10")),
    bad("a version with two major digits", get(version=b"HTTP/01.1")),
    bad("a version with a comma", get(version=b"HTTP/1,1")),
    bad("a version with a blank inside", get(version=b"HTTP/ 1.1")),
    bad("another protocol", get(version=b"SIP/2.0")),
    bad("HTTP/0.9 in full", get(version=b"HTTP/0.9"), 505),
    bad("HTTP/2.0", get(version=b"HTTP/2.0"), 505),
    bad("HTTP/3.0", get(version=b"HTTP/3.0"), 505),
    bad("the HTTP/2 preface", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
    bad("a TLS greeting", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"),
    bad("an SSH greeting", b"SSH-2.0-OpenSSH_9.2\r\n"),
    bad("a response", lines(b"HTTP/1.1 200 OK", b"Content-Length: 0")),
    bad("a method with a colon", lines(b"GE:T / HTTP/1.1", b"Host: localhost")),
    bad("a method over 0x7f", lines(b"G\xc9T / HTTP/1.1", b"Host: localhost")),
    bad("a method in quotes", lines(b'"GET" / HTTP/1.1', b"Host: localhost")),
    bad("CONNECT", lines(b"CONNECT localhost:80 HTTP/1.1", b"Host: localhost:80"), 501),
    bad("TRACE", lines(b"TRACE /health.html HTTP/1.1", b"Host: localhost"), 501),
    bad("a method in small letters", lines(b"get /health.html HTTP/1.1", b"Host: localhost"), 501),
    bad("a WebDAV method", lines(b"PROPFIND / HTTP/1.1", b"Host: localhost"), 501),
    bad("an unknown method with a bad Host", lines(b"FOO / HTTP/1.1", b"Host: a..b")),
    bad("an unknown method without Host", lines(b"FOO / HTTP/1.1")),
    bad(
        "an unknown method with two lengths",
        lines(b"FOO / HTTP/1.1", b"Host: a", b"Content-Length: 1", b"Content-Length: 1"),
    ),
    bad("a target over the limit", get(target=b"/" + b"a" * 8192), 414),
    bad("a method over the limit", lines(b"A" * 9000 + b" / HTTP/1.1", b"Host: localhost"), 414),
    bad("a request line without an end", b"GET /" + b"a" * 9000, 414),
    bad("a good request, then none", GET + b"nonsense\r\n\r\n", after=(OK,)),
    bad("a good request, then two empty lines", GET + b"\r\n\r\n" + GET, after=(OK,)),
]

FIELDS = [
    good("a field without a value", get(b"X:")),
    good("a field of blanks", get(b"X: \t ")),
    good("no blank after the colon", get(b"X:y")),
    good("blanks and tabs around a value", get(b"X: \t y z\t ")),
    good("bytes over 0x7f in a value", get("X: é".encode(), b"Y: \xff\x80")),
    good("all characters of a token in a name", get(b"!#$%&'*+-.^_`|~09azAZ: y")),
    good("colons in a value", get(b"X: a:b::c")),
    good("Host in small letters", lines(b"GET /health.html HTTP/1.1", b"host: localhost")),
    good("Host in capitals", lines(b"GET /health.html HTTP/1.1", b"HOST:localhost")),
    good("a hundred fields", get(*[b"X: y"] * 99)),
    good("a head as large as may be", get(b"X: " + b"a" * LIMIT)),
    bad("a blank before the colon", get(b"X : y")),
    bad("a tab before the colon", get(b"X\t: y")),
    bad("a blank before the colon of Host", lines(b"GET / HTTP/1.1", b"Host : localhost")),
    bad("a blank before the colon of a length", put(b"Content-Length : 5", body=b"hello")),
    bad("a blank before the colon of a coding", put(b"Transfer-Encoding : chunked", body=END)),
    bad("a folded line", get(b"X: y", b" z")),
    bad("a line folded with a tab", get(b"X: y", b"\tz")),
    bad("a folded empty line", get(b"X: y", b" ")),
    bad("a blank before the first field", lines(b"GET / HTTP/1.1", b" Host: localhost")),
    bad("a folded coding", put(b"Transfer-Encoding:", b" chunked", body=END)),
    bad("a line without a colon", get(b"X")),
    bad("an empty name", get(b": y")),
    bad("a blank in a name", get(b"X Y: z")),
    bad("brackets in a name", get(b"X(Y): z")),
    bad("a byte over 0x7f in a name", get(b"X\xe9: z")),
    bad("a control character in a name", get(b"X\x01: z")),
    bad("a NUL in a name", get(b"X\x00: z")),
    bad("a NUL in a value", get(b"X: y\x00z")),
    bad("a control character in a value", get(b"X: y\x01z")),
    bad("a vertical tab before a value", get(b"X:\x0by")),
    bad("a form feed after a value", get(b"X: y\x0c")),
    bad("DEL in a value", get(b"X: y\x7f")),
    bad("a bare CR in a value", get(b"X: y\rz")),
    bad("a bare CR before the colon", get(b"X\r: z")),
    bad("a bare CR at the end of a value", get(b"X: y\r")),
    bad("a bare LF in a value", get(b"X: y\nz: 1")),
    bad("a bare LF for all line ends", GET.replace(b"\r\n", b"\n")),
    bad("a bare LF after the request line", GET.replace(b"\r\n", b"\n", 1)),
    bad("a bare LF for the empty line", GET[:-2] + b"\n"),
    bad("CR LF LF at the end", get(b"X: y")[:-2] + b"\n" + GET),
    bad("LF CR LF at the end", GET[:-4] + b"\n\r\n"),
    bad("CR CR LF", GET[:-4] + b"\r\r\n\r\n"),
    bad("a bare CR for all line ends", GET.replace(b"\r\n", b"\r")),
    bad("a hidden length after a bare CR", put(b"X: y\rContent-Length: 5", body=b"hello")),
    bad("a hidden coding after a bare LF", put(b"X: y\nTransfer-Encoding: chunked", body=END)),
    bad("a hundred and one fields", get(*[b"X: y"] * 100), 431),
    bad("a thousand fields", get(*[b"X: y"] * 1000), 431),
    bad("a head one byte too large", get(b"X: " + b"a" * (LIMIT + 1)), 431),
    bad("a field far too large", get(b"X: " + b"a" * 100_000), 431),
    bad("a name far too large", get(b"X" * 20_000 + b": y"), 431),
    bad("a head without an end", GET[:-2] + b"X: " + b"a" * 20_000, 431),
]

HOSTS = [
    good("Host with a port", host(b"localhost:8080")),
    good("Host with an empty port", host(b"localhost:")),
    good("Host as an IPv4 address", host(b"127.0.0.1:8080")),
    good("Host as an IPv6 address", host(b"[::1]")),
    good("Host as an IPv6 address with a port", host(b"[2001:db8::192.0.2.1]:8080")),
    good("Host with an underscore", host(b"my_node:80")),
    good("Host with a dot at the end", host(b"node.example.:80")),
    good("Host with a long label", host(b"a" * 63 + b".example")),
    good("Host with port 65535", host(b"localhost:65535")),
    bad("no Host", lines(b"GET /health.html HTTP/1.1")),
    bad("no Host with absolute-form", lines(b"GET http://localhost/health.html HTTP/1.1")),
    bad("no Host with HTTP/1.2", lines(b"GET /health.html HTTP/1.2")),
    bad("two Hosts", get(b"Host: localhost")),
    bad("two Hosts on HTTP/1.0", get(b"Host: localhost", version=b"HTTP/1.0")),
    bad("two different Hosts", get(b"Host: other")),
    bad("two Hosts with absolute-form", get(b"Host: a", target=b"http://localhost/health.html")),
    bad(
        "a bad Host with absolute-form",
        lines(b"GET http://localhost/health.html HTTP/1.1", b"Host: a..b"),
    ),
    bad("an empty Host", host(b"")),
    bad("Host with two dots", host(b"a..b")),
    bad("Host with a dot first", host(b".a")),
    bad("Host of one dot", host(b".")),
    bad("Host with a blank", host(b"a b")),
    bad("Host with a tab", host(b"a\tb")),
    bad("a list of Hosts", host(b"a, b")),
    bad("Host with a slash", host(b"localhost/x")),
    bad("Host as a URL", host(b"http://localhost")),
    bad("Host with user information", host(b"me@localhost")),
    bad("Host with a query", host(b"localhost?x")),
    bad("Host with a fragment", host(b"localhost#x")),
    bad("Host with a backslash", host(b"localhost\\x")),
    bad("Host with a percent escape", host(b"local%68ost")),
    bad("Host with markup", host(b"<script>")),
    bad("Host with quotes", host(b'"localhost"')),
    bad("Host with bytes over 0x7f", host("exämple".encode())),
    bad("Host with a label of 64", host(b"a" * 64)),
    bad("Host with a name over 255", host(b".".join([b"a" * 63] * 5))),
    bad("Host with port 65536", host(b"localhost:65536")),
    bad("Host with a port of six digits", host(b"localhost:000080")),
    bad("Host with a port in letters", host(b"localhost:http")),
    bad("Host with a negative port", host(b"localhost:-80")),
    bad("Host with two ports", host(b"localhost:80:80")),
    bad("Host with only a port", host(b":80")),
    bad("Host with an open bracket", host(b"[::1")),
    bad("Host with empty brackets", host(b"[]")),
    bad("Host with a bad IPv6 address", host(b"[::1::2]")),
    bad("Host with an IPv6 address without brackets", host(b"::1")),
    bad("Host with a zone", host(b"[fe80::1%25eth0]")),
    bad("Host with IPvFuture", host(b"[v1.a]")),
    bad("Host with text after the bracket", host(b"[::1]x")),
]

LENGTHS = [
    good("a body with a length", put(b"Content-Length: 5", body=b"hello"), STORED),
    good("an empty body", put(b"Content-Length: 0"), STORED),
    good("a length with a zero first", put(b"Content-Length: 05", body=b"hello"), STORED),
    good("a body, then a request", put(b"Content-Length: 5", body=b"hello") + GET, STORED, OK),
    good(
        "a request inside a body",
        put(b"Content-Length: %d" % len(GET), body=GET) + GET,
        STORED,
        OK,
    ),
    good("GET with an empty body", get(b"Content-Length: 0") + GET, OK, OK),
    good("GET with a body", get(b"Content-Length: 5") + b"hello" + GET, OK, OK),
    good("GET with a chunked body", get(b"Transfer-Encoding: chunked") + FIVE + END + GET, OK, OK),
    good(
        "a length on HTTP/1.0",
        lines(b"PUT /framing.bin HTTP/1.0", b"Content-Length: 5") + b"hello",
        STORED,
        closes=True,
    ),
    bad("two lengths that agree", put(b"Content-Length: 5", b"Content-Length: 5", body=b"hello")),
    bad("two lengths that differ", put(b"Content-Length: 5", b"Content-Length: 6", body=b"hello")),
    bad("two lengths in two spellings", put(b"Content-Length: 5", b"content-length: 5")),
    bad("a list of lengths that agree", put(b"Content-Length: 5, 5", body=b"hello")),
    bad("a list of lengths that differ", put(b"Content-Length: 5, 6", body=b"hello")),
    bad("a length with a comma", put(b"Content-Length: 5,", body=b"hello")),
    bad("an empty length", put(b"Content-Length:")),
    bad("a length with a plus", put(b"Content-Length: +5", body=b"hello")),
    bad("a negative length", put(b"Content-Length: -5", body=b"hello")),
    bad("minus zero", put(b"Content-Length: -0")),
    bad("a length in hexadecimal", put(b"Content-Length: 0x5", body=b"hello")),
    bad("a length with an underscore", put(b"Content-Length: 1_0", body=b"hello")),
    bad("a length with a point", put(b"Content-Length: 5.0", body=b"hello")),
    bad("a length with an exponent", put(b"Content-Length: 1e1", body=b"hello")),
    bad("a length with a blank inside", put(b"Content-Length: 1 0", body=b"hello")),
    bad("a length in letters", put(b"Content-Length: five", body=b"hello")),
    bad("a length in quotes", put(b'Content-Length: "5"', body=b"hello")),
    bad("a length in other digits", put("Content-Length: \u0665".encode(), body=b"hello")),
    bad("a length and a unit", put(b"Content-Length: 5;x", body=b"hello")),
    bad("a bad length on GET", get(b"Content-Length: x")),
    bad("a length over 2**63", put(b"Content-Length: 9223372036854775808"), 413),
    bad("a length of 20 digits", put(b"Content-Length: 99999999999999999999"), 413),
    bad("a length of 5000 digits", put(b"Content-Length: " + b"9" * 5000), 413),
]

CODINGS = [
    good("chunked", chunked(FIVE + END), STORED),
    good("chunked in capitals", put(b"Transfer-Encoding: CHUNKED", body=FIVE + END), STORED),
    good("chunked with blanks", put(b"Transfer-Encoding: \tchunked \t", body=END), STORED),
    good("chunked, then a request", chunked(FIVE + END) + GET, STORED, OK),
    bad("chunked on HTTP/1.0", chunked(FIVE + END).replace(b"/1.1", b"/1.0")),
    bad("a length and chunked", put(b"Content-Length: 5", b"Transfer-Encoding: chunked", body=END)),
    bad("chunked and a length", chunked(END, b"Content-Length: 5")),
    bad("chunked and a length of zero", chunked(END, b"Content-Length: 0")),
    bad("chunked and a bad length", chunked(END, b"Content-Length: x")),
    bad("gzip and a length", put(b"Transfer-Encoding: gzip", b"Content-Length: 5", body=b"hello")),
    bad("an empty coding", put(b"Transfer-Encoding:", body=END)),
    bad("a coding of a comma", put(b"Transfer-Encoding: ,", body=END)),
    bad("a comma before chunked", put(b"Transfer-Encoding: , chunked", body=END)),
    bad("a comma after chunked", put(b"Transfer-Encoding: chunked,", body=END)),
    bad("an empty coding, then chunked", chunked(END, b"Transfer-Encoding:")),
    bad("chunked twice in a list", put(b"Transfer-Encoding: chunked, chunked", body=END)),
    bad("chunked twice in two lines", chunked(END, b"Transfer-Encoding: chunked")),
    bad("chunked not last", put(b"Transfer-Encoding: chunked, gzip", body=END)),
    bad("chunked not last, in two lines", chunked(END, b"Transfer-Encoding: identity")),
    bad("chunked with a parameter", put(b"Transfer-Encoding: chunked;q=1", body=END)),
    bad("chunked with an empty parameter", put(b"Transfer-Encoding: chunked ;", body=END)),
    bad("chunked in quotes", put(b'Transfer-Encoding: "chunked"', body=END)),
    bad("chunked after a vertical tab", put(b"Transfer-Encoding:\x0bchunked", body=END)),
    bad("chunked after a no-break space", put(b"Transfer-Encoding: \xa0chunked", body=END)),
    bad("two words for a coding", put(b"Transfer-Encoding: chunked chunked", body=END)),
    bad("gzip", put(b"Transfer-Encoding: gzip", body=END), 501),
    bad("identity", put(b"Transfer-Encoding: identity", body=END), 501),
    bad("gzip, then chunked", put(b"Transfer-Encoding: gzip, chunked", body=END), 501),
    bad(
        "gzip, then chunked in a second line",
        put(b"Transfer-Encoding: gzip", b"Transfer-Encoding: chunked", body=END),
        501,
    ),
    bad("identity, then chunked", put(b"Transfer-Encoding: identity, chunked", body=END), 501),
    bad("nearly chunked", put(b"Transfer-Encoding: xchunked", body=END), 501),
    bad("chunked and more letters", put(b"Transfer-Encoding: chunkedfoo", body=END), 501),
]

CHUNKS = [
    good("two chunks", chunked(FIVE + FIVE + END), STORED),
    good("no chunks", chunked(END), STORED),
    good("many zeros for the last chunk", chunked(FIVE + b"0000\r\n\r\n"), STORED),
    good("a size with zeros", chunked(b"0000000000000005\r\nhello\r\n" + END), STORED),
    good("sizes in both cases", chunked(b"a\r\n0123456789\r\nA\r\n0123456789\r\n" + END), STORED),
    good("an extension", chunked(b"5;a=b\r\nhello\r\n" + END), STORED),
    good("an extension without a value", chunked(b"5;a\r\nhello\r\n0;b\r\n\r\n"), STORED),
    good("an extension in quotes", chunked(b'5;a="b;\\""\r\nhello\r\n' + END), STORED),
    good("an extension with blanks", chunked(b"5 ; a = b;c\r\nhello\r\n" + END), STORED),
    good("CR LF as data", chunked(b"4\r\n\r\n\r\n\r\n" + END), STORED),
    good("a request as data", chunked(b"%x\r\n%b\r\n" % (len(GET), GET) + END) + GET, STORED, OK),
    good("a trailer", chunked(FIVE + b"0\r\nX: y\r\n\r\n"), STORED),
    good("fifty trailers", chunked(FIVE + b"0\r\n" + b"X: y\r\n" * 50 + b"\r\n"), STORED),
    good(
        "framing fields as trailers", chunked(b"0\r\nContent-Length: 9\r\n\r\n") + GET, STORED, OK
    ),
    good("a thousand chunks of one byte", chunked(b"1\r\na\r\n" * 1000 + END), STORED),
    bad("a size with a minus", chunked(b"-5\r\nhello\r\n" + END)),
    bad("a size with a plus", chunked(b"+5\r\nhello\r\n" + END)),
    bad("a size with 0x", chunked(b"0x5\r\nhello\r\n" + END)),
    bad("a size with an underscore", chunked(b"0_5\r\nhello\r\n" + END)),
    bad("a size that is no number", chunked(b"five\r\nhello\r\n" + END)),
    bad("an empty size", chunked(b"\r\nhello\r\n" + END)),
    bad("an extension without a size", chunked(b";a=b\r\nhello\r\n" + END)),
    bad("a blank before a size", chunked(b" 5\r\nhello\r\n" + END)),
    bad("a blank after a size", chunked(b"5 \r\nhello\r\n" + END)),
    bad("a tab after a size", chunked(b"5\t\r\nhello\r\n" + END)),
    bad("a size of 17 digits", chunked(b"00000000000000005\r\nhello\r\n" + END)),
    bad("a size that wraps 64 bits", chunked(b"10000000000000005\r\nhello\r\n" + END)),
    bad("a size with a comma", chunked(b"5,5\r\nhello\r\n" + END)),
    bad("a size in other digits", chunked("\u0665\r\nhello\r\n".encode() + END)),
    bad("a size with a bare LF", chunked(b"5\nhello\r\n" + END)),
    bad("a size with a bare CR", chunked(b"5\rhello\r\n" + END)),
    bad("a size with CR CR LF", chunked(b"5\r\r\nhello\r\n" + END)),
    bad("a NUL after a size", chunked(b"5\x00\r\nhello\r\n" + END)),
    bad("an extension without a name", chunked(b"5;\r\nhello\r\n" + END)),
    bad("an extension with an empty value", chunked(b"5;a=\r\nhello\r\n" + END)),
    bad("an extension with a bare CR", chunked(b"5;a\rb\r\nhello\r\n" + END)),
    bad("an extension with a bare LF", chunked(b"5;a\nb\r\nhello\r\n" + END)),
    bad("an extension with a NUL", chunked(b"5;a=\x00\r\nhello\r\n" + END)),
    bad("an extension with an open quote", chunked(b'5;a="b\r\nhello\r\n' + END)),
    bad("an extension over the limit", chunked(b"5;" + b"a" * 1024 + b"\r\nhello\r\n" + END)),
    bad("an extension without an end", chunked(b"5;" + b"a" * 5000)),
    bad("many extensions", chunked((b"1;" + b"a" * 1000 + b"\r\nb\r\n") * 20 + END)),
    bad("very many chunks of one byte", chunked(b"1\r\na\r\n" * 5000 + END)),
    bad("more data than the size", chunked(b"5\r\nhello!\r\n" + END)),
    bad("less data than the size", chunked(b"6\r\nhello\r\n" + END)),
    bad("no CR LF after the data", chunked(b"5\r\nhello" + END)),
    bad("a bare LF after the data", chunked(b"5\r\nhello\n" + END)),
    bad("a bare CR after the data", chunked(b"5\r\nhello\r" + END)),
    bad("a bare LF after the last chunk", chunked(FIVE + b"0\n\n")),
    bad("a bare LF at the very end", chunked(FIVE + b"0\r\n\n")),
    bad("a bare CR at the very end", chunked(FIVE + b"0\r\n\rX")),
    bad("a request where the trailers are", chunked(FIVE + b"0\r\n" + GET)),
    bad("a trailer with a blank before the colon", chunked(b"0\r\nX : y\r\n\r\n")),
    bad("a folded trailer", chunked(b"0\r\nX: y\r\n z\r\n\r\n")),
    bad("a trailer without a colon", chunked(b"0\r\nX\r\n\r\n")),
    bad("a trailer with a NUL", chunked(b"0\r\nX: \x00\r\n\r\n")),
    bad("a trailer with a bare LF", chunked(b"0\r\nX: y\n\r\n")),
    bad("fifty-one trailers", chunked(b"0\r\n" + b"X: y\r\n" * 51 + b"\r\n"), 431),
    bad("a trailer over the limit", chunked(b"0\r\nX: " + b"a" * 8192 + b"\r\n\r\n"), 431),
    bad("trailers without an end", chunked(b"0\r\n" + b"X: " + b"a" * 9000), 431),
    bad("a chunked body, then nonsense", chunked(FIVE + END) + b"5\r\n", after=(STORED,)),
]

CONNECTIONS = [
    good("close", get(b"Connection: close"), closes=True),
    good("close in capitals", get(b"Connection: CLOSE"), closes=True),
    good("close in a list", get(b"Connection: foo, close"), closes=True),
    good("close first in a list", get(b"Connection: close, TE"), closes=True),
    good("close in a second line", get(b"Connection: foo", b"Connection: close"), closes=True),
    good("close and keep-alive", get(b"Connection: keep-alive, close"), closes=True),
    good("keep-alive", get(b"Connection: keep-alive") + GET, OK, OK),
    good("nearly close", get(b"Connection: closed") + GET, OK, OK),
    good("an empty Connection", get(b"Connection:") + GET, OK, OK),
    good("empty elements in Connection", get(b"Connection: , ,foo,") + GET, OK, OK),
    good("close, then a request", get(b"Connection: close") + GET, closes=True),
    good(
        "keep-alive on HTTP/1.0",
        get(b"Connection: keep-alive", version=b"HTTP/1.0") + GET,
        closes=True,
    ),
    good("an upgrade nobody takes", get(b"Connection: upgrade", b"Upgrade: h2c") + GET, OK, OK),
    bad("Connection with quotes", get(b'Connection: "close"')),
    bad("Connection with two words", get(b"Connection: keep alive")),
    good(
        "100-continue",
        put(b"Content-Length: 5", b"Expect: 100-continue", body=b"hello") + GET,
        STORED,
        OK,
    ),
    good(
        "100-Continue in other letters",
        chunked(FIVE + END, b"Expect: 100-Continue"),
        STORED,
    ),
    good("100-continue without a body", get(b"Expect: 100-continue") + GET, OK, OK),
    good(
        "100-continue on HTTP/1.0",
        lines(b"PUT /framing.bin HTTP/1.0", b"Content-Length: 5", b"Expect: 100-continue")
        + b"hello",
        STORED,
        closes=True,
    ),
    bad("another expectation", put(b"Content-Length: 5", b"Expect: 200-ok", body=b"hello"), 417),
    bad("two expectations", get(b"Expect: 100-continue, foo"), 417),
    bad("an expectation with a value", get(b"Expect: 100-continue=yes"), 417),
    bad("expectations in two lines", get(b"Expect: 100-continue", b"Expect: foo"), 417),
]

TABLE: list[Payload] = [
    *REQUEST_LINES,
    *FIELDS,
    *HOSTS,
    *LENGTHS,
    *CODINGS,
    *CHUNKS,
    *CONNECTIONS,
]
