"""``kard teacher``: what asking costs, asking, what is there, and its way in and out of the kit."""

from __future__ import annotations

from argparse import Namespace
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from .dataset import DataSet
from .drafts import drafts_of
from .endpoint_teacher import asks_of, asks_of_reader, is_endpoint, open_store, store_path
from .errors import KardError
from .experiment import Experiment
from .plain_text import columns
from .presets import Settings
from .prices import PriceTable, read_prices
from .readers import read_dataset
from .teacher_batch import collect_batches_now, submit_now
from .teacher_batch_files import prepare
from .teacher_client import Endpoint
from .teacher_counts import counts
from .teacher_entries import TeacherEntry, teacher_entry
from .teacher_plan import TeacherPlan, measure, plan
from .teacher_records import Ask
from .teacher_run import collect_now
from .teacher_store import TeacherStore

PARTS = ("rationale", "oracle", "reader")
"""What a teacher is asked for: rationales of train with the gold answer, of dev and test without it; and, where the
settings name a teacher as the filter's reader, which option each rationale leads to."""


@dataclass(frozen=True)
class Part:
    """Asks of one purpose, and how many samples each is to have."""

    name: str
    entry: TeacherEntry
    asks: Sequence[Ask]
    count: int


def act(action: str, settings: Settings, options: Namespace, ask: Callable[[str], str] | None) -> str:
    """What ``kard teacher ACTION`` does, and what it prints at its end."""
    path = Path(options.path) if options.path else None
    prices = Path(options.prices) if options.prices else None
    if (path is None) == (action in ("export", "import")):
        raise KardError(
            f"kard teacher {action}: {'a path is missing' if path is None else f'{path}: no path is needed'}"
        )
    if action == "plan":
        return plan_text(settings, options.part, prices)
    if action in ("run", "batch"):
        return run(settings, options.part, options.budget, options.yes, prices, ask, batch=action == "batch")
    if action == "collect":
        return collect_text(settings, options.part, options.wait)
    if path is None:
        return status_text(settings, options.part) if action == "status" else report_text(settings)
    if action == "export":
        return export_samples(entry_of(settings, options.part).alias, path)
    return import_samples(settings, path)


def entry_of(settings: Settings, part: str = "rationale") -> TeacherEntry:
    """The teacher of the settings, or its reader; a KardError where it needs no endpoint."""
    name = settings.reader if part == "reader" else settings.teacher
    if not is_endpoint(name):
        raise KardError(f"{'reader' if part == 'reader' else 'teacher'} {name!r}: it is none of data/teachers.toml")
    return teacher_entry(name)


def asked(settings: Settings, part: str = "") -> list[str]:
    """The parts that the settings need an endpoint for, or the one that is wanted."""
    if part:
        entry_of(settings, part)
        return [part]
    needed = [name for name in PARTS if is_endpoint(settings.reader if name == "reader" else settings.teacher)]
    needed = [name for name in needed if name != "reader" or settings.filter]
    if not needed:
        entry_of(settings)
    return needed


def part_of(settings: Settings, name: str, data: DataSet) -> Part:
    """What a teacher is asked for one purpose: l samples of each training question, one of anything else."""
    entry = entry_of(settings, name)
    if name == "reader":
        told = Experiment(settings).rationales()
        return Part(name, entry, asks_of_reader(entry, data, told), 1)
    return Part(name, entry, asks_of(entry, data, name == "rationale"), settings.l if name == "rationale" else 1)


def plan_of(part: Part, store: TeacherStore, prices: PriceTable) -> TeacherPlan:
    """What a part will take, corrected by what it has been billed so far."""
    known = measure((ask, sample) for ask in part.asks for sample in store.get(ask))
    return plan(
        part.asks, part.count, lambda ask: store.missing(ask, part.count), prices, part.entry.limits, measured=known
    )


