"""Whatever a server sends: the answer is a result that can be stored, or a fault, and never anything else."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

import oq
from oq.codec import decode_as, encode
from oq_openai.answers import Collected, Malformed, embedded
from oq_openai.faults import Blame, Told
from oq_openai.parsing import parse_json
from oq_openai.secrets import Secrets
from oq_openai.settings import OpenAIEndpoint

WORDS = (
    *("choices", "delta", "message", "content", "text", "index", "tool_calls", "function", "name", "arguments", "id"),
    *("finish_reason", "usage", "prompt_tokens", "completion_tokens", "model", "logprobs", "tokens", "token_logprobs"),
    *(
        "reasoning",
        "refusal",
        "data",
        "embedding",
        "timings",
        "predicted_per_second",
        "error",
        "code",
        "type",
        "detail",
    ),
)
leaves = st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False) | st.text(max_size=5)
anything = st.recursive(
    leaves, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(WORDS), inner, max_size=4)
)
objects = st.dictionaries(st.sampled_from(WORDS), anything, max_size=5)
counts = st.dictionaries(st.sampled_from(["prompt_tokens", "completion_tokens", "prompt_tokens_details"]), leaves)
choices = st.fixed_dictionaries({"choices": st.lists(objects, min_size=1, max_size=2)}, optional={"usage": counts})
deltas = st.builds(
    lambda delta, more: {"choices": [{"delta": delta, **more}]}, objects, st.dictionaries(st.just("logprobs"), objects)
)


def as_sent(value):
    """The value as it comes out of a server's JSON."""
    return parse_json(json.dumps(value))


@given(st.lists(objects | choices | deltas, max_size=4))
def test_events_make_an_answer_that_can_be_stored_or_are_malformed(events):
    collected = Collected(model="m")
    try:
        chunks = [chunk for event in events for chunk in collected.take(as_sent(event))]
    except Malformed:
        return
    usage = collected.usage(first=0.5, total=1.0)
    for result in (collected.chat(usage), collected.generate(usage)):
        assert decode_as(encode(result), type(result)) == result
    for chunk in [*chunks, *collected.end()]:
        assert decode_as(encode(chunk), oq.Chunk) == chunk


@given(objects | st.fixed_dictionaries({"data": st.lists(objects, max_size=3)}))
def test_embeddings_can_be_stored_or_are_malformed(answer):
    try:
        result = embedded(as_sent(answer), "m", 1.0)
    except Malformed:
        return
    assert decode_as(encode(result), oq.EmbedResult) == result


@given(st.sampled_from([None, 200, 302, 400, 401, 403, 404, 429, 500, 503]), st.binary() | anything | objects)
def test_errors_are_faults_with_a_message_in_one_line(status, error):
    blame = Blame(OpenAIEndpoint(name="a", url="http://x/v1"), "m", Secrets({}, ()))
    data = error if isinstance(error, bytes) else json.dumps(error).encode()
    told = Told.of(None, error) if status is None else Told.of_body(status, data)
    fault = blame.refused(told, {})
    wrong = fault.error if isinstance(fault, oq.EndpointFault) else fault
    assert "\n" not in wrong.message
    assert len(wrong.message) < 2000
    encode(wrong.details)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("[1, -5, 1.5]", [1, -5, 1.5]),
        ("123456789012345678901234567890", 123456789012345678901234567890.0),
        ("18446744073709551616", 18446744073709551616.0),
        ('"\\ud83d\\ude00"', "😀"),
        ('{"\\ud83d": "x\\ude00"}', {"\ufffd": "x\ufffd"}),
    ],
)
def test_json_is_read_so_that_it_can_be_stored(text, value):
    assert parse_json(text) == parse_json(text.encode()) == value
    encode(parse_json(text))


@pytest.mark.parametrize("text", ["", "{", "[" * 100_000, b"\xff"])
def test_what_is_no_json_is_a_value_error(text):
    with pytest.raises(ValueError):
        parse_json(text)
