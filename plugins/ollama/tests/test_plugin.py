"""How the package presents itself to oq and to those who embed it."""

import logging
import subprocess
import sys

import pytest

import oq_ollama
from oq import InvalidTask, Registry, Settings, load_plugins
from oq_ollama import OllamaExecutor, chat


def found(settings):
    (executor,) = [one for one in load_plugins().executors(settings) if one.name == "ollama"]
    return executor


def test_oq_finds_the_executor_and_gives_it_its_settings():
    """By the entry point, with the table `[ollama]`."""
    endpoints = [{"name": "a", "url": "a", "models": ["qwen*"]}]
    executor = found(Settings(sections={"ollama": {"endpoints": endpoints}}))
    with pytest.raises(InvalidTask, match="no endpoint serves 'llama3'"):
        Registry([executor]).check(chat("llama3", "hi"))


def test_the_executor_says_what_it_is():
    """For `oq plugins`."""
    (info,) = Registry([OllamaExecutor()]).list()
    assert (info.name, info.version) == ("ollama", oq_ollama.__version__)
    assert set(info.actions) == {"chat", "generate", "embed"}


def test_opening_the_executor_loads_nothing_that_only_a_run_needs():
    """httpx takes a tenth of a second, and `oq list` has no use for it."""
    code = """
import oq, oq_ollama, sys, trio

async def main():
    async with oq.Registry([oq_ollama.OllamaExecutor()]).opened():
        assert "httpx" not in sys.modules

trio.run(main)
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_public_names_are_a_sorted_list():
    """What is not there is not promised."""
    from oq_ollama import testing

    for module in (oq_ollama, testing):
        assert list(module.__all__) == sorted(module.__all__)
        assert all(hasattr(module, name) for name in module.__all__)


def test_a_run_without_an_open_registry_says_what_is_missing():
    """The executor holds connections, so it must have been entered."""
    import trio

    with pytest.raises(RuntimeError, match=r"async with registry\.opened"):
        trio.run(Registry([OllamaExecutor()]).execute, chat("qwen3", "hi"))


def test_endpoints_of_the_kind_openai_without_that_executor_are_told_of(caplog):
    """Their tasks would wait without a word."""
    settings = Settings(sections={"ollama": {"endpoints": [{"name": "a", "kind": "openai"}]}})
    with caplog.at_level(logging.WARNING, "oq_ollama"):
        from attrs import evolve

        found(evolve(settings, plugins=evolve(settings.plugins, disabled=("openai",))))
    assert "pip install oq-openai" in caplog.text
