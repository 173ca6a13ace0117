"""Secrets from the settings: used by name, and sent to nobody but their hosts."""

from __future__ import annotations

import base64

from attrs import field, frozen

from oq import PermanentError
from oq_http.policy import host_matches
from oq_http.settings import AuthSettings


@frozen(kw_only=True)
class Auth:
    """A secret that is ready to be sent."""

    hosts: tuple[str, ...]
    header: str
    value: str = field(repr=False)
    secrets: tuple[bytes, ...] = field(repr=False)
    """Everything that must not come to light."""

    def goes_to(self, host: str) -> bool:
        return host_matches(host, self.hosts)


def make_auth(name: str, settings: AuthSettings) -> Auth:
    """The secret of this name; raises PermanentError when it is empty, or cannot be sent."""
    if settings.bearer is not None:
        header, value, secrets = "Authorization", f"Bearer {settings.bearer}", [settings.bearer]
    elif settings.password is not None:
        pair = base64.b64encode(f"{settings.username}:{settings.password}".encode()).decode()
        header, value, secrets = "Authorization", f"Basic {pair}", [settings.password, pair]
    else:
        value = settings.value or ""
        header, secrets = settings.header or "", [value, *value.split()]
    if not secrets[0]:
        raise PermanentError(f"the secret of [http.auth.{name}] is empty where oq runs", type="NoSecret")
    if not value.isprintable():
        raise PermanentError(
            f"the secret of [http.auth.{name}] contains a line break or another control character; remove it",
            type="NoSecret",
        )
    return Auth(
        hosts=settings.hosts,
        header=header,
        value=value,
        secrets=tuple(secret.encode() for secret in secrets if secret),
    )
