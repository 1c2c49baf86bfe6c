"""What asking a teacher will take, before anything is asked: requests, tokens, cost and time.

No tokenizer of a provider is at hand offline, so tokens are estimated from characters. Once a store holds samples whose
usage the server has told, the estimate is corrected by it (:func:`measure`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from .errors import KardError
from .plain_text import columns, time_text
from .prices import Price, PriceTable
from .teacher_records import Ask, Sample

CHARACTERS_A_TOKEN = 4.0
"""Rule of thumb for English text with the tokenizers of today's chat models."""
MESSAGE_TOKENS = 4
"""Tokens that a chat format puts around each message, about."""
LATENCY = 5.0
"""Seconds that a request is taken to need where nobody has measured it."""


class RateLimits(Protocol):
    """What is used of a run's limits; a rate of None is no limit."""

    @property
    def concurrency(self) -> int: ...
    @property
    def requests_per_minute(self) -> float | None: ...
    @property
    def tokens_per_minute(self) -> float | None: ...


@dataclass(frozen=True)
class Unlimited:
    """No limits but that of so many requests at a time."""

    concurrency: int = 16
    requests_per_minute: float | None = None
    tokens_per_minute: float | None = None


def least_seconds(limits: RateLimits, latency: float, requests: int, tokens: float) -> float:
    """The least time for so many requests with so many tokens in all: the slowest of the three limits decides.

    Args:
        latency: seconds that one request takes.
    """
    waves = -(-requests // limits.concurrency)
    by_requests = 60 * requests / limits.requests_per_minute if limits.requests_per_minute else 0
    by_tokens = 60 * tokens / limits.tokens_per_minute if limits.tokens_per_minute else 0
    return max(waves * latency, by_requests, by_tokens)


@dataclass(frozen=True)
class Measured:
    """Usage that has been told by the server, beside what would have been estimated for the same requests.

    Attributes:
        prompt_estimated, prompt_tokens: of requests whose prompt tokens are known.
        samples, completion_tokens: of samples whose completion tokens are known.
    """

    prompt_estimated: float = 0
    prompt_tokens: float = 0
    samples: int = 0
    completion_tokens: float = 0

    @property
    def prompt_factor(self) -> float:
        """What an estimated number of prompt tokens is to be multiplied by; 1 where nothing is known."""
        return self.prompt_tokens / self.prompt_estimated if self.prompt_tokens and self.prompt_estimated else 1.0


def prompt_estimate(ask: Ask) -> float:
    """Prompt tokens of one request, estimated: characters / 4 and four for each message."""
    characters = sum(len(message.content) for message in ask.messages)
    return characters / CHARACTERS_A_TOKEN + MESSAGE_TOKENS * len(ask.messages)


def completion_estimate(ask: Ask) -> float:
    """Tokens of one completion, estimated: as long as the assistant's turns in the worked examples are on average, at
    most ``max_tokens``, and that where there are none."""
    replies = [len(message.content) for message in ask.messages if message.role == "assistant"]
    most = ask.sampling.max_tokens
    return min(most, sum(replies) / len(replies) / CHARACTERS_A_TOKEN) if replies else most


def measure(pairs: Iterable[tuple[Ask, Sample]]) -> Measured:
    """Sum up stored samples, for example all of one model and purpose.

    Samples that came in one request share its prompt tokens, and how many came together is not stored. For each ask it
    is taken to be the whole number of requests that brings its estimate nearest to the sum, at the tokens a character
    that the completions have.
    """
    by_ask: dict[str, tuple[Ask, list[Sample]]] = {}
    for ask, sample in pairs:
        by_ask.setdefault(ask.identity, (ask, []))[1].append(sample)
    replies = [s for _, samples in by_ask.values() for s in samples if s.completion_tokens]
    prompts = [
        (prompt_estimate(ask), [s.prompt_tokens for s in samples if s.prompt_tokens])
        for ask, samples in by_ask.values()
    ]
    tokens, characters = sum(s.completion_tokens for s in replies), sum(len(s.text) for s in replies)
    by_replies = Measured(characters / CHARACTERS_A_TOKEN, tokens).prompt_factor
    return replace(_billed(prompts, by_replies), samples=len(replies), completion_tokens=tokens)


def _billed(prompts: Sequence[tuple[float, list[int]]], factor: float) -> Measured:
    """Prompt tokens of some asks beside their estimates, each ask with as many requests as the factor suggests."""
    estimated = 0.0
    for estimate, billed in prompts:
        estimated += estimate * min(len(billed), max(1, round(sum(billed) / (estimate * factor))))
    return Measured(estimated, sum(sum(billed) for _, billed in prompts))


@dataclass(frozen=True)
class Way:
    """One way of asking for the missing samples.

    Attributes:
        name: ``n samples a request``, where the server supports ``n`` and bills the prompt once a request, or
            ``one sample a request``.
        completion_tokens: expected; ``completion_most`` is what ``max_tokens`` allows.
        online, batch: US dollars expected; None where a price is not known or there is no Batch API.
        online_most, batch_most: the same where every completion is as long as ``max_tokens`` allows.
        seconds: least time online at the given limits, which count a completion with the most that it may bring.
    """

    name: str
    requests: int = 0
    prompt_tokens: float = 0
    completion_tokens: float = 0
    completion_most: float = 0
    online: float | None = 0.0
    batch: float | None = 0.0
    online_most: float | None = 0.0
    batch_most: float | None = 0.0
    seconds: float = 0


@dataclass(frozen=True)
class TeacherPlan:
    """What is asked for and what it will take.

    Attributes:
        asks: that differ; ``samples`` are wanted of them in all, ``stored`` are there, ``missing`` are not.
        together, apart: with ``n`` samples a request, and with one.
        measured: the usage that corrected the estimate.
        prices: rows that the cost rests on; ``unpriced`` are models without one.
    """

    asks: int
    samples: int
    stored: int
    missing: int
    together: Way
    apart: Way
    measured: Measured
    prices: tuple[Price, ...]
    unpriced: tuple[str, ...]

    def __str__(self) -> str:
        return "\n".join(self.lines())

    def lines(self) -> list[str]:
        """The plan as a small table with what it rests on."""
        title = f"{self.samples:,} samples of {self.asks:,} prompts: {self.stored:,} stored, {self.missing:,} to ask"
        if not self.missing:
            return [f"{title}; nothing to pay."]
        head = ("", "requests", "prompt tokens", "completion tokens", "online", "batch", "at most", "time online")
        rows = [_row(way) for way in (self.together, self.apart)]
        return [title, "", *columns([head, *rows], right=range(1, len(head))), "", *self._notes()]

    def _notes(self) -> list[str]:
        known = self.measured
        told = f"prompt tokens estimated from characters ({CHARACTERS_A_TOKEN:g} a token)"
        if known.prompt_tokens:
            told += f" times {known.prompt_factor:.2f}, as billed so far"
        told += "; completion tokens "
        told += f"as in {known.samples:,} stored samples" if known.samples else "as in the worked examples"
        lines = [f"tokens: {told}", "at most: online, with every completion as long as max_tokens allows"]
        lines += ["n samples a request: for servers that support n; the prompt is billed once a request"]
        rows = (
            f"{p.model} {p.prompt:g} and {p.completion:g} USD a million ({p.dated}, {p.source})" for p in self.prices
        )
        lines += [f"price: {row}" for row in rows]
        if any(price.batch_discount is None for price in self.prices):
            lines += ["batch: there is none, as far as the price table knows"]
        lines += [f"price of {model}: not known; a row of a price table gives it" for model in self.unpriced]
        return lines


def _row(way: Way) -> tuple[str, ...]:
    tokens = (f"{way.prompt_tokens:,.0f}", f"{way.completion_tokens:,.0f}")
    costs = (_dollars(way.online), _dollars(way.batch), _dollars(way.online_most))
    return (way.name, f"{way.requests:,}", *tokens, *costs, time_text(way.seconds))


def _dollars(value: float | None) -> str:
    """Two places, or for less than ten cents four; a dash where it is not known."""
    return "-" if value is None else f"${value:,.{4 if 0 < value < 0.095 else 2}f}"


def plan(
    asks: Sequence[Ask],
    count: int,
    missing: Callable[[Ask], Sequence[int]],
    prices: PriceTable,
    limits: RateLimits | None = None,
    latency: float = LATENCY,
    measured: Measured | None = None,
) -> TeacherPlan:
    """What asking for the missing samples will take. Nothing is asked.

    Args:
        asks: an ask that comes again counts once.
        count: samples wanted of each ask.
        missing: indices of an ask's samples, below ``count``, that no store holds.
        limits: of the run; :class:`Unlimited` where there are none.
        latency: seconds that one request takes.
        measured: usage of stored samples of the same purpose, see :func:`measure`.

    Raises:
        KardError: ``count`` is below 1, or ``latency`` below 0.
    """
    if count < 1:
        raise KardError(f"{count} samples a question: it must be 1 or more")
    if not 0 <= latency < math.inf:
        raise KardError(f"latency = {latency:g}: it must be 0 or more seconds")
    known, bounds = measured or Measured(), limits or Unlimited()
    different = {ask.identity: ask for ask in asks}
    to_ask = [(ask, n) for ask in different.values() if (n := len(set(missing(ask))))]
    ways = [Way("n samples a request"), Way("one sample a request")]
    for ask, number in to_ask:
        price = prices.of(ask.model, ask.teacher)
        ways = [_add(way, ask, number, n, price, known) for way, n in zip(ways, (1, number), strict=True)]
    together, apart = (
        replace(way, seconds=least_seconds(bounds, latency, way.requests, way.prompt_tokens + way.completion_most))
        for way in ways
    )
    samples, lacking = count * len(different), sum(number for _, number in to_ask)
    rows = {(ask.model, ask.teacher): prices.of(ask.model, ask.teacher) for ask, _ in to_ask}
    return TeacherPlan(
        asks=len(different), samples=samples, stored=samples - lacking, missing=lacking,
        together=together, apart=apart, measured=known,
        prices=tuple(dict.fromkeys(price for price in rows.values() if price is not None)),
        unpriced=tuple(dict.fromkeys(model for (model, _), price in rows.items() if price is None)),
    )  # fmt: skip


def _add(way: Way, ask: Ask, samples: int, requests: int, price: Price | None, known: Measured) -> Way:
    """A way with the missing samples of one more ask."""
    prompt = requests * prompt_estimate(ask) * known.prompt_factor
    mean = known.completion_tokens / known.samples if known.samples else completion_estimate(ask)
    most = samples * ask.sampling.max_tokens
    reply = samples * min(mean, ask.sampling.max_tokens)
    return replace(
        way,
        requests=way.requests + requests,
        prompt_tokens=way.prompt_tokens + prompt,
        completion_tokens=way.completion_tokens + reply,
        completion_most=way.completion_most + most,
        online=_plus(way.online, price, prompt, reply, False),
        batch=_plus(way.batch, price, prompt, reply, True),
        online_most=_plus(way.online_most, price, prompt, most, False),
        batch_most=_plus(way.batch_most, price, prompt, most, True),
    )


def _plus(cost: float | None, price: Price | None, prompt: float, reply: float, batch: bool) -> float | None:
    """A cost with so many tokens more; None once one price is not known."""
    if cost is None or price is None or (batch and price.batch_discount is None):
        return None
    return cost + price.cost(prompt, reply, batch)
