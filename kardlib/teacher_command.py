"""``kard teacher``: what asking costs, asking, what is there, and its way in and out of the kit."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from .endpoint_teacher import asks_of, open_store, store_path
from .errors import KardError
from .plain_text import columns
from .presets import Settings
from .prices import PriceTable, read_prices
from .readers import read_dataset
from .teacher_counts import counts
from .teacher_entries import BUILT_IN, TeacherEntry, teacher_entry
from .teacher_plan import Pace, TeacherPlan, measure, plan
from .teacher_records import Ask
from .teacher_store import TeacherStore

PARTS = ("rationale", "oracle")
"""What a teacher is asked for: rationales of train with the gold answer, and of dev and test without it."""


@dataclass(frozen=True)
class Part:
    """Asks of one purpose, and how many samples each is to have."""

    name: str
    asks: Sequence[Ask]
    count: int


def entry_of(settings: Settings) -> TeacherEntry:
    """The teacher of the settings; a KardError where it needs no endpoint."""
    if settings.teacher in BUILT_IN:
        raise KardError(f"teacher {settings.teacher!r}: it is never asked; choose one of data/teachers.toml")
    return teacher_entry(settings.teacher)


def parts_of(settings: Settings, names: Sequence[str] = PARTS) -> list[Part]:
    """What a teacher is to be asked under the settings: l samples of each training question, one of any other."""
    entry, data = entry_of(settings), read_dataset(settings)
    return [Part(name, asks_of(entry, data, name == "rationale"), settings.l if name == PARTS[0] else 1) for name in names]


def plans(settings: Settings, parts: Sequence[Part], store: TeacherStore, prices: PriceTable) -> dict[str, TeacherPlan]:
    """The plan of every part, corrected by what the same part has been billed so far."""
    limits = entry_of(settings).limits
    pace = Pace(limits.requests_per_minute or 0, limits.tokens_per_minute or 0, limits.concurrency)
    found: dict[str, TeacherPlan] = {}
    for part in parts:
        known = measure((ask, sample) for ask in part.asks for sample in store.get(ask))
        missing = _missing(store, part.count)
        found[part.name] = plan(part.asks, part.count, missing, prices, pace, known)
    return found


def _missing(store: TeacherStore, count: int) -> Callable[[Ask], list[int]]:
    return lambda ask: store.missing(ask, count)


def most(found: Sequence[TeacherPlan], entry: TeacherEntry) -> float | None:
    """US dollars that the plans may cost at most; None where a price is not known."""
    if entry.at_home:
        return 0.0
    ways = [one.together if entry.takes_n else one.apart for one in found if one.missing]
    costs = [way.online_most for way in ways]
    return None if any(cost is None for cost in costs) else sum(cost for cost in costs if cost is not None)


def plan_text(settings: Settings, names: Sequence[str], prices: Path | None = None) -> str:
    """What asking will take, part by part. Nothing is asked."""
    entry, parts = entry_of(settings), parts_of(settings, names)
    with open_store(entry.alias) as store:
        found = plans(settings, parts, store, read_prices(prices))
    lines = [f"teacher {entry.alias}: model {entry.model} at {entry.base_url}; samples in {store_path(entry.alias)}"]
    for name, one in found.items():
        lines += ["", f"{name}: {one}"]
    return "\n".join(lines)


def run(
    settings: Settings,
    names: Sequence[str],
    budget: float,
    yes: bool = False,
    prices: Path | None = None,
    ask: Callable[[str], str] | None = None,
) -> str:
    """Ask for whatever is missing.

    Args:
        budget: US dollars; a run that may cost more needs ``yes``, or a yes to ``ask``.
        ask: puts a question to the user; None where nobody is there.

    Raises:
        KardError: the budget is too small and nobody agrees, or the run had to stop; what has arrived is stored.
    """
    from .teacher_client import Endpoint
    from .teacher_run import collect_now

    entry, parts = entry_of(settings), parts_of(settings, names)
    endpoint = Endpoint(entry.base_url, entry.key_name, entry.limits.timeout, entry.takes_n)
    lines = []
    with open_store(entry.alias) as store:
        found = plans(settings, parts, store, read_prices(prices))
        for name, one in found.items():
            print(f"{name}: {one}")
        _agree(most(list(found.values()), entry), budget, yes, ask)
        for part in parts:
            print(f"asking {entry.alias} ({entry.model}) for {part.name} samples; Ctrl-C stops it and loses nothing")
            report = collect_now(part.asks, part.count, store, endpoint, entry.limits)
            faults = "".join(f", {number} {kind}" for kind, number in sorted(report.faults.items()))
            bad = "".join(f", {number} ended by {kind}" for kind, number in sorted(report.not_good.items()))
            lines.append(f"{part.name}: {report}, {report.requests:,} requests{faults}{bad}")
    return "\n".join(lines)


def _agree(cost: float | None, budget: float, yes: bool, ask: Callable[[str], str] | None) -> None:
    if yes or (cost is not None and cost <= budget):
        return
    told = "its price is not known" if cost is None else f"it may cost ${cost:,.2f}"
    if ask is None:
        raise KardError(f"{told}, and the budget is ${budget:,.2f}; --yes agrees, --budget USD states another")
    if ask(f"{told}; the budget is ${budget:,.2f}. Go on? [y/N] ").strip().lower() not in ("y", "yes"):
        raise KardError("nothing was asked")


def status_text(settings: Settings, names: Sequence[str] = PARTS) -> str:
    """What is there and what is missing, and everything that the store has counted."""
    entry, parts = entry_of(settings), parts_of(settings, names)
    with open_store(entry.alias) as store:
        rows = [("", "wanted", "good", "to ask", "given up")]
        for part in parts:
            good = sum(len(store.get(ask, part.count)) for ask in part.asks)
            lacking = sum(len(store.missing(ask, part.count)) for ask in part.asks)
            wanted = part.count * len(part.asks)
            rows.append((part.name, *(f"{n:,}" for n in (wanted, good, lacking, wanted - good - lacking))))
        told = counts(store)
    lines = [f"teacher {entry.alias}, model {entry.model}", *columns(rows, right=range(1, 5)), "", "in the store:"]
    lines += [f"  {told.asks:,} asks, {told.prompt_tokens:,} prompt and {told.completion_tokens:,} completion tokens"]
    for name, numbers in (("ended by", told.finish_reasons), ("came", told.sources), ("faults", told.faults)):
        lines += [f"  {name}: {', '.join(f'{kind} {number:,}' for kind, number in numbers.items())}"] if numbers else []
    lines += [f"  in batches that are under way: {told.in_batches:,}"] if told.in_batches else []
    return "\n".join(lines)


def export_samples(alias: str, path: Path) -> str:
    """Write all samples of a teacher with their prompts; of a damaged store, those that can still be read."""
    from .teacher_exchange import export
    from .teacher_salvage import salvage

    try:
        with open_store(alias) as store:
            number = export(store.everything(), path)
    except KardError as error:
        if not store_path(alias).exists():
            raise
        number = export(salvage(store_path(alias)), path)
        return f"{error}\n{number:,} samples could still be read and are in {path}"
    return f"{number:,} samples in {path}"


def import_samples(settings: Settings, path: Path) -> str:
    """Read samples: an exported file, or a folder in the authors' layout (rationales of the training questions)."""
    from .teacher_exchange import import_authors, import_jsonl

    entry = entry_of(settings)
    with open_store(entry.alias) as store, store.hold():
        if path.is_dir():
            asks = {ask.question_id: ask for ask in parts_of(settings, PARTS[:1])[0].asks}
            number = import_authors(store, path, asks)
        else:
            number = import_jsonl(store, path)
    return f"{number:,} samples read from {path}"
