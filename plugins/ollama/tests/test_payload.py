"""What tasks may say, how Python says it in one call, and how people are told about it."""

import base64

import pytest

from oq import (
    ChatResult,
    EmbedResult,
    GenerateResult,
    InvalidTask,
    Message,
    Priority,
    Registry,
    RetryPolicy,
    TaskSpec,
    ToolCall,
)
from oq_ollama import ChatPayload, EmbedPayload, GeneratePayload, OllamaExecutor, OllamaSettings, Options
from oq_ollama import chat as chat_task
from oq_ollama import embed as embed_task
from oq_ollama import generate as generate_task

HELLO = [{"role": "user", "content": "hello"}]
IMAGE = base64.b64encode(b"picture").decode()


@pytest.fixture
def registry():
    return Registry([OllamaExecutor(OllamaSettings(), environ={})])


def checked(registry, action, **payload):
    return registry.check(TaskSpec(executor="ollama", action=action, payload=payload))


def told(registry, action, **payload):
    """What is wrong, as text."""
    with pytest.raises(InvalidTask) as refused:
        checked(registry, action, **payload)
    return str(refused.value)


def test_a_chat_takes_every_field_of_the_api(registry):
    """Given as JSON it becomes a payload that has all of them."""
    payload = checked(
        registry,
        "chat",
        model="qwen3:8b",
        messages=[
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "Look.", "images": [IMAGE]},
            {"role": "assistant", "tool_calls": [{"name": "f", "arguments": {"a": 1}, "id": "1"}], "thinking": "hm"},
            {"role": "tool", "content": "2", "tool_name": "f", "tool_call_id": "1"},
        ],
        tools=[{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}],
        format={"type": "object"},
        options={"num_ctx": 8192, "stop": ["."], "temperature": 0, "something_new": [1]},
        think="high",
        keep_alive="1h30m",
        truncate=False,
        shift=True,
        logprobs=True,
        top_logprobs=20,
        remote_execution=True,
    ).value
    assert isinstance(payload, ChatPayload)
    assert payload.messages[2].tool_calls == (ToolCall(name="f", arguments={"a": 1}, id="1"),)
    assert payload.options["something_new"] == [1]


def test_a_completion_takes_every_field_of_the_api(registry):
    """Likewise, those of images included."""
    payload = checked(
        registry,
        "generate",
        model="qwen3",
        prompt="a",
        suffix="b",
        system="c",
        template="{{ .Prompt }}",
        context=[1, 2],
        raw=True,
        format="json",
        images=[IMAGE],
        options={},
        think=False,
        keep_alive=-1,
        truncate=True,
        shift=False,
        logprobs=True,
        top_logprobs=0,
        width=64,
        height=64,
        steps=4,
    ).value
    assert (payload.context, payload.keep_alive, payload.format) == ((1, 2), -1.0, "json")


@pytest.mark.parametrize("texts", ["one", ["one", "two"]])
def test_texts_to_embed_may_be_one_or_several(registry, texts):
    """As in the API, one text needs no list."""
    payload = checked(registry, "embed", model="m", input=texts, truncate=True, dimensions=4, keep_alive=0).value
    assert payload.input == (texts if isinstance(texts, str) else tuple(texts))


