"""What every test of the core has: time enough for properties, and an empty environment."""

import os

import pytest
from hypothesis import settings

settings.register_profile("oq", deadline=None)
settings.load_profile("oq")


@pytest.fixture(autouse=True)
def no_settings_of_whoever_runs_the_tests(monkeypatch):
    for name in [name for name in os.environ if name.startswith(("OQ_", "QUEUE_", "RETRY_", "LOG_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_CONFIG_HOME", "/nowhere")
    monkeypatch.setattr("oq.config.files.SYSTEM_DIRECTORY", "/nowhere")
