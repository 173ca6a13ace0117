"""How the package presents itself to oq and to those who embed it."""

import pytest

import oq
import oq_openai
from oq_openai import chat, embed, generate


def test_oq_finds_the_executor_and_gives_it_its_settings():
    settings = oq.Settings(sections={"openai": {"endpoints": [{"name": "x", "url": "http://x/v1", "models": ["n"]}]}})
    (executor,) = [found for found in oq.load_plugins().executors(settings) if found.name == "openai"]
    with pytest.raises(oq.InvalidTask, match="no endpoint serves 'm'"):
        oq.Registry([executor]).check(chat("m", "Hello"))


def test_the_executor_says_what_it_is():
    (info,) = oq.Registry([oq_openai.OpenAIExecutor()]).list()
    assert (info.name, info.version) == ("openai", oq_openai.__version__)
    assert set(info.actions) == {"chat", "generate", "embed"}


def test_public_names_are_a_sorted_list():
    assert list(oq_openai.__all__) == sorted(oq_openai.__all__)
    assert all(hasattr(oq_openai, name) for name in oq_openai.__all__)


def test_chat_makes_a_task_of_fields_and_options():
    spec = chat("m", "Hello", system="Be brief", temperature=0.5, priority="high", tags=("a",), metadata={"x": 1})
    assert (spec.executor, spec.action, spec.priority, spec.tags) == ("openai", "chat", oq.Priority.HIGH, ("a",))
    assert spec.metadata == {"x": 1}
    assert spec.payload == {
        "model": "m",
        "messages": [{"role": "system", "content": "Be brief"}, {"role": "user", "content": "Hello"}],
        "temperature": 0.5,
    }


def test_generate_and_embed_make_tasks_too():
    assert generate("m", "Hello", delay=3.0, top_p=0.5).payload == {"model": "m", "prompt": "Hello", "top_p": 0.5}
    assert embed("m", ("a", "b"), delay=3.0).payload == {"model": "m", "input": ["a", "b"]}


@pytest.mark.parametrize("make", [chat, generate, embed])
@pytest.mark.parametrize("option", ["priorty", "payload", "action", "messages_"])
def test_an_unknown_option_is_refused(make, option):
    with pytest.raises(TypeError, match=option):
        make("m", "Hello", **{option: "x"})


async def test_without_an_open_registry_the_message_says_so(fake, executor_for):
    with pytest.raises(RuntimeError, match="not open"):
        await oq.Registry([executor_for(fake)]).execute(chat("m", "Hello"))


async def test_the_result_comes_back_as_its_class(fake, queue_for):
    async with queue_for(fake) as queue:
        handle = await queue.submit(chat("m", "Hello"))
        result = await handle.result()
        task = await handle.refresh()
    assert isinstance(result, oq.ChatResult)
    assert (task.model, task.summary) == ("m", "m: Hello")