@pytest.mark.parametrize(
    ("action", "payload", "reason"),
    [
        ("chat", {"model": "a"}, "payload.messages: is required"),
        ("chat", {"messages": []}, "payload.model: is required"),
        ("chat", {"model": "", "messages": []}, "payload.model: expected the name of a model"),
        ("chat", {"model": "a b", "messages": []}, "payload.model: expected the name of a model"),
        ("chat", {"model": "a", "messages": "hello"}, "payload.messages: expected a list"),
        ("chat", {"model": "a", "messages": [{"role": "robot"}]}, "payload.messages[0].role: expected 'system'"),
        ("chat", {"model": "a", "messages": [{"role": "user", "content": 7}]}, "payload.messages[0].content"),
        ("chat", {"model": "a", "messages": [{"role": "user", "contents": ""}]}, "did you mean 'content'?"),
        ("chat", {"model": "a", "messages": [{"role": "user", "images": ["?"]}]}, "payload.messages[0].images[0]: exp"),
        ("chat", {"model": "a", "messages": HELLO, "stream": True}, "unknown field 'stream'"),
        (
            "chat",
            {"model": "a", "messages": HELLO, "options": {"num_ctx": "4k"}},
            "payload.options.num_ctx: expected a",
        ),
        (
            "chat",
            {"model": "a", "messages": HELLO, "options": {"seed": True}},
            "payload.options.seed: expected a whole",
        ),
        ("chat", {"model": "a", "messages": HELLO, "options": {"stop": "."}}, "payload.options.stop: expected a list"),
        ("chat", {"model": "a", "messages": HELLO, "options": {"use_mmap": 1}}, "payload.options.use_mmap"),
        ("chat", {"model": "a", "messages": HELLO, "options": {"top_p": float("inf")}}, "payload.options.top_p"),
        ("chat", {"model": "a", "messages": HELLO, "options": {"new": b"x"}}, "payload.options.new: cannot be sent"),
        ("chat", {"model": "a", "messages": HELLO, "format": "yaml"}, "payload.format"),
        ("chat", {"model": "a", "messages": HELLO, "format": {"a": b"x"}}, "payload.format: cannot be sent as JSON"),
        ("chat", {"model": "a", "messages": HELLO, "tools": [{"a": b"x"}]}, "payload.tools: cannot be sent as JSON"),
        ("chat", {"model": "a", "messages": HELLO, "think": "hard"}, "payload.think"),
        ("chat", {"model": "a", "messages": HELLO, "keep_alive": "5"}, "payload.keep_alive: expected a duration"),
        ("chat", {"model": "a", "messages": HELLO, "keep_alive": float("inf")}, "payload.keep_alive: expected seconds"),
        ("chat", {"model": "a", "messages": HELLO, "top_logprobs": 21}, "payload.top_logprobs: must be 0 to 20"),
        ("generate", {"model": "a", "prompt": 7}, "payload.prompt: expected a string"),
        ("generate", {"model": "a", "images": ["ä"]}, "payload.images[0]: expected the base64"),
        ("generate", {"model": "a", "images": [""]}, "payload.images[0]: expected the base64"),
        ("generate", {"model": "a", "context": [-1]}, "payload.context: expected the numbers of tokens"),
        ("generate", {"model": "a", "width": 0}, "payload.width: must be 1 or more"),
        ("embed", {"model": "a"}, "payload.input: is required"),
        ("embed", {"model": "a", "input": []}, "payload.input: expected at least one text"),
        ("embed", {"model": "a", "input": [7]}, "payload.input"),
        ("embed", {"model": "a", "input": "b", "dimensions": 0}, "payload.dimensions: must be 1 or more"),
        ("embed", {"model": "a", "input": "b", "format": "json"}, "unknown field 'format'"),
    ],
)
def test_a_bad_payload_is_refused_with_the_path_of_what_is_wrong(registry, action, payload, reason):
    """The message names the field, what was expected and what was given."""
    assert reason in told(registry, action, **payload)


def test_everything_that_is_wrong_is_told_at_once(registry):
    """Whoever mends it need not submit again for each."""
    message = told(registry, "chat", model="a b", messages=[{"role": "x"}], keep_alive="y", options={"seed": 0.5})
    assert all(path in message for path in ("payload.model", "messages[0].role", "keep_alive", "options.seed"))


def test_a_model_that_no_endpoint_serves_is_refused():
    """The message says which there are."""
    endpoints = [{"name": "a", "url": "a", "models": ["qwen*"]}, {"name": "b", "url": "b", "enabled": False}]
    from oq import Settings

    settings = Settings(sections={"ollama": {"endpoints": endpoints}}).section("ollama", OllamaSettings)
    registry = Registry([OllamaExecutor(settings)])
    assert registry.check(chat_task("qwen3:8b", "hi")).model == "qwen3:8b"
    with pytest.raises(InvalidTask, match=r"payload\.model: no endpoint serves 'llama3' \(there are: a: qwen\*\)"):
        registry.check(chat_task("llama3", "hi"))


def test_tasks_of_one_model_wait_in_one_lane(registry):
    """A wish of the task's and remote execution make lanes of their own."""
    lanes = [
        registry.check(spec).lane
        for spec in (
            chat_task("qwen3", "hi"),
            generate_task("qwen3", "hi"),
            chat_task("qwen3", "hi", remote_execution=True),
            chat_task("qwen3", "hi", lane="mine"),
        )
    ]
    assert lanes == ["qwen3", "qwen3", "qwen3 (remote)", "qwen3 [mine]"]


def test_chat_makes_a_task_and_passes_on_its_fields(registry):
    """A text is what the user says; whatever is no field of the payload is one of the task."""
    spec = chat_task("qwen3", "hi", system="Be brief.", priority="high", tags=("a",), retry=RetryPolicy(max_attempts=1))
    assert (spec.executor, spec.action, spec.priority, spec.tags) == ("ollama", "chat", Priority.HIGH, ("a",))
    assert registry.check(spec).value.messages == (
        Message(role="system", content="Be brief."),
        Message(role="user", content="hi"),
    )


