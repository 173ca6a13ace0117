"""Time-outs for what comes in pieces."""

import pytest
import trio

from oq.pacing import Pace, Stalled

PACE = Pace(first=10, between=2)


async def pieces(*pauses):
    for number, pause in enumerate(pauses):
        await trio.sleep(pause)
        yield number


async def test_pieces_in_time_all_come(autojump_clock):
    assert [piece async for piece in PACE.keep(pieces(1.9, 0, 1.9))] == [0, 1, 2]


async def test_a_pause_that_is_too_long_is_a_stall(autojump_clock):
    paced = PACE.keep(pieces(0, 1, 2.1))
    assert [await anext(paced), await anext(paced)] == [0, 1]
    with pytest.raises(Stalled, match=r"nothing more came for 2 s") as caught:
        await anext(paced)
    assert (caught.value.first, trio.current_time()) == (False, 3)


async def test_the_beginning_has_a_time_of_its_own(autojump_clock):
    with PACE.beginning():
        await trio.sleep(9.9)
    with pytest.raises(Stalled, match=r"nothing came for 10 s") as caught, PACE.beginning():
        await trio.sleep_forever()
    assert caught.value.first


async def test_a_time_out_from_outside_is_not_a_stall(autojump_clock):
    with trio.move_on_after(1) as scope, PACE.beginning():
        await trio.sleep_forever()
    assert scope.cancelled_caught
    with trio.move_on_after(1) as scope:
        async for _ in PACE.keep(pieces(5)):
            pass
    assert scope.cancelled_caught
