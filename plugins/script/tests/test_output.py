"""Output is passed on in lines and kept within limits, whatever a process writes."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oq import RetryableError
from oq_script import command
from oq_script.output import Kept, Lines

TEXTS = st.text(st.sampled_from("ab\n\r€😀\u2028")).map(str.encode)
DATA = st.lists(st.one_of(st.binary(max_size=20), TEXTS), max_size=20)


def cut(parts, limit):
    lines = Lines(limit)
    return [*itertools.chain.from_iterable(lines.feed(part) for part in parts), *lines.end()]


@given(DATA, st.integers(1, 10))
def test_the_pieces_together_are_the_text(parts, limit):
    assert "".join(cut(parts, limit)) == b"".join(parts).decode(errors="replace")


@given(DATA, st.integers(1, 10))
def test_a_piece_is_no_longer_than_the_limit_and_holds_no_more_than_one_line(parts, limit):
    for piece in cut(parts, limit):
        assert 0 < len(piece) <= limit
        assert "\n" not in piece[:-1]


@given(DATA, st.integers(1, 10))
def test_how_the_bytes_arrive_makes_no_difference(parts, limit):
    whole = b"".join(parts)
    assert cut([bytes([byte]) for byte in whole], limit) == cut([whole], limit)


@given(st.lists(st.sampled_from([b"x", b"xyz", b"\n", "€".encode()]), max_size=60), st.integers(1, 10))
def test_a_line_without_end_holds_no_more_than_the_limit(parts, limit):
    lines = Lines(limit)
    for part in parts:
        lines.feed(part)
        assert len(lines._unfinished) < limit


def test_a_character_is_not_cut_by_the_border_of_a_read():
    euro = "€".encode()
    assert cut([euro[:1], euro[1:2], euro[2:] + b"\n"], 80) == ["€\n"]


def keep(parts, limit):
    kept = Kept(limit)
    for part in parts:
        kept.add(part)
    return kept


@given(DATA, st.integers(0, 40))
def test_output_is_kept_whole_up_to_the_limit_and_marked_beyond(parts, limit):
    whole = b"".join(parts)
    text, truncated = keep(parts, limit).text(limit)
    assert truncated == (len(whole) > limit)
    if not truncated:
        assert text == whole.decode(errors="replace")


@given(DATA, st.integers(0, 40), st.integers(0, 40))
def test_what_is_kept_is_the_beginning_and_the_end(parts, limit, shown):
    whole = b"".join(parts)
    keeper = keep(parts, limit)
    assert len(keeper._start) + len(keeper._end) <= limit
    text, truncated = keeper.text(shown)
    if truncated:
        size = min(limit, shown)
        start, end = whole[: size - size // 2], whole[len(whole) - size // 2 :]
        note = f"\n… {len(whole) - size:,} bytes left out …\n"
        assert note in text
        before, _, after = text.partition(note)
        assert start.decode(errors="replace").startswith(before)
        assert end.decode(errors="replace").endswith(after)


def test_a_character_is_not_cut_by_the_limit():
    text, truncated = keep(["€".encode() * 10], 10).text(10)
    assert truncated
    assert text == "€\n… 20 bytes left out …\n€"


async def test_a_flood_of_output_is_kept_up_to_the_limit_and_marked(registry_with):
    result = await registry_with(max_output=1000, max_streamed=0).execute(command("seq 1000000"))
    assert result.stdout.startswith("1\n2\n3\n")
    assert result.stdout.endswith("999999\n1000000\n")
    assert len(result.stdout) < 1100
    assert result.stdout_truncated
    assert not result.stderr_truncated


async def test_a_failure_keeps_output_up_to_a_limit_of_its_own(registry_with):
    registry = registry_with(max_failure_output=100, allow_shell=True)
    with pytest.raises(RetryableError) as caught:
        await registry.execute(command("seq 100000 >&2; exit 1", shell=True))
    details = caught.value.details
    assert details["stderr"].startswith("1\n2\n")
    assert details["stderr"].endswith("\n100000\n")
    assert len(details["stderr"]) < 200
    assert (details["stdout_truncated"], details["stderr_truncated"]) == (False, True)


async def test_a_line_without_end_is_passed_on_in_pieces(registry_with):
    registry = registry_with(max_line=1000, max_output=100)
    async with registry.stream(command("head -c 1000500 /dev/zero")) as chunks:
        sizes = [len(chunk.text) async for chunk in chunks]
    assert sizes == [1000] * 1000 + [500]


async def test_an_endless_line_does_not_keep_a_process_from_being_cancelled(registry):
    async with registry.stream(command("cat /dev/zero")) as chunks:
        assert set((await anext(chunks)).text) == {"\0"}


async def test_no_more_is_passed_on_than_the_limit_and_the_last_chunk_says_so(registry_with):
    async with registry_with(max_streamed=10_000).stream(command("seq 1000000")) as chunks:
        seen = [chunk async for chunk in chunks]
    *lines, last = seen
    assert [line.text for line in lines] == [f"{number}\n" for number in range(1, len(lines) + 1)]
    assert 100 < len(lines) < 200
    assert last.data == {"truncated": True}
    assert last.text.startswith("… more than 10,000 bytes")
    assert last.kind == "stdout"


async def test_bytes_that_are_not_utf_8_are_replaced(registry):
    spec = command(r"printf 'a\377b\n\303'")
    assert (await registry.execute(spec)).stdout == "a\ufffdb\n\ufffd"
    async with registry.stream(spec) as chunks:
        assert [chunk.text async for chunk in chunks] == ["a\ufffdb\n", "\ufffd"]
