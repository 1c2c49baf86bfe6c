"""The files of a provider's Batch API: which samples go into one, requests out, answers in."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from .errors import KardError
from .store import atomic_write
from .teacher_client import Endpoint, reply_of
from .teacher_faults import Fault, NotAnswered, fault_of
from .teacher_records import Ask, Sample
from .teacher_store import OPEN_BATCH, TeacherStore

ADDRESS = "/v1/chat/completions"
OK = 200
NAME = "kard"
"""Key of a batch's metadata under which its name stands, and how its name begins."""
MOST_REQUESTS = 50_000
MOST_BYTES = 200_000_000
"""The provider's bounds of one file."""


def prepare(
    asks: Iterable[Ask],
    count: int,
    store: TeacherStore,
    endpoint: Endpoint,
    most_requests: int = MOST_REQUESTS,
    most_bytes: int = MOST_BYTES,
) -> int:
    """Put what is missing into batches, each of one teacher and one model. Nothing is sent yet.

    Returns:
        How many samples have been put into batches.

    Raises:
        KardError: one request alone is larger than a file may be, or a run is filling the store.
    """
    with store.hold():
        files = _files(asks, count, store, endpoint, most_requests, most_bytes)
        return sum(_prepared(store, chosen) for chosen in files)


def _files(
    asks: Iterable[Ask], count: int, store: TeacherStore, endpoint: Endpoint, most_requests: int, most_bytes: int
) -> Iterator[list[tuple[Ask, int]]]:
    """What is missing, in portions that each fit into a file."""
    chosen: list[tuple[Ask, int]] = []
    size = 0
    for ask in asks:
        missing = store.missing(ask, count)
        bytes_each = len(request_line(endpoint, ask, count).encode())  # no index is longer than the count
        if missing and bytes_each > most_bytes:
            raise KardError(f"question {ask.question_id}: its prompt is larger than a batch file may be")
        for index in missing:
            full = len(chosen) == most_requests or size + bytes_each > most_bytes
            if chosen and (full or _kind(chosen[0][0]) != _kind(ask)):
                yield chosen
                chosen, size = [], 0
            chosen.append((ask, index))
            size += bytes_each
    if chosen:
        yield chosen


def _kind(ask: Ask) -> tuple[str, str]:
    return ask.teacher, ask.model


def _prepared(store: TeacherStore, chosen: list[tuple[Ask, int]]) -> int:
    """One transaction a batch; an ask that occurred twice is in it once."""
    with store.writing() as connection:
        store.add_asks(ask for ask, _ in chosen)
        row = (f"{NAME}-{uuid.uuid4().hex}", chosen[0][0].teacher, "prepared", time.time())
        batch = connection.execute(
            "INSERT INTO batches (name, teacher, state, made) VALUES (?, ?, ?, ?)", row
        ).lastrowid
        slots = {(ask.identity, index) for ask, index in chosen}
        waiting = (
            "INSERT INTO batch_samples SELECT ?, ?, ? WHERE NOT EXISTS (SELECT 1 FROM batch_samples JOIN batches ON "
            f"id = batch WHERE identity = ? AND idx = ? AND {OPEN_BATCH})"
        )
        rows = [(batch, *slot, *slot) for slot in sorted(slots)]
        return connection.executemany(waiting, rows).rowcount


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
