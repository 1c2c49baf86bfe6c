"""Domain-adaptive pre-training (DAPT; the paper's Fig. 3): the base student reads text before RD or KARD.

T5 students are trained on span corruption, OPT students on the next token, as in their own pre-training. Everything
else (constant learning rate, whole checkpoints, resumption) is the students' own training loop.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal

from .chat_template import plain_prompt
from .dataset import DataSet
from .errors import KardError
from .mini import MiniSet
from .models import is_encoder_decoder, load_tokenizer
from .raw_rows import text_field, text_lines
from .records import json_rows
from .related import related_texts
from .student import Hyperparameters, epoch_orders, fit

Corpus = Literal["none", "knowledge base", "related"]
SENTINELS = 100
"""As many as T5 has."""


def corpus(data: DataSet | MiniSet, which: Corpus, text: str = "") -> list[str]:
    """The texts to read.

    ``knowledge base`` plays MedWiki, which is a part of the paper's own knowledge base: all passages as they are.
    ``related`` plays the PubMed abstracts: for a mini set see :mod:`kardlib.related`; otherwise what the user gives.

    Args:
        text: for a real set's ``related``: a folder or file, see :func:`read_texts`. A mini set takes its own.

    Raises:
        KardError: a real set's related text was not given, or cannot be read.
    """
    if which == "none":
        return []
    if which == "knowledge base":
        return [passage.text for passage in data.passages]
    mini = data if isinstance(data, MiniSet) else data.mini
    if mini is not None:
        return related_texts(mini.world)
    if not text:
        raise KardError(f"{data.name}: it has no related text of its own; -p dapt_text=FOLDER names one")
    return read_texts(Path(text))


def read_texts(path: Path) -> list[str]:
    """Texts of a file or of all files of a folder: ``.txt``, one text a line; ``.jsonl``, the field ``text``.

    Raises:
        KardError: there is no such file, it is neither of the two, or a row has no text (file, line and field).
    """
    path = path.expanduser()
    kinds = (".txt", ".jsonl")
    files = sorted(file for file in path.rglob("*") if file.suffix in kinds) if path.is_dir() else [path]
    if not files:
        raise KardError(f"{path}: it holds no .txt and no .jsonl file")
    texts: list[str] = []
    for file in files:
        if file.suffix not in kinds:
            raise KardError(f"{file}: a .txt or .jsonl file, or a folder of them, was expected")
        if file.suffix == ".txt":
            texts += text_lines(file)
        else:
            texts += [text_field(row, "text", f"{file}:{number}") for number, row in json_rows(file)]
    return texts


def adapt(
    base: str, texts: Sequence[str], hyper: Hyperparameters, seed: int, out: Path, work: Path
) -> list[dict[str, float]]:
    """Train all weights of a base model on text, one text a row; longer ones are cut into equal parts that fit.

    The loss is the mean negative log-likelihood per predicted token of each batch. Spans are drawn anew in each epoch.

    Args:
        base: name or folder of the base model.
        hyper: ``source_tokens`` is the longest part; ``target_tokens`` is not used, as no target is ever cut (span
            corruption's is about a quarter of its text).
        seed: of the order of the texts and of the spans.
        out: folder for the model and its tokenizer, a base model like any other.
        work: folder for checkpoints; a killed training goes on from there to the same weights.

    Returns:
        The loss curve: rows with ``step`` and ``loss``.

    Raises:
        KardError: there is no text, or the tokenizer has no sentinels.
    """
    tokenizer = load_tokenizer(base)
    seq2seq = is_encoder_decoder(base)
    start = [] if seq2seq else plain_prompt(tokenizer, "", hyper.source_tokens)
    room = hyper.source_tokens - (1 if seq2seq else len(start))  # for the end token, or for the start token
    parts = _parts(tokenizer, texts, room, ends=not seq2seq)
    if not parts:
        raise KardError(f"model {base}: there is no text to train it on")
    order = epoch_orders([len(part) for part in parts], hyper, seed)
    if seq2seq:
        marks, rng = sentinel_ids(tokenizer, parts, base), random.Random(f"spans-{seed}")
        rows = [_corrupted_row(parts[i], rng, marks, tokenizer.eos_token_id) for i in order]
    else:
        rows = [_causal_row(start, parts[i]) for i in order]
    return fit(base, rows, hyper, seed, out, work)


def span_corruption(
    ids: Sequence[int], rng: random.Random, sentinels: Sequence[int], density: float = 0.15, mean_span: float = 3.0
) -> tuple[list[int], list[int]]:
    """T5's objective: hide spans of a text behind sentinels; the target tells what each of them hides.

    ``a b c d e f`` becomes ``a <0> d e <1>`` and ``<0> b c <1> f <2>``, where the last sentinel marks the end. About
    ``density`` of the tokens are hidden, at least one and never all (unless there is but one), in spans of
    ``mean_span`` tokens on average. Unlike in T5's own code, a text may start with a span and need not end with one:
    there a passage short enough for a single span has always lost its last tokens and never any other.

    Args:
        ids: tokens of one text, one or more, without special tokens.
        sentinels: at least one more than there are spans; none of them in ``ids``.

    Returns:
        Input and target, both without an end token.

    Raises:
        ValueError: the text is empty, or there are too few sentinels.
    """
    if not ids:
        raise ValueError("an empty text cannot be corrupted")
    hidden = min(max(round(len(ids) * density), 1), max(len(ids) - 1, 1))
    kept = len(ids) - hidden
    count = min(max(round(hidden / mean_span), 1), hidden, kept + 1)  # one kept token between two spans
    if count >= len(sentinels):
        raise ValueError(f"{count} spans need {count + 1} sentinels, and there are {len(sentinels)}")
    spans = _split(hidden, count, rng)
    # one more on each side, taken off again: what comes before the first span and after the last may be empty
    gaps = _split(kept + 2, count + 1, rng)
    gaps[0], gaps[-1] = gaps[0] - 1, gaps[-1] - 1
    source, target, place = [], [], 0
    for gap, span, sentinel in zip(gaps, spans, sentinels, strict=False):
        source += [*ids[place : place + gap], sentinel]
        target += [sentinel, *ids[place + gap : place + gap + span]]
        place += gap + span
    return [*source, *ids[place:]], [*target, sentinels[count]]


def _split(total: int, count: int, rng: random.Random) -> list[int]:
    """``count`` whole numbers of one or more with that sum, each such list being equally likely."""
    cuts = [0, *sorted(rng.sample(range(1, total), count - 1)), total]
    return [after - before for before, after in zip(cuts, cuts[1:], strict=False)]


def sentinel_ids(tokenizer: Any, parts: Iterable[Sequence[int]], name: str = "") -> list[int]:
    """Ids that stand for hidden spans, in order: T5's ``<extra_id_0>``, ``<extra_id_1>``, … where there are such.

    The shipped tokenizer has none. Two-letter continuation pieces that no text of the corpus uses play them, ``##zz``
    first: text of the mini world is made of whole words, syllables and longer endings, so neither the base model nor
    any student meets these pieces anywhere else, and no meaning is overwritten. Rows added to the embedding would
    serve as well, but then an adapted model would have another vocabulary and another tokenizer than its base, and
    the students that the paper compares would not be of one shape.

    Args:
        parts: token ids of the corpus.
        name: of the model, for the error.

    Raises:
        KardError: the tokenizer has neither.
    """
    vocabulary = tokenizer.get_vocab()
    own = [f"<extra_id_{i}>" for i in range(SENTINELS)]
    if own[0] in vocabulary:
        return [vocabulary[token] for token in own if token in vocabulary]
    used = {i for part in parts for i in part}
    pieces = sorted((token for token in vocabulary if re.fullmatch("##[a-z]{2}", token)), reverse=True)
    free = [vocabulary[token] for token in pieces if vocabulary[token] not in used]
    if len(free) < SENTINELS:
        raise KardError(f"model {name}: its tokenizer has no <extra_id_0> and too few unused pieces to play sentinels")
    return free[:SENTINELS]


def _parts(tokenizer: Any, texts: Sequence[str], size: int, ends: bool) -> list[list[int]]:
    """Token ids of each text, with an end token if asked for, in parts of about equal length, ``size`` at most."""
    parts: list[list[int]] = []
    for ids in tokenizer(list(texts), add_special_tokens=False, verbose=False).input_ids if texts else []:
        if not ids:
            continue
        ids = [*ids, tokenizer.eos_token_id] if ends else ids
        count = -(-len(ids) // size)
        cuts = [len(ids) * i // count for i in range(count + 1)]
        parts += [ids[a:b] for a, b in zip(cuts, cuts[1:], strict=False)]
    return parts


def _corrupted_row(part: list[int], rng: random.Random, sentinels: Sequence[int], end: int) -> dict[str, Any]:
    source, target = span_corruption(part, rng, sentinels)
    return {"input_ids": [*source, end], "labels": [*target, end]}


def _causal_row(start: list[int], part: list[int]) -> dict[str, Any]:
    """Every token is predicted but the first, before which there is only padding."""
    ids = start + part
    return {"input_ids": ids, "labels": [-100] * max(len(start), 1) + part[0 if start else 1 :]}
