"""The part of ``kard plan`` that tells costs beforehand: operations, memory and hours of every step that is to do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import mean

from .calibration import Rates, calibrated, trains_in_bf16
from .devices import OwnDevice, Sheet, own_device, sheet_of
from .endpoint_teacher import is_endpoint
from .jobs import Job, step_memory, threads
from .model_shape import ModelShape, shape_of
from .models import SMALL
from .plain_text import columns, size_text, time_text
from .preset_sources import our_choices
from .presets import Settings
from .sample_lengths import Sample, sample_of
from .step_costs import Cost, Work, cost
from .step_work import PROMPTS, SEARCHES, work_of

_OTHERWISE = {"rationales": "asked of the teacher", **dict.fromkeys(SEARCHES, "search only")}


@dataclass(frozen=True)
class Wanted:
    """Steps of one kind that are to do; they differ in their seed alone.

    Attributes:
        method: as the plan calls it.
        count: how many.
    """

    method: str
    settings: Settings
    job: Job
    count: int


class Costs:
    """Costs of steps on this device and, where one is named, on another.

    Args:
        gpu: a name of the table of devices, or "".
        again: measure this device again.

    Raises:
        KardError: there is no such GPU.
    """

    def __init__(self, gpu: str = "", again: bool = False) -> None:
        self.sheet = sheet_of(gpu) if gpu else None
        self._again = again
        self._rates: dict[tuple[str, bool, int], Rates] = {}
        self.own: OwnDevice | None = None

    def of(self, wanted: Wanted) -> tuple[Cost, Rates] | None:
        """The cost of a step, once, and the rates that its time rests on; None where no model of the kit computes."""
        s, sample = wanted.settings, sample_of(wanted.settings)
        work = work_of(wanted.job, s, sample)
        if work is None:
            return None
        step = wanted.job.step
        count = threads(s, step)
        self.own = own_device(count)
        shape = shape_of(work.model)
        told = cost(work, shape, step_memory(self.own, s, step), trains_in_bf16(shape.parameters))
        return told, self.rates(s, work, shape, sample, count)

    def there(self, told: Cost, rates: Rates) -> tuple[Cost, float]:
        """The cost on the other device, whose memory is another, and its seconds."""
        assert self.sheet is not None and self.own is not None
        bf16 = self.sheet.bf16 is not None and told.shape.parameters >= SMALL
        other = cost(told.work, told.shape, self.sheet.bytes, bf16)
        return other, other.projected(rates, self.own.sheet, self.sheet, bf16)

    def rates(self, s: Settings, work: Work, shape: ModelShape, sample: Sample, threads: int) -> Rates:
        """Measured once for a model with so many threads, at the lengths that its students have with passages."""
        key = work.model, shape.kind == "encoder", threads
        if key not in self._rates:
            if shape.kind == "encoder":
                source, target, batch = round(mean(sample.passage)), 0, s.reranker_part * (1 + s.pool)
            else:
                pairs = sample.training["KARD"]
                source, target = (round(mean(pair[i] for pair in pairs)) for i in (0, 1))
                batch = s.student_batch
            self._rates[key] = calibrated(threads, work.model, source, target, batch, PROMPTS, self._again)
        return self._rates[key]

    @property
    def measured(self) -> list[Rates]:
        return list(self._rates.values())


def cost_lines(wanted: Sequence[Wanted], gpu: str = "", again: bool = False) -> list[str]:
    """The costs of steps as lines of text; nothing is made but the calibration.

    Args:
        wanted: what is to do.
        gpu: name of a GPU to project to, or "".
        again: calibrate although there are rates of this device.

    Raises:
        KardError: no such GPU, or a model's configuration is not at hand.
    """
    costs = Costs(gpu, again)
    head = ["step", "method", "steps", "examples", "tokens", "FLOPs", "batch", "memory", "time here"]
    head += [f"batch on {costs.sheet.name}", "memory", "time"] if costs.sheet else []
    rows, here, there = [], 0.0, 0.0
    for one in wanted:
        found = costs.of(one)
        if found is None:
            rows.append([one.job.step, one.method, str(one.count), _otherwise(one)])
            continue
        told, rates = found
        seconds = one.count * told.seconds(rates)
        here += seconds
        rows.append([one.job.step, one.method, str(one.count), *_told(told), _hours(seconds)])
        if costs.sheet:
            other, projected = costs.there(told, rates)
            there += one.count * projected
            rows[-1] += [*_fit(other), _hours(one.count * projected)]
    rows.append(["all", "", str(sum(one.count for one in wanted)), *[""] * 5, _hours(here)])
    rows[-1] += ["", "", _hours(there)] if costs.sheet else []
    table = columns([[*row, *[""] * (len(head) - len(row))] for row in [head, *rows]], right=range(4, len(head)))
    return ["Costs, before anything is made:", "", *table, "", *_legend(wanted, costs)]


def _otherwise(wanted: Wanted) -> str:
    asked = wanted.job.step == "verdicts" and is_endpoint(wanted.settings.reader)
    return _OTHERWISE["rationales"] if asked else _OTHERWISE.get(wanted.job.step, "not reckoned")


def _told(told: Cost) -> list[str]:
    return [f"{told.examples:,}", _short(told.tokens), _short(told.flops), *_fit(told)]


def _fit(told: Cost) -> list[str]:
    if told.fit is None:
        return ["too large", "-"]
    parts = f" x {told.fit.accumulation}" if told.fit.accumulation > 1 else ""
    return [f"{told.fit.batch}{parts}{' c' if told.fit.checkpointing else ''}", size_text(round(told.fit.bytes))]


def _short(count: float) -> str:
    """Three digits and a power of a thousand: ``12.3 M``, ``4.56 P``."""
    for unit in ("", "k", "M", "G", "T", "P"):
        if count < 999.5:
            return f"{count:.3g} {unit}".strip()
        count /= 1000
    return f"{count:,.0f} E"


def _hours(seconds: float) -> str:
    return time_text(seconds) if seconds < 360_000 else f"{seconds / 3600:,.0f} h"


def _legend(wanted: Sequence[Wanted], costs: Costs) -> list[str]:
    samples = {one.settings.dataset: sample_of(one.settings) for one in wanted}
    lines = [
        "examples (texts, for an encoder), tokens, FLOPs: of one step, all epochs, without padding; time: of all",
        "steps in a row, on an idle machine. batch: examples in memory at a time x accumulated parts; c: with",
        "gradient checkpointing; too large: not one example goes in.",
    ]
    lines += [f"{name}: {'; '.join(sample.notes)}" for name, sample in samples.items()]
    if any(one.settings.filter for one in wanted):
        lines += ["The filter is taken to keep every rationale, so training costs that much at most."]
    lines += [_measured(rates) for rates in costs.measured]
    if costs.sheet:
        lines += _projection(costs.sheet, costs)
    if any(one.settings.preset == "paper" for one in wanted):
        lines += [f"our choice, as paper and code do not tell: {', '.join(our_choices())}"]
    return lines


def _measured(rates: Rates) -> str:
    arithmetic, reached = "bfloat16" if rates.bf16 else "float32", rates.share * rates.product / 1e9
    return (
        f"{rates.model} on {rates.device}: a training step reaches {reached:,.0f} GFLOP/s in {arithmetic}, "
        f"{100 * rates.share:.0f} % of a large product there ({rates.how}; {rates.measured}, torch {rates.torch})"
    )


def _projection(sheet: Sheet, costs: Costs) -> list[str]:
    of = "its own sheet" if costs.own and costs.own.sheet else "this device's own matrix product"
    peaks = f"{sheet.peak(True) / 1e12:g} TFLOP/s in training, {sheet.peak(False) / 1e12:g} in writing (float32)"
    return [
        f"{sheet.name}: projected from its sheet ({peaks}, {sheet.bandwidth:g} GB/s; {sheet.dated}, {sheet.source})",
        f"times the share of {of} that was measured here; good for the order of magnitude. Writing",
        "takes that much at least: all weights are read for every token, and launching a token is on no sheet.",
    ]
