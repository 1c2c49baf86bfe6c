"""The Batch API of the fault server: files and batches in memory, answered at once and told of after some polls."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Callable
from typing import Any


class Batches:
    """What ``/v1/files`` and ``/v1/batches`` answer.

    Args:
        choice: makes a completion from a key, a place and a request.
        polls: questions after a batch that are answered with "in progress".
        end: the status in which every batch ends.
        answered: share of the requests that are answered in time, in order.
        errors: every so many-th answer is an error; 0 for none.
        dropped: ``upload`` or ``create``: done, but the connection is cut before the answer, the first time.
        busy: every so many-th request is answered with 503; 0 for none.
    """

    def __init__(
        self,
        choice: Callable[[str, int, dict[str, Any]], dict[str, Any]],
        polls: int = 1,
        end: str = "completed",
        answered: float = 1.0,
        errors: int = 0,
        dropped: tuple[str, ...] = (),
        busy: int = 0,
    ) -> None:
        self.choice, self.polls, self.end, self.answered = choice, polls, end, answered
        self.errors, self.dropped, self.busy = errors, set(dropped), busy
        self.files: dict[str, bytes] = {}
        self.made: dict[str, dict[str, Any]] = {}
        self.asked: dict[str, int] = {}
        self.log: list[dict[str, Any]] = []
        self.numbers = itertools.count(1)
        self.requests = 0

    def answer(self, method: str, path: str, headers: dict[str, str], body: bytes) -> tuple[int, Any]:
        """Status and body; status 0 for a connection that is cut."""
        self.requests += 1
        if self.busy and self.requests % self.busy == 0:
            return 503, {"error": {"message": "Not now."}}
        path, _, query = path.partition("?")
        kind, *rest = path.removeprefix("/v1/").split("/")
        if (method, kind) == ("POST", "files"):
            return self.cut("upload", self.upload(headers, body))
        if (method, kind) == ("POST", "batches"):
            return self.cut("create", self.create(json.loads(body)))
        if kind == "files":
            return (200, self.files[rest[0]]) if rest[0] in self.files else (404, {"error": {"message": "no file"}})
        return 200, self.status(rest[0]) if rest else self.page(query)

    def cut(self, step: str, value: Any) -> tuple[int, Any]:
        if step in self.dropped:
            self.dropped.remove(step)
            return 0, None
        return 200, value

    def upload(self, headers: dict[str, str], body: bytes) -> dict[str, Any]:
        boundary = re.search("boundary=([^;]+)", headers["content-type"])[1].strip('"').encode()
        part = next(part for part in body.split(b"--" + boundary) if b"filename=" in part)
        name = f"file-{next(self.numbers)}"
        self.files[name] = part.partition(b"\r\n\r\n")[2].removesuffix(b"\r\n")
        return {"id": name, "object": "file", "bytes": len(body), "created_at": 1, "filename": "f", "purpose": "batch",
                "status": "processed"}  # fmt: skip

    def create(self, asked: dict[str, Any]) -> dict[str, Any]:
        rows = [json.loads(line) for line in self.files[asked["input_file_id"]].decode().splitlines()]
        name = f"batch-{next(self.numbers)}"
        ids = [row["custom_id"] for row in rows]
        self.log.append({"id": name, "custom_ids": ids, "models": sorted({row["body"]["model"] for row in rows})})
        answered = rows[: int(len(rows) * self.answered)]
        good = [row for i, row in enumerate(answered, 1) if not self.errors or i % self.errors]
        bad = [row for row in answered if row not in good]
        expired = [{"custom_id": row["custom_id"], "response": None, "error": {"code": "batch_expired"}}
                   for row in rows[len(answered):]]  # fmt: skip
        failed = [
            self.line(row, 500 if i % 2 else 400, {"error": {"message": "no", "code": "content_filter" * (i % 2 == 0)}})
            for i, row in enumerate(bad)
        ]
        self.made[name] = {
            "id": name, "object": "batch", "endpoint": asked["endpoint"], "completion_window": "24h", "created_at": 1,
            "input_file_id": asked["input_file_id"], "metadata": asked.get("metadata"), "status": "validating",
            "output": self.keep([self.line(row, 200, self.completion(row)) for row in good]),
            "error": self.keep(failed + expired),
        }  # fmt: skip
        return self.told(name)

    def line(self, row: dict[str, Any], status: int, body: Any) -> dict[str, Any]:
        response = {"status_code": status, "request_id": "r", "body": body}
        return {"id": "l", "custom_id": row["custom_id"], "response": response, "error": None}

    def completion(self, row: dict[str, Any]) -> dict[str, Any]:
        identity, _, index = row["custom_id"].partition("-")
        choice = self.choice(f"{identity}-{index}.0", 0, row["body"])
        return {"choices": [choice], "usage": {"prompt_tokens": 30, "completion_tokens": 11}}

    def keep(self, rows: list[dict[str, Any]]) -> str | None:
        if not rows:
            return None
        name = f"file-{next(self.numbers)}"
        self.files[name] = "".join(json.dumps(row) + "\n" for row in rows).encode()
        return name

    def status(self, name: str) -> dict[str, Any]:
        self.asked[name] = self.asked.get(name, 0) + 1
        if self.asked[name] > self.polls:
            self.made[name]["status"] = self.end
        return self.told(name)

    def told(self, name: str) -> dict[str, Any]:
        made = dict(self.made[name])
        output, error = made.pop("output"), made.pop("error")
        if made["status"] in ("completed", "expired", "cancelled"):
            made |= {"output_file_id": output, "error_file_id": error}
        if made["status"] == "failed":
            made["errors"] = {"object": "list", "data": [{"code": "x", "message": "Too many\nenqueued tokens."}]}
        return made

    def page(self, query: str) -> dict[str, Any]:
        """Two batches at a time, the newest first."""
        names = list(self.made)[::-1]
        after = re.search(r"after=([\w-]+)", query)
        start = names.index(after[1]) + 1 if after else 0
        data = [self.told(name) for name in names[start : start + 2]]
        return {"object": "list", "data": data, "has_more": start + 2 < len(names),
                "first_id": data[0]["id"] if data else None, "last_id": data[-1]["id"] if data else None}  # fmt: skip
