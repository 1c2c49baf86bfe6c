"""Is an index sound, and is it the index of these passages? Asked after each build, and by ``kard index doctor``.

Nothing is taken from the index that can be had from the passages: scores are computed again from texts, and the only
statistics trusted are those that the first checks compare.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from .analysis import Analysis
from .errors import KardError
from .index import Index
from .index_manifest import Manifest, check_files, check_settings, check_source, length_of, read_manifest, short
from .passage_source import PassageSource, digest_of

_TOLERANCE = 1e-4
_NOUNS = 20


class Finding(NamedTuple):
    """One check: its name, whether all is well, and what was seen, in one line."""

    name: str
    fine: bool
    line: str


def index_doctor(
    folder: Path | str,
    source: PassageSource,
    analysis: Analysis | None = None,
    k1: float | None = None,
    b: float | None = None,
    lengths: str | None = None,
    sample: int = 40,
    seed: int = 0,
    whole: bool = True,
) -> list[Finding]:
    """Examine an index.

    Args:
        folder: the index.
        source: the passages that it should be of.
        analysis: what it should have been built with, like ``k1``, ``b`` and ``lengths``; None expects nothing.
        sample: passages that are searched for.
        whole: read every passage and every byte of the index to compare their hashes; else trust the source's own
            hash and compare the files' sizes and ends.

    Returns:
        One finding a check, in order. Where the index cannot be opened, the searches are left out.
    """
    folder = Path(folder)
    try:
        manifest = read_manifest(folder)
    except KardError as error:
        return [Finding("manifest", False, str(error))]
    findings = [
        _tried("settings", _settings(manifest), check_settings, folder, manifest, analysis, k1, b, lengths),
        _tried("files", f"{len(manifest.files)} files, {manifest.size / 1e6:,.1f} MB", check_files, folder, manifest,
               whole),
        _tried("passages", f"{manifest.passages:,}, hash {manifest.digest[:12]}", check_source, folder, manifest,
               source),
    ]  # fmt: skip
    if whole:
        findings.append(_texts(manifest, source))
    if all(finding.fine for finding in findings):
        index = Index.open(folder, source)
        places = np.random.default_rng(seed).choice(len(index), min(sample, len(index)), replace=False)
        findings += [_themselves(index, sorted(places.tolist())), _inflected(index, places.tolist())]
        findings.append(_ties(index, places.tolist()))
    return findings


def _settings(manifest: Manifest) -> str:
    analysis = manifest.analysis
    return (
        f"k1 {manifest.k1}, b {manifest.b}, {manifest.variant}, lengths {manifest.lengths}, "
        f"{len(analysis.stop_words)} stop words, stemmer {analysis.stemmer}, pattern {short(analysis.token_pattern)}"
    )


def _tried(name: str, line: str, check: object, *args: object) -> Finding:
    try:
        check(*args)
    except KardError as error:
        return Finding(name, False, str(error))
    return Finding(name, True, line)


def _texts(manifest: Manifest, source: PassageSource) -> Finding:
    """Whether the texts are those of the index; a source's own hash may be older than its texts."""
    try:
        digest = digest_of(source)
    except KardError as error:
        return Finding("texts", False, str(error))
    if digest != manifest.digest:
        return Finding("texts", False, f"they hash to {digest[:12]}, the index is of {manifest.digest[:12]}")
    return Finding("texts", True, "hashed again, the same")


def bm25_of(index: Index, query: str, place: int) -> float:
    """BM25 of one passage for a query, from its text: the sum of idf tf / (tf + k1 (1 - b + b |d| / mean)).

    Only document frequencies and the mean length come from the index; float64.
    """
    manifest, terms = index.manifest, index.analysis.terms
    held, total = terms(index.passages[place].text), 0.0
    length = float(length_of(manifest.lengths)(np.array([len(held)]))[0])
    frequencies = Counter(held)
    for term in terms(query):
        if tf := frequencies[term]:
            n = index.frequency(term)
            idf = math.log1p((manifest.passages - n + 0.5) / (n + 0.5))
            total += idf * tf / (tf + manifest.k1 * (1 - manifest.b + manifest.b * length / manifest.mean_length))
    return total


def _themselves(index: Index, places: list[int]) -> Finding:
    """Each sampled passage, searched by its text, is its own best hit, or what beats it does so by rights."""
    outscored, wrong = 0, []
    texts = [index.passages[place].text for place in places]
    for place, text, (found, scores) in zip(places, texts, index.search_many(texts, 1), strict=True):
        own, best = bm25_of(index, text, place), bm25_of(index, text, int(found[0]))
        seen = float(index.score(text, [place])[0])
        sound = math.isclose(own, seen, rel_tol=_TOLERANCE) and math.isclose(best, scores[0], rel_tol=_TOLERANCE)
        if not sound or best < own * (1 - _TOLERANCE):
            wrong.append(index.passages[place].id)
        elif found[0] != place and index.passages[int(found[0])].text != text:
            outscored += 1
    if wrong:
        line = f"{len(wrong)} of {len(places)} sampled passages do not find themselves by their text, or not with the "
        return Finding("self", False, f"{line}score that follows from it (the first: {wrong[0]})")
    but = f", {outscored} outscored by a passage that has their words more often" if outscored else ""
    return Finding("self", True, f"{len(places)} sampled passages find themselves, scores as computed from texts{but}")


def _inflected(index: Index, places: list[int]) -> Finding:
    """The plural of a word finds what the word finds."""
    if index.analysis.stemmer == "none":
        return Finding("inflection", True, "no stemmer: an inflected word finds only itself")
    words = list(dict.fromkeys(_nouns(index, places)))[:_NOUNS]
    missed = [word for word in words if index.search(f"{word}s", 10) != index.search(word, 10)]
    if len(missed) > len(words) // 4:
        return Finding("inflection", False, f"{len(missed)} of {len(words)} words are not found by their plural "
                       f"(the first: {missed[0]}s)")  # fmt: skip
    return Finding(
        "inflection", True, f"{len(words) - len(missed)} of {len(words)} sampled words are found by a plural"
    )


def _nouns(index: Index, places: list[int]) -> Iterator[str]:
    """Words that take a plain s: plain letters, four or more, ending in none of s, x, z, y, h."""
    for place in places:
        for word in index.analysis.words(index.passages[place].text):
            plain = word.isascii() and word.isalpha() and len(word) > 3 and word[-1] not in "sxzyheg"
            if plain and index.analysis.term(word) == word and not word.endswith(("ed", "al", "ic", "ate")):
                yield word


def _ties(index: Index, places: list[int]) -> Finding:
    """Equal scores stand in the order of the passages, which is that of their ids, in every list of hits."""
    ties = 0
    for place in places:
        text = index.passages[place].text
        for query in dict.fromkeys(index.analysis.words(text)[:3]):
            hits = index.search(query, 100)
            for one, other in zip(hits, hits[1:], strict=False):
                if one.score < other.score or (one.score == other.score and one.index >= other.index):
                    return Finding("ties", False, f"query {query}: place {other.index} stands after {one.index}")
                ties += one.score == other.score
        if index.passages[place].id < index.passages[max(0, place - 1)].id:
            return Finding("ties", False, f"passage {index.passages[place].id}: the passages are not sorted by id")
    return Finding("ties", True, f"{ties} pairs of equal scores, all in the order of the ids")