def most(found: TeacherPlan, entry: TeacherEntry, batch: bool = False) -> float | None:
    """US dollars that a plan may cost at most, online or by batch; None where a price is not known."""
    if entry.at_home or not found.missing:
        return 0.0
    way = found.together if entry.takes_n and not batch else found.apart  # a batch has one sample a request
    return way.batch_most if batch else way.online_most


def plan_text(settings: Settings, part: str = "", prices: Path | None = None) -> str:
    """What asking will take, part by part. Nothing is asked."""
    table, data, lines = read_prices(prices), read_dataset(settings), []
    costs: list[float | None] = []
    for name in asked(settings, part):
        try:
            one = part_of(settings, name, data)
        except KardError:
            if name != "reader":
                raise
            lines += ["reader: what it costs can be told once the rationales are there", ""]
            continue
        with open_store(one.entry.alias) as store:
            found = plan_of(one, store, table)
        costs.append(most(found, one.entry))
        lines += [f"{name}: {one.entry} {found}", ""]
    total = "not known" if None in costs else f"${sum(cost for cost in costs if cost is not None):,.2f}"
    return "\n".join([*lines, f"all of it online, at most: {total}"])


def run(
    settings: Settings,
    part: str = "",
    budget: float = 1.0,
    yes: bool = False,
    prices: Path | None = None,
    ask: Callable[[str], str] | None = None,
    batch: bool = False,
) -> str:
    """Ask for whatever is missing, one part after the other.

    Args:
        batch: through the provider's Batch API; the answers are fetched by :func:`collect_text`.
        budget: US dollars; parts that may together cost more need ``yes``, or a yes to ``ask``.
        ask: puts a question to the user; None where nobody is there.

    Raises:
        KardError: the budget is too small and nobody agrees, or the run had to stop; what has arrived is stored.
    """
    table, data, lines = read_prices(prices), read_dataset(settings), []
    spent: float | None = 0.0
    for name in asked(settings, part):
        one = part_of(settings, name, data)
        with open_store(one.entry.alias) as store:
            found = plan_of(one, store, table)
            print(f"{name}: {one.entry} {found}")
            if found.missing:
                cost = most(found, one.entry, batch)
                spent = None if spent is None or cost is None else spent + cost
                _agree(spent, budget, yes, ask)
                lines.append(f"{name}: {_submit(one, store) if batch else _collect(one, store)}")
    return "\n".join(lines) or "nothing was missing"


def endpoint_of(entry: TeacherEntry) -> Endpoint:
    """Where the teacher answers."""
    return Endpoint(entry.base_url, entry.key_name, entry.timeout, entry.takes_n)


def _submit(part: Part, store: TeacherStore) -> str:
    endpoint = endpoint_of(part.entry)
    put = prepare(part.asks, part.count, store, endpoint)
    under_way = submit_now(store, endpoint, part.entry.alias, batch_folder(part.entry.alias))
    return (
        f"{put:,} samples put into batches, {under_way} batches are with the provider; 'kard teacher collect' fetches"
    )


def batch_folder(alias: str) -> Path:
    """Where a teacher's batch files are kept."""
    return store_path(alias).with_suffix("") / "batches"


def collect_text(settings: Settings, part: str = "", wait: float | None = None) -> str:
    """Send what was prepared and not sent, and store the answers of batches that have ended.

    Args:
        wait: seconds between two looks, until no batch is left; None to look once.
    """
    lines = []
    entries = (entry_of(settings, name) for name in asked(settings, part))
    for alias, entry in {entry.alias: entry for entry in entries}.items():
        endpoint, folder = endpoint_of(entry), batch_folder(alias)
        with open_store(alias) as store:
            under_way = submit_now(store, endpoint, alias, folder)
            ended = collect_batches_now(store, endpoint, alias, folder, wait)
        for one in ended:
            faults = _listed(one.faults + one.not_good)
            told = f": {one.reason}" if one.reason else ""
            lines.append(f"{one.name} {one.status}{told}: {one.stored:,} stored, {one.left:,} missing again{faults}")
        lines.append(f"{alias}: {under_way - len(ended)} batches are still with the provider")
    return "\n".join(lines)


