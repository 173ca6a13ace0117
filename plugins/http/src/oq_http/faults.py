"""Makes of what went wrong on the way a failure that says what to do, and whether another attempt may help."""

from __future__ import annotations

import ssl

import httpcore

from oq import PermanentError, RetryableError
from oq_http.decoding import BrokenBody
from oq_http.plan import Timeouts
from oq_http.redaction import Scrubber


def steering(
    error: Exception, place: str, timeouts: Timeouts, scrubber: Scrubber
) -> PermanentError | RetryableError | None:
    """The failure that it is; None for an error that has nothing to do with HTTP. `place` is the URL as it is shown."""
    said = scrubber.text(str(error))  # it may quote the server, which may quote what it was sent
    match error:
        case httpcore.ConnectTimeout():
            return _timeout(f"no connection to {place} within {timeouts.connect:g} s", "connect")
        case httpcore.ReadTimeout():
            return _timeout(f"{place} said nothing for {timeouts.read:g} s", "read")
        case httpcore.WriteTimeout():
            return _timeout(f"{place} took nothing of the request for {timeouts.write:g} s", "write")
        case httpcore.ConnectError():
            return _connect_error(error, place)
        case httpcore.ReadError() | httpcore.WriteError():
            return RetryableError(f"{place} broke the connection off", type="Disconnected")
        case httpcore.RemoteProtocolError() | BrokenBody():
            return RetryableError(f"{place} gave no proper answer: {said}", type="ProtocolError")
        case httpcore.ProxyError():
            return RetryableError(f"the proxy did not connect to {place}: {said}", type="ProxyError")
        case httpcore.LocalProtocolError() | httpcore.UnsupportedProtocol():
            return PermanentError(f"the request to {place} cannot be sent: {said}", type="InvalidRequest")
        case _:
            return None


def _timeout(message: str, phase: str) -> RetryableError:
    return RetryableError(f"{message} ({phase}_timeout)", type="Timeout", details={"phase": phase})


def _connect_error(error: Exception, place: str) -> PermanentError | RetryableError:
    inner: BaseException | None = error
    while inner is not None:
        if isinstance(inner, ssl.SSLCertVerificationError):
            return PermanentError(
                f"the certificate of {place} is not to be trusted: {inner.verify_message}; if it is, "
                "name its issuer's by ca_file in the table [http]",
                type="CertificateError",
            )
        if isinstance(inner, ssl.SSLError):
            return RetryableError(f"no TLS with {place}: {inner.reason or inner}", type="ConnectError")
        inner = inner.__cause__ or inner.__context__
    reason = str(error) or "the connection broke off"
    return RetryableError(f"no connection to {place}: {reason}", type="ConnectError")
