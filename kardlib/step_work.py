"""From a step of the plan to the work that it is: which model, how many examples, how long."""

from __future__ import annotations

from .endpoint_teacher import is_endpoint
from .jobs import Job
from .keys import WIDTH
from .methods import TRAININGS, method
from .model_shape import shape_of
from .presets import Settings
from .sample_lengths import Lengths, Sample
from .step_costs import Work

PROMPTS, READ, ENCODED = 64, 128, 128
"""Prompts that a student answers at a time, that the filter's reader does, and texts that an encoder takes."""
_FILTER_TOKENS = 16
_VOTES = 5
_OPTIONS = 4
_SPAN_SHARE = 0.25
"""Target tokens of span corruption, of those of its text."""
SEARCHES = ("pools", "rankings")
"""Steps that search only: no model computes."""


def work_of(job: Job, s: Settings, sample: Sample) -> Work | None:
    """The work of a step; None where no model computes (searching, asking a teacher) or it is not reckoned."""
    step, a, n = job.step, job.arguments, sample.questions
    if step == "student":
        return _student(s, sample, a["training"])
    if step == "verdicts":
        if is_endpoint(s.reader):
            return None
        lengths = tuple((source, _FILTER_TOKENS) for source in sample.judged)
        return Work("write", s.reader, lengths, n["train"] * s.l, READ)
    if step in ("predictions", "controls"):
        return _answers(s, sample, a["name"], a.get("decoding", "greedy"), n[_split(a)])
    if step == "reranker":
        return _reranker(s, sample)
    if step in ("reranked", "untrained"):
        return _reranked(s, sample, n[_split(a)])
    if step == "adapted" and sample.passages and s.dapt == "knowledge base":
        lengths = tuple((p, max(1, round(_SPAN_SHARE * p))) for p in sample.passage)
        examples, batch = sample.passages * s.dapt_epochs, s.student_batch
        return Work("train", s.student, lengths, examples, batch, part=batch)  # taken at once, as RAG's
    if step == "rag":
        own = _student(s, sample, "Reasoning Distillation")
        longer = tuple(
            (source + sample.passage[i % len(sample.passage)], t) for i, (source, t) in enumerate(own.lengths)
        )
        batch = own.batch * s.k
        return Work("train", s.student, longer, own.examples * s.k, batch, unit=s.k, part=batch)
    return None


def _split(arguments: dict[str, object]) -> str:
    return "test" if arguments.get("split", "test") == "test" else "dev"


def _student(s: Settings, sample: Sample, training: str) -> Work:
    """One example a rationale, as if the filter kept them all; as many where the answer alone is learned."""
    examples = sample.questions["train"] * s.l * s.student_epochs
    assert training in TRAININGS
    limits = {"most": s.student_part, "checkpointing": s.student_checkpointing, "trained": _trained(s)}
    return Work("train", s.student, sample.training[training], examples, s.student_batch, **limits)


def _trained(s: Settings) -> int:
    """Parameters of a student's low-rank updates; 0 where all weights are trained."""
    if not s.student_lora:
        return 0
    from .student_lora import Lora, lora_parameters

    return lora_parameters(shape_of(s.student), Lora())


def _answers(s: Settings, sample: Sample, name: str, decoding: str, questions: int) -> Work:
    row = method(name)
    lengths = sample.asked.get(name) or sample.asked["KARD (BM25)"]
    examples = questions * (s.k if row.test_query == "dense" else 1)
    samples = 1 if decoding == "greedy" else _VOTES
    options = _OPTIONS if s.answers == "scored" and decoding == "greedy" else 0
    return Work("write", s.student, lengths, examples, PROMPTS, samples, options)


def _reranker(s: Settings, sample: Sample) -> Work:
    """Texts of a row: the question and the passages of its pool; a cross-encoder reads them in pairs."""
    rows, pairs = sample.questions["train"] * s.l * s.reranker_epochs, _pairs(sample)
    if s.reranker_form == "cross-encoder":
        lengths, unit = pairs, s.pool
    else:
        lengths, unit = _texts(sample, s.pool), 1 + s.pool
    memory = {"unit": unit, "part": s.reranker_part * unit, "chunk": s.reranker_chunk}
    return Work("train", s.encoder, lengths, rows * unit, s.reranker_batch * unit, **memory, sorted=False)


def _reranked(s: Settings, sample: Sample, questions: int) -> Work:
    """Every candidate is read: once with late interaction, with each question by a cross-encoder."""
    candidates = questions * max(WIDTH, s.kappa_star)
    if s.reranker_form == "cross-encoder":
        return Work("encode", s.encoder, _pairs(sample), candidates, ENCODED)
    once = min(candidates, sample.passages or candidates)
    return Work("encode", s.encoder, _texts(sample, max(1, round(once / questions))), once + questions, ENCODED)


def _texts(sample: Sample, passages: int) -> Lengths:
    """Queries and so many passages for each."""
    count = len(sample.passage)
    lengths = []
    for i, query in enumerate(sample.query):
        lengths += [(query, 0), *((sample.passage[(i * passages + j) % count], 0) for j in range(min(passages, 20)))]
    return tuple(lengths)


def _pairs(sample: Sample) -> Lengths:
    return tuple((q + sample.passage[i % len(sample.passage)], 0) for i, q in enumerate(sample.query))
