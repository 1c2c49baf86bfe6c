"""The files of a provider's Batch API: requests out, answers in."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from .errors import KardError
from .store import atomic_write
from .teacher_client import Endpoint, reply_of
from .teacher_faults import Fault, NotAnswered, fault_of
from .teacher_records import Ask, Sample

ADDRESS = "/v1/chat/completions"
OK = 200


def request_line(endpoint: Endpoint, ask: Ask, index: int) -> str:
    """One request of a batch file, with its line end."""
    row = {"custom_id": custom_id(ask.identity, index), "method": "POST", "url": ADDRESS, "body": endpoint.body(ask, 1)}
    return json.dumps(row) + "\n"  # in ASCII: a line separator within a text ends a line for some readers


def custom_id(identity: str, index: int) -> str:
    """Names a sample within a batch."""
    return f"{identity}-{index}"


def write_requests(path: Path, lines: Iterable[str]) -> None:
    """Write a batch file, whole or not at all."""
    with atomic_write(path) as file:
        file.writelines(lines)


def answers(path: Path) -> Iterator[tuple[str, Any]]:
    """Custom id and response of each line of an output or error file; ``("", None)`` for a line that is none."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            for line in file:
                if line.strip():
                    yield _answer(line)
    except OSError as error:
        raise KardError(f"{path}: cannot be read ({error.strerror or error})") from None


def _answer(line: str) -> tuple[str, Any]:
    try:
        row = json.loads(line)
        return str(row["custom_id"]), row.get("response") or {"status_code": None, "body": {"error": row.get("error")}}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return "", None


def sample_of_answer(response: Any, index: int, arrived: float) -> Sample:
    """The sample that one answer brings.

    Raises:
        Fault: it brings none; the kind starts with ``batch``.
    """
    status = response.get("status_code") if isinstance(response, dict) else None
    if status != OK:
        body = response.get("body") if isinstance(response, dict) else None
        if isinstance(status, int) and isinstance(fault_of(status, {}, body, "", "", ""), NotAnswered):
            return Sample(index=index, text="", finish_reason="content_filter", source="batch", arrived=arrived)
        raise Fault(f"batch {_code(body) if status is None else status}")
    try:
        reply = reply_of(json.dumps(response.get("body")).encode())
    except Fault as fault:
        raise Fault(f"batch {fault.kind}") from None
    return Sample(
        index=index,
        text=reply.completions[0].text,
        finish_reason=reply.completions[0].finish_reason,
        prompt_tokens=reply.prompt_tokens,
        completion_tokens=reply.completion_tokens,
        source="batch",
        arrived=arrived,
    )


def _code(body: Any) -> str:
    error = body.get("error") if isinstance(body, dict) else None
    code = error.get("code") if isinstance(error, dict) else None
    return "expired" if code == "batch_expired" else "unanswered"
