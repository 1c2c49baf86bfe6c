"""A provider's Batch API: half the price, an answer within a day. Everything that is under way is in the store.

A batch goes through the states ``prepared`` (its samples are chosen; a run that asks online leaves them alone),
``uploaded``, ``creating``, ``submitted`` and ``closed``. Each state is on the disk before the next request is sent. A
process that is killed while a batch is being created cannot know whether the provider took it, so the next one looks
among the provider's batches for this one's name before it creates anything. What a closed batch has not answered
(expired, failed, cancelled, a fault in one line) is missing again.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import openai

from .errors import KardError
from .teacher_batch_files import ADDRESS, NAME, answers, custom_id, request_line, sample_of_answer, write_requests
from .teacher_client import Endpoint, told_by
from .teacher_faults import Fault, scrubbed
from .teacher_limits import Limits, Pace
from .teacher_loop import run_in_thread
from .teacher_records import Sample
from .teacher_store import TeacherStore

ENDED = {"completed", "failed", "expired", "cancelled"}
T = TypeVar("T")


@dataclass
class Collected:
    """What a batch that has ended brought.

    Attributes:
        status: the provider's: ``completed``, ``failed``, ``expired`` or ``cancelled``.
        stored: good completions.
        faults: answers that brought no completion, by kind.
        left: samples of the batch that are missing again.
        reason: why it failed, in the provider's words.
    """

    name: str
    status: str
    stored: int = 0
    not_good: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    left: int = 0
    reason: str = ""


class Batches:
    """The batches of one teacher in a store; used while the endpoint is in use.

    Args:
        folder: where the files of requests and answers are kept.
    """

    def __init__(
        self, store: TeacherStore, endpoint: Endpoint, teacher: str, folder: Path, limits: Limits | None = None
    ) -> None:
        self.store, self.endpoint, self.teacher, self.folder = store, endpoint, teacher, Path(folder)
        self.pace = Pace(limits or Limits())

    async def submit(self) -> int:
        """Send every batch that is not with the provider yet. May be interrupted at any time and called again.

        Returns:
            How many batches are with the provider and not closed.
        """
        with self.store.hold():
            for batch, name, state, file_id in self._in_state("prepared", "uploaded", "creating"):
                if state == "prepared":
                    file_id = await self._upload(batch, name)
                await self._create(batch, name, file_id, state == "creating")
        return len(self._in_state("submitted"))

    async def _upload(self, batch: int, name: str) -> str:
        path = self.folder / f"{name}.jsonl"
        query = "SELECT identity, idx FROM batch_samples WHERE batch = ? ORDER BY identity, idx"
        slots = self.store.read(query, batch)
        lines = (request_line(self.endpoint, self.store.ask(identity), index) for identity, index in slots)
        write_requests(path, lines)
        # killed before the next line is through, the file is sent again: an upload costs nothing
        made = await self._tried(lambda: self.endpoint.client.files.create(file=path, purpose="batch"))
        self._set(batch, state="uploaded", file_id=made.id)
        return str(made.id)

    async def _create(self, batch: int, name: str, file_id: str, doubtful: bool) -> None:
        self._set(batch, state="creating")
        doubts = [doubtful]

        async def find_or_create() -> Any:
            if doubts[0] and (found := await self._find(name)):
                return found
            doubts[0] = True  # from here on a fault does not tell whether the provider took it
            return await self.endpoint.client.batches.create(
                input_file_id=file_id,
                endpoint=ADDRESS,
                completion_window="24h",
                metadata={NAME: name},
            )

        made = await self._tried(find_or_create)
        self._set(batch, state="submitted", batch_id=made.id)

    async def _find(self, name: str) -> Any:
        async for made in self.endpoint.client.batches.list(limit=100):
            if (made.metadata or {}).get(NAME) == name:
                return made
        return None

    async def collect(self) -> list[Collected]:
        """Ask once about every submitted batch, and store the answers of those that have ended."""
        ended = []
        for batch, name, _, _ in self._in_state("submitted"):
            [(batch_id,)] = self.store.read("SELECT batch_id FROM batches WHERE id = ?", batch)
            made = await self._tried(lambda batch_id=batch_id: self.endpoint.client.batches.retrieve(batch_id))
            if made.status in ENDED:
                ended.append(await self._close(batch, name, made))
        return ended

    async def wait(self, seconds: float = 60.0) -> list[Collected]:
        """Collect every so many seconds until no batch is with the provider."""
        ended = await self.collect()
        while self._in_state("submitted"):
            await asyncio.sleep(seconds)
            ended += await self.collect()
        return ended

    async def _close(self, batch: int, name: str, made: Any) -> Collected:
        """All answers and the state ``closed`` in one transaction, so that no answer is stored twice or lost."""
        files = []
        for kind, file_id in (("output", made.output_file_id), ("errors", made.error_file_id)):
            if file_id:
                path = self.folder / f"{name}.{kind}.jsonl"
                await self._tried(lambda path=path, file_id=file_id: self._download(file_id, path))
                files.append(path)
        told = Collected(name, made.status, reason=_reason(made))
        waiting = {
            custom_id(identity, index): (identity, index)
            for identity, index in self.store.read("SELECT identity, idx FROM batch_samples WHERE batch = ?", batch)
        }
        with self.store.writing() as connection:
            state = connection.execute("SELECT state FROM batches WHERE id = ?", (batch,)).fetchone()[0]
            if state != "submitted":  # another process was faster
                return told
            for path in files:
                self._store_answers(path, waiting, told)
            rows = [(kind, time.time()) for kind in told.faults.elements()]
            connection.executemany("INSERT INTO faults VALUES (?, ?)", rows)
            connection.execute("UPDATE batches SET state = 'closed' WHERE id = ?", (batch,))
        told.left = len(waiting) + sum(told.not_good.values())
        return told

    def _store_answers(self, path: Path, waiting: dict[str, tuple[str, int]], told: Collected) -> None:
        for name, response in answers(path):
            try:
                if name not in waiting:
                    raise Fault("batch unknown id")
                identity, index = waiting[name]
                sample = sample_of_answer(response, index, time.time())
            except Fault as fault:
                told.faults[fault.kind] += 1
                continue
            del waiting[name]
            self._count(self.store.place(self.store.ask(identity), sample), told)

    def _count(self, sample: Sample, told: Collected) -> None:
        if sample.good:
            told.stored += 1
        else:
            told.not_good[sample.finish_reason] += 1

    async def _download(self, file_id: str, path: Path) -> None:
        partial = path.with_suffix(".partial")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            async with self.endpoint.client.files.with_streaming_response.content(file_id) as response:
                await response.stream_to_file(partial)
            os.replace(partial, path)
        except OSError as error:
            raise KardError(f"{path}: cannot be written ({error.strerror or error})") from None

    async def _tried(self, call: Callable[[], Awaitable[T]]) -> T:
        """Call, and call again after a fault that may pass; each is counted in the store."""
        for tries in range(1, self.pace.limits.tries + 1):
            await self.pace.admit(0)
            try:
                return await call()
            except openai.OpenAIError as error:
                problem = told_by(error, self.endpoint.host, "", self.endpoint.key_name)
            except ValueError:  # what came is no JSON
                problem = Fault("malformed")
            if not isinstance(problem, Fault):
                break
            self.store.put_many([], [(problem.kind, time.time())])
            if tries < self.pace.limits.tries:
                await asyncio.sleep(min(self.pace.wait(tries, problem.retry_after), self.pace.limits.patience))
        if isinstance(problem, KardError):
            raise problem
        reason = f"{self.endpoint.host}: its Batch API failed {self.pace.limits.tries} times, last: {problem}"
        raise KardError(f"{reason}; what is under way is stored, and the same command goes on from there")

    def _in_state(self, *states: str) -> list[tuple[int, str, str, str]]:
        marks = ", ".join("?" * len(states))
        query = f"SELECT id, name, state, file_id FROM batches WHERE teacher = ? AND state IN ({marks}) ORDER BY id"
        return self.store.read(query, self.teacher, *states)

    def _set(self, batch: int, **values: str) -> None:
        columns = ", ".join(f"{column} = ?" for column in values)
        with self.store.writing() as connection:
            connection.execute(f"UPDATE batches SET {columns} WHERE id = ?", (*values.values(), batch))


def submit_now(store: TeacherStore, endpoint: Endpoint, teacher: str, folder: Path) -> int:
    """:meth:`Batches.submit` for code that is not asynchronous."""

    async def main() -> int:
        async with endpoint:
            return await Batches(store, endpoint, teacher, folder).submit()

    return run_in_thread(main)


def collect_batches_now(
    store: TeacherStore, endpoint: Endpoint, teacher: str, folder: Path, wait: float | None = None
) -> list[Collected]:
    """:meth:`Batches.collect`, or :meth:`Batches.wait` with so many seconds, for code that is not asynchronous."""

    async def main() -> list[Collected]:
        async with endpoint:
            batches = Batches(store, endpoint, teacher, folder)
            return await (batches.collect() if wait is None else batches.wait(wait))

    return run_in_thread(main)


def _reason(made: Any) -> str:
    errors = (made.errors.data or []) if made.errors else []
    return scrubbed(str(errors[0].message or errors[0].code)) if errors else ""
