"""One frozen settings value, made from a file, the environment and arguments; the later of these wins."""

from oq.config.files import read_text, searched_files
from oq.config.secrets import HIDDEN, Secret
from oq.config.settings import Settings, load_settings
from oq.config.showing import Setting
from oq.config.tables import LoggingSettings, PluginsSettings, QueueSettings, RetentionSettings, SchedulerSettings

__all__ = [
    "HIDDEN",
    "LoggingSettings",
    "PluginsSettings",
    "QueueSettings",
    "RetentionSettings",
    "SchedulerSettings",
    "Secret",
    "Setting",
    "Settings",
    "load_settings",
    "read_text",
    "searched_files",
]
