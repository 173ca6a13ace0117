"""Bad payloads are refused at submit, with the path of each error."""

import math

import pytest

import oq
from oq_openai import ChatMessage, OpenAIExecutor, chat, embed, generate

USER = {"role": "user", "content": "Hello"}


@pytest.fixture
def problems():
    """What is wrong with a payload: path -> message."""
    registry = oq.Registry([OpenAIExecutor()])

    def check(action, **payload):
        with pytest.raises(oq.InvalidTask) as refused:
            registry.check(oq.TaskSpec(executor="openai", action=action, payload={"model": "m", **payload}))
        return {problem.path.removeprefix("payload."): problem.message for problem in refused.value.problems}

    return check


@pytest.mark.parametrize(
    ("payload", "path"),
    [
        ({"model": " "}, "model"),
        ({"model": "a\nb"}, "model"),
        ({"model": "x" * 300}, "model"),
        ({"messages": []}, "messages"),
        ({"messages": "Hello"}, "messages"),
        ({"messages": [{"role": "robot", "content": "x"}]}, "messages[0].role"),
        ({"messages": [USER, {"role": "user"}]}, "messages[1].content"),
        ({"messages": [{"role": "user", "content": 7}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": []}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": [{"text": "x"}]}]}, "messages[0].content[0].type"),
        ({"messages": [{"role": "user", "content": [{"type": "text"}]}]}, "messages[0].content[0].text"),
        ({"messages": [{"role": "user", "content": [{"type": "text", "text": 7}]}]}, "messages[0].content[0].text"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "messages[0].content[0].image_url"),
        ({"messages": [{**USER, "images": ["no base64!"]}]}, "messages[0].images[0]"),
        ({"messages": [{"role": "system", "content": "x", "images": ["AAAA"]}]}, "messages[0].images"),
        ({"messages": [{**USER, "tool_calls": [{"name": "f"}]}]}, "messages[0].tool_calls"),
        ({"messages": [{**USER, "tool_call_id": "c"}]}, "messages[0].tool_call_id"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0].tool_call_id"),
        ({"messages": [{"role": "assistant", "tool_calls": [{}]}]}, "messages[0].tool_calls[0]"),
        (
            {"messages": [{"role": "assistant", "tool_calls": [{"function": {}}]}]},
            "messages[0].tool_calls[0].function.name",
        ),
        ({"n": 2}, "n"),
        ({"temperature": -1}, "temperature"),
        ({"temperature": math.nan}, "temperature"),
        ({"temperature": "0.5"}, "temperature"),
        ({"top_p": 1.5}, "top_p"),
        ({"max_tokens": -1}, "max_tokens"),
        ({"max_tokens": 1, "max_completion_tokens": 1}, "max_tokens"),
        ({"top_logprobs": 3}, "top_logprobs"),
        ({"tools": [{"function": {"name": "f"}}]}, "tools[0].type"),
        ({"tools": [{"type": "function", "function": {}}]}, "tools[0].function"),
        ({"response_format": {"schema": {}}}, "response_format"),
        ({"extra": {"x": b"bytes"}}, "extra.x"),
        ({"extra": {"x": [1, {"y": math.inf}]}}, "extra.x[1].y"),
        ({"extra": {"x": {1: 2}}}, "extra.x"),
        ({"extra": {"stream": False}}, "extra.stream"),
        ({"extra": {"messages": []}}, "extra.messages"),
        ({"metadata": {"a": 1}}, "metadata['a']"),
    ],
)
def test_of_a_chat(problems, payload, path):
    assert list(problems("chat", **{"messages": [USER], **payload})) == [path]


@pytest.mark.parametrize(
    ("payload", "path"),
    [
        ({"prompt": []}, "prompt"),
        ({"prompt": ["one", "two"]}, "prompt"),
        ({"prompt": [-1]}, "prompt"),
        ({"prompt": "x", "best_of": 0}, "best_of"),
        ({"prompt": "x", "n": 3}, "n"),
        ({"prompt": "x", "logprobs": True}, "logprobs"),
        ({"prompt": "x", "system": "Be brief"}, ""),
    ],
)
def test_of_a_completion(problems, payload, path):
    assert [found.removeprefix("payload") for found in problems("generate", **payload)] == [path]


@pytest.mark.parametrize(
    ("payload", "path"),
    [
        ({"input": []}, "input"),
        ({"input": ["x", 1]}, "input"),
        ({"input": [[]]}, "input[0]"),
        ({"input": [1.5]}, "input"),
        ({"input": "x", "dimensions": 0}, "dimensions"),
    ],
)
def test_of_an_embedding(problems, payload, path):
    assert list(problems("embed", **payload)) == [path]


def test_everything_that_is_wrong_is_told_at_once(problems):
    found = problems("chat", messages=[{"role": "user"}], temperature=-1, n=2)
    assert found.keys() == {"messages[0].content", "temperature", "n"}


@pytest.mark.parametrize(
    "spec",
    [
        chat("m", [USER, ChatMessage(role="assistant", content="x"), oq.Message(role="user", content="y")]),
        chat("m", "x", temperature=1, logit_bias={"1": -100}, stop="x", tool_choice="auto"),
        chat("m", [{"role": "user", "content": [{"type": "video_url", "video_url": {"url": "https://x"}}]}]),
        chat("m", [{"role": "user", "images": ["AAAA"]}]),
        generate("m", "", max_tokens=0, echo=True),
        embed("m", ""),
    ],
)
def test_these_are_good(spec):
    oq.Registry([OpenAIExecutor()]).check(spec)
