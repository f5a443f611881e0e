"""Content codings of whole bodies."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable

import pytest

from proxy.upstream.decode import UndecodableBody, decode_body, decode_start

TEXT = b"".join(b"line %d\n" % n for n in range(2000))
RAW = zlib.compressobj(wbits=-15)
RAW_DEFLATE = RAW.compress(TEXT) + RAW.flush()


@pytest.mark.parametrize(
    ("body", "codings"),
    [
        (TEXT, ""),
        (TEXT, " identity , "),
        (gzip.compress(TEXT, mtime=0), "gzip"),
        (gzip.compress(TEXT, mtime=0), "GZip"),
        (gzip.compress(TEXT, mtime=0), "x-gzip"),
        (
            gzip.compress(TEXT[:100], mtime=0)
            + gzip.compress(b"", mtime=0)
            + gzip.compress(TEXT[100:], mtime=0),
            "gzip",
        ),
        (zlib.compress(TEXT), "deflate"),
        (zlib.compress(TEXT, 1), "deflate"),
        (RAW_DEFLATE, "deflate"),
        (gzip.compress(zlib.compress(TEXT), mtime=0), "deflate, gzip"),
        (gzip.compress(gzip.compress(TEXT, mtime=0), mtime=0), "gzip, gzip"),
    ],
)
def test_a_body_is_decoded(body: bytes, codings: str) -> None:
    assert decode_body(body, codings, len(TEXT)) == TEXT


@pytest.mark.parametrize("codings", ["", "gzip", "deflate", "br", "gzip, br"])
def test_an_empty_body_stays_empty(codings: str) -> None:
    assert decode_body(b"", codings, 0) == b""


@pytest.mark.parametrize("compress", [gzip.compress, zlib.compress], ids=["gzip", "deflate"])
@pytest.mark.parametrize("cut", [1, 4, 100])
def test_a_short_body_is_not_taken_for_whole(compress: Callable[[bytes], bytes], cut: int) -> None:
    coding = "gzip" if compress is gzip.compress else "deflate"
    body = compress(TEXT)[:-cut]
    with pytest.raises(UndecodableBody, match="early"):
        decode_body(body, coding, len(TEXT))
    start = decode_start(body, coding, len(TEXT))
    assert TEXT.startswith(start)
    assert len(start) > len(TEXT) // 2


@pytest.mark.parametrize(
    ("body", "codings"),
    [
        (TEXT, "gzip"),
        (TEXT, "br"),
        (TEXT, "zstd"),
        (b"\x78\x9c\xff\xff\xff\xff", "deflate"),
        (gzip.compress(TEXT, mtime=0) + b"more", "gzip"),
        (gzip.compress(TEXT, mtime=0)[:-8] + b"\0" * 8, "gzip"),
    ],
)
def test_what_cannot_be_decoded_is_said_so(body: bytes, codings: str) -> None:
    with pytest.raises(UndecodableBody):
        decode_body(body, codings, len(TEXT))
    with pytest.raises(UndecodableBody):
        decode_start(body, codings, len(TEXT))


@pytest.mark.parametrize(
    "body",
    [
        gzip.compress(TEXT, mtime=0),
        gzip.compress(TEXT[:9000], mtime=0) + gzip.compress(TEXT[9000:], mtime=0),
        gzip.compress(b"\0" * 10**8),
    ],
    ids=["one byte over", "over in the second member", "bomb"],
)
def test_no_more_is_decoded_than_the_limit(body: bytes) -> None:
    with pytest.raises(UndecodableBody, match="over"):
        decode_body(body, "gzip", len(TEXT) - 1)


def test_a_bomb_inside_a_coding_is_found() -> None:
    bomb = gzip.compress(gzip.compress(b"\0" * 10**7))
    with pytest.raises(UndecodableBody, match="over"):
        decode_body(bomb, "gzip, gzip", 100_000)
