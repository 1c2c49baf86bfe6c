"""From asks to stored completions: what is missing is asked for, and nothing that is there is asked for again."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Iterator, Sequence, Sized

from tqdm import tqdm

from .errors import KardError
from .teacher_client import Endpoint, Reply
from .teacher_faults import Fault, Refused
from .teacher_limits import Limits, Pace
from .teacher_loop import run_in_thread
from .teacher_outcome import Report, Stop, Stopped
from .teacher_plan import CHARACTERS_A_TOKEN
from .teacher_records import Ask, Sample
from .teacher_store import TeacherStore
from .teacher_writer import Writer

INTERRUPTED = 130
"""Exit code after Ctrl-C."""


async def collect(
    asks: Iterable[Ask],
    count: int,
    store: TeacherStore,
    endpoint: Endpoint,
    limits: Limits | None = None,
    progress: bool = True,
    stop: Stop | None = None,
) -> Report:
    """Bring every ask to ``count`` samples, apart from slots that are given up or that an open batch is to fill.

    Args:
        asks: gone through once while the run goes on, so it may be a generator; memory does not grow with it.
        stop: lets the caller end the run early.

    Raises:
        Stopped: the key, the model or the quota was refused, a sample failed too often, or ``stop`` was set.
        KardError: the store cannot be written, or another run is filling it.
    """
    stop = stop or Stop()
    total = len(asks) * count if isinstance(asks, Sized) else None
    with store.hold(), tqdm(total=total, desc="teacher", unit="sample", disable=not progress) as bar:
        async with endpoint, Writer(store) as writer:
            run = _Run(asks, count, store, endpoint, limits or Limits(), stop, writer, bar)
            await run.go()
    if isinstance(asks, Sequence):
        run.report.left = sum(len(store.missing(ask, count)) for ask in {ask.identity: ask for ask in asks}.values())
    if stop.reason is not None:
        raise Stopped(str(stop.reason), run.report, stop.exit_code)
    return run.report


class _Run:
    def __init__(
        self,
        asks: Iterable[Ask],
        count: int,
        store: TeacherStore,
        endpoint: Endpoint,
        limits: Limits,
        stop: Stop,
        writer: Writer,
        bar: tqdm,
    ) -> None:
        self.count, self.store, self.endpoint, self.limits = count, store, endpoint, limits
        self.stop, self.writer, self.bar = stop, writer, bar
        self.pace = Pace(limits)
        self.report = Report()
        self.under_way: set[tuple[str, int]] = set()
        self.jobs = self._jobs(asks)

    async def go(self) -> None:
        """Workers that share one iterator of jobs: no list of the whole run exists at any time."""
        workers = [asyncio.create_task(self._work()) for _ in range(self.limits.concurrency)]
        ending = asyncio.create_task(self._end(workers))
        try:
            done = await asyncio.gather(*workers, return_exceptions=True)
        finally:
            for task in (ending, *workers):
                task.cancel()
            await asyncio.gather(ending, *workers, return_exceptions=True)
        error = next((one for one in done if isinstance(one, Exception)), None)
        if error is not None:
            raise error

    async def _end(self, workers: list[asyncio.Task[None]]) -> None:
        """Once the run is to end, give the answers under way some time, then give up on them."""
        await self.stop.event.wait()
        await asyncio.sleep(self.limits.grace)
        for worker in workers:
            worker.cancel()

    async def _work(self) -> None:
        try:
            for ask, indices in self.jobs:
                await self._fill(ask, indices)
                self.under_way -= {(ask.identity, index) for index in indices}
                if self.stop.event.is_set():
                    return
        except Refused as error:
            self._count_fault(error.kind)
            self.stop.set(error)
        except KardError as error:  # the store cannot be written: nothing more may be paid for
            self.stop.set(error)
        except BaseException:
            self.stop.event.set()  # the others need not go on to the end before this is told
            raise

    def _jobs(self, asks: Iterable[Ask]) -> Iterator[tuple[Ask, list[int]]]:
        for ask in asks:
            identity = ask.identity
            missing = [i for i in self.store.missing(ask, self.count) if (identity, i) not in self.under_way]
            self.bar.update(self.count - len(missing))
            together = self.endpoint.takes_n is not False
            for indices in [missing] if together and missing else [[index] for index in missing]:
                self.under_way |= {(identity, index) for index in indices}
                yield ask, indices

    async def _fill(self, ask: Ask, indices: list[int]) -> None:
        while indices and not self.stop.event.is_set():
            reply = await self._ask(ask, indices)
            if reply is None:
                return
            samples = samples_of(reply, indices, time.time())
            kept = await self.writer.put([(ask, sample) for sample in samples])
            self._count(kept)
            again = [s.index for s in samples if not s.good and self.store.tried(ask, s.index) < self.store.attempts]
            self.bar.update(len(samples) - len(again))
            indices = again + indices[len(samples) :]

    def _count(self, samples: Sequence[Sample]) -> None:
        self.report.stored += sum(sample.good for sample in samples)
        self.report.not_good.update(sample.finish_reason for sample in samples if not sample.good)

    async def _ask(self, ask: Ask, indices: list[int]) -> Reply | None:
        """One reply, however many requests it takes; None where the run ends first."""
        characters = sum(len(message.content) for message in ask.messages)
        tokens = characters // CHARACTERS_A_TOKEN + ask.sampling.max_tokens * len(indices)
        for tries in range(1, self.limits.tries + 1):
            if not self.pace.free and await self._until_stopped(self.pace.admit(tokens)):
                return None
            self.report.requests += 1
            try:
                return await self.endpoint.complete(ask, len(indices), self._key(ask, indices))
            except Fault as fault:
                self._count_fault(fault.kind)
                last = fault
            if last.retry_after is not None and last.retry_after > self.limits.patience:
                reason = f"{self.endpoint.host}: it asks to wait {last.retry_after:,.0f} seconds ({last.kind})"
                self.stop.set(KardError(reason))
            if tries < self.limits.tries and await self._until_stopped(
                asyncio.sleep(self.pace.wait(tries, last.retry_after))
            ):
                return None
        reason = f"{self.endpoint.host}: question {ask.question_id} failed {self.limits.tries} times, last: {last.kind}"
        hint = "; lower requests_per_minute or concurrency" if last.kind == "429" else ""
        self.stop.set(KardError(reason + hint))
        return None

    def _key(self, ask: Ask, indices: list[int]) -> str:
        """Names the samples of a request, each with its attempt; the same after a fault, another after a bad sample."""
        return f"{ask.identity}-{'_'.join(f'{index}.{self.store.tried(ask, index)}' for index in indices)}"

    def _count_fault(self, kind: str) -> None:
        self.report.faults[kind] += 1
        self.writer.fault(kind, time.time())
        self.bar.set_postfix_str(f"{self.report.faults.total():,} faults", refresh=False)

    async def _until_stopped(self, wait: object) -> bool:
        """Wait, but not longer than the run goes on. Returns whether it has ended."""
        waiting = asyncio.ensure_future(wait)
        stopped = asyncio.ensure_future(self.stop.event.wait())
        try:
            await asyncio.wait((waiting, stopped), return_when=asyncio.FIRST_COMPLETED)
        finally:
            waiting.cancel()
            stopped.cancel()
        return self.stop.event.is_set()


def samples_of(reply: Reply, indices: Sequence[int], arrived: float) -> list[Sample]:
    """The samples of one reply. Its tokens are shared evenly; times differ by a microsecond, so that equal texts of
    one reply are told apart."""
    count = len(reply.completions)
    return [
        Sample(
            index=index,
            text=completion.text,
            finish_reason=completion.finish_reason,
            prompt_tokens=_share(reply.prompt_tokens, place, count),
            completion_tokens=_share(reply.completion_tokens, place, count),
            arrived=arrived + place * 1e-6,
        )
        for place, (index, completion) in enumerate(zip(indices, reply.completions, strict=False))
    ]


def _share(total: int, place: int, count: int) -> int:
    return total // count + (place < total % count)


def collect_now(
    asks: Iterable[Ask],
    count: int,
    store: TeacherStore,
    endpoint: Endpoint,
    limits: Limits | None = None,
    progress: bool = True,
) -> Report:
    """The same for code that is not asynchronous, in a notebook too: the event loop has a thread of its own.

    The first Ctrl-C lets the answers under way arrive, for ``limits.grace`` seconds at most; the second drops them.
    """
    stops: list[Stop] = []

    async def main() -> Report:
        stops.append(Stop())
        return await collect(asks, count, store, endpoint, limits, progress, stops[0])

    return run_in_thread(main, lambda: stops[0].set(KardError("stopped"), INTERRUPTED))
