"""Packed bodies come out as they went in, in small pieces, however they arrive."""

import gzip
import zlib
from contextlib import suppress
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oq_http.decoding import PIECE, BrokenBody, unpacker_for


def raw(data):
    return zlib.compress(data, wbits=-15)


PACKERS = [("gzip", gzip.compress), ("deflate", zlib.compress), ("deflate", raw), ("identity", bytes)]


def unpacked(encoding, parts):
    unpacker = unpacker_for(encoding)
    pieces = [piece for part in parts for piece in unpacker.feed(part)]
    unpacker.end()
    return pieces


@given(st.sampled_from(PACKERS), st.binary(max_size=200), st.integers(1, 2_000), st.lists(st.integers(0, 500)))
def test_it_comes_out_as_it_went_in_however_it_is_cut(packer, unit, times, cuts):
    encoding, pack = packer
    packed, text = pack(unit * times), unit * times
    places = [0, *sorted(cut for cut in cuts if cut < len(packed)), len(packed)]
    parts = [packed[start:end] for start, end in pairwise(places)]
    assert b"".join(unpacked(encoding, parts)) == text


@given(st.lists(st.binary(max_size=100), min_size=1, max_size=5), st.integers(1, 300))
def test_streams_of_gzip_one_after_the_other_are_one_body(texts, size):
    packed = b"".join(map(gzip.compress, texts))
    assert b"".join(unpacked("gzip", [packed[i : i + size] for i in range(0, len(packed), size)])) == b"".join(texts)


@pytest.mark.parametrize("more", [*range(10), *range(10, 300, 7)])
def test_nothing_is_left_inside_when_all_has_been_fed(more):
    """Where the room for a piece ends, what is packed may have been read already."""
    text = bytes(PIECE + more)
    assert b"".join(unpacked("deflate", [raw(text)])) == text


@pytest.mark.parametrize(("encoding", "pack"), PACKERS[:3])
def test_no_piece_is_long_whatever_it_was_packed_in(encoding, pack):
    pieces = unpacked(encoding, [pack(bytes(10 * PIECE))])
    assert max(map(len, pieces)) == PIECE


@pytest.mark.parametrize(("encoding", "pack"), PACKERS[:3])
def test_an_end_that_is_missing_is_noticed_wherever_it_is_cut_off(encoding, pack):
    packed = pack(b"some text that is cut off")
    for end in range(1, len(packed)):
        with pytest.raises(BrokenBody):
            unpacked(encoding, [packed[:end]])


@given(st.sampled_from(["gzip", "deflate"]), st.binary())
def test_no_bytes_give_anything_but_a_body_or_the_error(encoding, data):
    with suppress(BrokenBody):
        unpacked(encoding, [data])
