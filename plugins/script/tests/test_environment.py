"""The variables that a process gets."""

import os

import pytest

from oq_script import command, script


def variables(result):
    return dict(line.split("=", 1) for line in result.stdout.splitlines())


@pytest.fixture
def environ(monkeypatch):
    """Sets a variable of oq's own environment."""
    monkeypatch.setenv("LC_TIME", "C")
    monkeypatch.setenv("DATABASE_PASSWORD", "s3cret")
    return monkeypatch.setenv


async def test_a_process_gets_a_short_list_of_oqs_own_variables(registry, environ):
    environ("TZ", "UTC")
    environ("HOME", "/home/somebody")
    seen = variables(await registry.execute(command("env")))
    assert seen["TZ"] == "UTC"
    assert seen["HOME"] == "/home/somebody"
    assert seen["LC_TIME"] == "C"
    assert "DATABASE_PASSWORD" not in seen


async def test_the_list_can_be_set(registry_with, environ):
    environ("APP_LEVEL", "2")
    seen = variables(await registry_with(inherit_env=("PATH", "APP_*")).execute(command("env")))
    assert seen["APP_LEVEL"] == "2"
    assert "LC_TIME" not in seen


async def test_a_task_adds_and_replaces_variables(registry, environ):
    environ("TZ", "UTC")
    seen = variables(await registry.execute(command("env", env={"TZ": "Europe/Warsaw", "LEVEL": "3"})))
    assert (seen["TZ"], seen["LEVEL"]) == ("Europe/Warsaw", "3")


async def test_the_list_of_refused_names_can_be_set(registry_with):
    seen = variables(await registry_with(denied_env=("LD_*",)).execute(command("env", env={"PYTHONPATH": "lib"})))
    assert seen["PYTHONPATH"] == "lib"


async def test_a_process_finds_its_task_and_attempt(registry, directory):
    (directory / "who.sh").write_text("echo $OQ_TASK_ID $OQ_ATTEMPT")
    assert (await registry.execute(script("who.sh", id="job-7", env={"OQ_TASK_ID": "other"}))).stdout == "job-7 1\n"


async def test_a_process_inherits_no_open_file(registry, directory):
    with (directory / "secret").open("w") as secret:
        os.set_inheritable(secret.fileno(), True)
        result = await registry.execute(command("ls /proc/self/fd"))
    assert set(result.stdout.split()) == {"0", "1", "2", "3"}  # 3 is what ls reads
