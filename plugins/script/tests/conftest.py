import pytest

from oq import Registry
from oq_script import ScriptExecutor, ScriptSettings


@pytest.fixture
def directory(tmp_path):
    """The script directory; beside it there is room for what lies outside."""
    path = tmp_path / "scripts"
    path.mkdir()
    return path


@pytest.fixture
def registry_with(directory):
    """Makes a registry whose script executor has these settings."""

    def make(**settings):
        return Registry([ScriptExecutor(ScriptSettings(**{"directory": str(directory), **settings}))])

    return make


@pytest.fixture
def registry(registry_with):
    return registry_with()
