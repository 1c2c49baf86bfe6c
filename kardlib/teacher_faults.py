"""What a server's error means: try again, stop, or an answer that does not count. No error tells a key."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any, Literal

from .errors import KardError
from .teacher_limits import retry_after

SHORTEST_SECRET = 6
"""Values of environment variables from this length on are struck out of whatever a server says."""
LONGEST_QUOTE = 200
TRY_AGAIN = {408, 409, 425, 429}
Adapt = Literal["n", "max_tokens"]


class Fault(Exception):
    """A request failed in a way that may pass.

    Attributes:
        kind: a status such as ``429``, or ``timeout``, ``connection``, ``malformed``, ``empty``, ``no n``.
        retry_after: seconds that the server asks to wait for.
    """

    def __init__(self, kind: str, retry_after: float | None = None) -> None:
        super().__init__(kind)
        self.kind = kind
        self.retry_after = retry_after


class Refused(KardError):
    """No request of this run can succeed: the key, the model or the quota.

    Attributes:
        kind: as of :class:`Fault`.
    """

    def __init__(self, message: str, kind: str) -> None:
        super().__init__(message)
        self.kind = kind


class Unsupported(Exception):
    """The server does not know a field of the request."""

    def __init__(self, field: Adapt) -> None:
        super().__init__(field)
        self.field = field


class NotAnswered(Exception):
    """The server will never answer this one prompt; the reason is kept as the sample's finish reason."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def fault_of(status: int, headers: Mapping[str, str], body: Any, host: str, model: str, key_name: str) -> Exception:
    """The exception for an HTTP status of 400 and above.

    Args:
        headers: of the reply, looked up in lower case.
        body: of the reply, parsed where it is JSON.
        host: of the endpoint, without credentials.
        key_name: the environment variable that holds the key.
    """
    error = body.get("error", body) if isinstance(body, dict) else body
    code, param, said = (_field(error, name) for name in ("code", "param", "message"))
    said = said or _field(body, "detail") or (body if isinstance(body, str) else "")
    kind = str(status)
    if status == 402 or (status in (403, 429) and _no_quota(f"{code} {_field(error, 'type')} {said}")):
        return Refused(f"{host}: the quota is used up ({status}); what was stored is safe", kind)
    if status in TRY_AGAIN or status >= 500:
        return Fault(kind, retry_after(headers))
    if status in (401, 403):
        have = "was refused" if os.environ.get(key_name) else "is not set, and a key is needed"
        return Refused(f"{host}: the key in the environment variable {key_name} {have} ({status})", kind)
    if status in (400, 422):
        special = _bad_request(code, param, said)
        if special is not None:
            return special
    if status == 404 or _unknown_model(code, said):
        absent = f"there is no model {model!r}" if model else "nothing is there"
        return Refused(f"{host}: {absent} ({status}); or the address lacks its /v1", kind)
    return Refused(f"{host}: the request was refused ({status}): {scrubbed(said) or 'no reason given'}", kind)


def _bad_request(code: str, param: str, said: str) -> Exception | None:
    if param == "n" or re.search(r"""(?:["'`]n["'`]|\bn (?:is|must|should|>|!=|=))""", said):
        return Unsupported("n")
    if "max_completion_tokens" in said:
        return Unsupported("max_tokens")
    if "content_filter" in code or "content_policy" in code:
        return NotAnswered("content_filter")
    if code == "context_length_exceeded" or re.search(r"(?:maximum )?context (?:length|window)", said):
        return NotAnswered("context_length_exceeded")
    return None


def _no_quota(text: str) -> bool:
    return bool(re.search(r"insufficient_quota|billing_hard_limit|insufficient[ _]balance|exceeded your current", text))


def _unknown_model(code: str, said: str) -> bool:
    after = r"model\b.*(?:not exist|not found|unknown|not a valid|invalid model)"
    before = r"(?:unknown|invalid|no such) model"
    return code == "model_not_found" or bool(re.search(f"{after}|{before}", said, re.IGNORECASE | re.DOTALL))


def _field(value: Any, name: str) -> str:
    found = value.get(name) if isinstance(value, dict) else None
    return found if isinstance(found, str) else ""


def scrubbed(text: str) -> str:
    """One line of what a server said, without anything that could be a key or a value of the environment."""
    for value in sorted(set(os.environ.values()), key=len, reverse=True):
        if len(value) >= SHORTEST_SECRET:
            text = text.replace(value, "***")
    text = re.sub(r"\b(?:sk|pk|key|hf|gsk|xai)[-_][\w*.-]+|Bearer \S+", "***", text)
    return " ".join(text.split())[:LONGEST_QUOTE]