def _collect(part: Part, store: TeacherStore) -> str:
    entry, endpoint = part.entry, endpoint_of(part.entry)
    print(f"asking {entry.alias} ({entry.model}); Ctrl-C stops it and loses nothing")
    report = collect_now(part.asks, part.count, store, endpoint, entry.limits)
    faults, bad = _listed(report.faults), _listed(report.not_good, "ended by ")
    return f"{report}, {report.requests:,} requests{faults}{bad}"


def _listed(counted: Counter[str], words: str = "") -> str:
    return "".join(f", {number} {words}{kind}" for kind, number in sorted(counted.items()))


def _agree(cost: float | None, budget: float, yes: bool, ask: Callable[[str], str] | None) -> None:
    if yes or (cost is not None and cost <= budget):
        return
    told = "its price is not known" if cost is None else f"it may cost ${cost:,.2f}"
    if ask is None:
        raise KardError(f"{told}, and the budget is ${budget:,.2f}; --yes agrees, --budget USD states another")
    if ask(f"{told}; the budget is ${budget:,.2f}. Go on? [y/N] ").strip().lower() not in ("y", "yes"):
        raise KardError("nothing was asked")


def status_text(settings: Settings, part: str = "") -> str:
    """What is there and what is missing, and everything that the stores have counted."""
    data, rows = read_dataset(settings), [("", "wanted", "good", "to ask", "given up")]
    entries: dict[str, TeacherEntry] = {}
    for name in asked(settings, part):
        entry = entry_of(settings, name)
        entries[entry.alias] = entry
        try:
            one = part_of(settings, name, data)
        except KardError as error:
            rows.append((name, f"({error})", "", "", ""))
            continue
        with open_store(one.entry.alias) as store:
            good = sum(len(store.get(ask, one.count)) for ask in one.asks)
            lacking = sum(len(store.missing(ask, one.count)) for ask in one.asks)
        wanted = one.count * len(one.asks)
        rows.append((name, *(f"{n:,}" for n in (wanted, good, lacking, wanted - good - lacking))))
    return "\n".join([*columns(rows, right=range(1, 5)), *(line for e in entries.values() for line in _stored(e))])


def _stored(entry: TeacherEntry) -> list[str]:
    with open_store(entry.alias) as store:
        told = counts(store)
    lines = ["", f"{entry.alias}, {store_path(entry.alias)}:"]
    lines += [f"  {told.asks:,} asks, {told.prompt_tokens:,} prompt and {told.completion_tokens:,} completion tokens"]
    for name, numbers in (("ended by", told.finish_reasons), ("came", told.sources), ("faults", told.faults)):
        lines += [f"  {name}: {', '.join(f'{kind} {number:,}' for kind, number in numbers.items())}"] if numbers else []
    return lines + ([f"  in batches that are under way: {told.in_batches:,}"] if told.in_batches else [])


def report_text(settings: Settings) -> str:
    """The quality of the rationales that are there: verdicts, leaks, lengths, repetitions, overlap with test."""
    from .rationale_quality import measure_rationales

    data = read_dataset(settings)
    one = part_of(settings, "rationale", data)
    with open_store(one.entry.alias) as store:
        pairs = [(ask, sample) for ask in one.asks for sample in store.tries(ask, one.count)]
        complete = not any(store.missing(ask, one.count) for ask in one.asks)
    verdicts = Experiment(settings).verdicts().verdicts if settings.filter and complete else None
    return str(measure_rationales(data.train, drafts_of(pairs, data.train), verdicts, data.test))


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
            asks = {ask.question_id: ask for ask in asks_of(entry, read_dataset(settings), show_gold=True)}
            number = import_authors(store, path, asks)
        else:
            number = import_jsonl(store, path)
    return f"{number:,} samples read from {path}"