def test_chat_takes_messages_of_either_form(registry):
    """`oq.Message` and mappings may stand side by side."""
    spec = chat_task("qwen3", [Message(role="user", content="a"), {"role": "assistant", "content": "b"}])
    assert [message.content for message in registry.check(spec).value.messages] == ["a", "b"]


@pytest.mark.parametrize("message", ["look", [Message(role="user", content="look")]])
def test_chat_puts_images_into_the_last_message(registry, tmp_path, message):
    """Content, a path or base64: all become base64."""
    path = tmp_path / "image.png"
    path.write_bytes(b"picture")
    spec = chat_task("llava", message, images=[b"picture", path, IMAGE])
    assert registry.check(spec).value.messages[-1].images == (IMAGE, IMAGE, IMAGE)


def test_images_without_a_message_are_refused():
    """They would be lost."""
    with pytest.raises(ValueError, match="need a message"):
        chat_task("llava", [], images=[b"picture"])


def test_typed_options_leave_out_what_is_not_set(registry):
    """`Options` names what Ollama documents; a mapping does as well."""
    typed = chat_task("qwen3", "hi", options=Options(num_ctx=8192, stop=("a", "b")))
    mapping = chat_task("qwen3", "hi", options={"num_ctx": 8192, "stop": ["a", "b"]})
    assert registry.check(typed).value == registry.check(mapping).value
    assert registry.check(typed).value.options == {"num_ctx": 8192, "stop": ["a", "b"]}


def test_every_typed_option_has_a_rule():
    """An option that is documented as a number is not taken as a text."""
    import attrs

    from oq_ollama import rules

    assert {field.name for field in attrs.fields(Options)} == set(rules._KINDS)


def test_generate_makes_a_task_and_passes_on_its_fields():
    """`delay` is one of the task's."""
    spec = generate_task("qwen3", "Once", raw=True, context=[1], images=[b"picture"], delay=3.0)
    assert spec.delay == 3.0
    assert spec.payload == GeneratePayload(model="qwen3", prompt="Once", raw=True, context=(1,), images=(IMAGE,))


def test_embed_makes_a_task_and_passes_on_its_fields():
    """A list of texts may be any iterable."""
    spec = embed_task("nomic", iter(["a", "b"]), dimensions=4, timeout=5.0)
    assert spec.timeout == 5.0
    assert spec.payload == EmbedPayload(model="nomic", input=("a", "b"), dimensions=4)


def test_an_unknown_field_is_refused():
    """A misspelt one is no silent default."""
    with pytest.raises(TypeError, match="priorty"):
        chat_task("qwen3", "hi", priorty="high")


@pytest.mark.parametrize(
    ("spec", "summary"),
    [
        (chat_task("qwen3", "What is\nthe matter?"), "What is the matter?"),
        (chat_task("qwen3", [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]), "a"),
        (chat_task("qwen3", [{"role": "system", "content": "a"}]), "a message to qwen3"),
        (chat_task("qwen3", []), "load qwen3"),
        (generate_task("qwen3", "Once upon"), "Once upon"),
        (generate_task("qwen3", ""), "load qwen3"),
        (embed_task("nomic", "one"), "one"),
        (embed_task("nomic", ["one", "two"]), "2 texts: one"),
        (embed_task("nomic", ""), "an empty text"),
    ],
)
def test_a_task_is_described_in_a_line(registry, spec, summary):
    """What the user said last, or what else says what it is about."""
    assert registry.check(spec).summary == summary


def shown(action, result):
    return OllamaExecutor.actions[action].show(result)


def test_of_a_chat_people_see_the_text():
    """And nothing else."""
    assert shown("chat", ChatResult(model="a", message=Message(role="assistant", content="Hi."))) == "Hi."


def test_of_a_chat_people_see_the_calls():
    """A model that wants something called may say nothing besides."""
    message = Message(role="assistant", tool_calls=(ToolCall(name="add", arguments={"a": 1, "b": "x"}),))
    assert shown("chat", ChatResult(model="a", message=message)) == "add(a=1, b='x')"


def test_of_a_completion_people_see_the_text():
    """And nothing else."""
    assert shown("generate", GenerateResult(model="a", text="Once.")) == "Once."


@pytest.mark.parametrize(
    ("vectors", "line"), [(((0.0,) * 1024,) * 2, "2 vectors of 1,024 numbers"), (((0.0,),), "1 vector of 1 numbers")]
)
def test_of_vectors_people_see_how_many_there_are(vectors, line):
    """The numbers would fill the screen."""
    assert shown("embed", EmbedResult(model="a", embeddings=vectors)) == line
