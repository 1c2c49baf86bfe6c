"""How the text of a document becomes passages: a rule as data, kept in the manifest of the knowledge base."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from pydantic import Field, model_validator

from .records import Record


class PassageRule(Record):
    """One way of cutting documents. Every passage is the title, a full stop, and a piece of the text.

    Attributes:
        kind: ``whole``, a document is a passage and keeps its id; ``paragraphs``, each line of the text is one (the
            authors' manner on Wikipedia); ``windows``, each ``words`` words are one, whatever the lines.
        words: words of a window.
        min_words: pieces with fewer words are dropped; a document's first window is kept however short it is.
    """

    kind: Literal["whole", "paragraphs", "windows"]
    words: int = Field(default=0, ge=0)
    min_words: int = Field(default=0, ge=0)

    @model_validator(mode="after")
    def _words_belong_to_windows(self) -> PassageRule:
        if (self.kind == "windows") != (self.words > 0):
            raise ValueError("words: windows need a number of words above 0, and nothing else takes one")
        return self

    def cut(self, title: str, text: str) -> Iterator[str]:
        """The passages of one document, in its order; none where the text is blank."""
        title = f"{title}. " if title else ""
        for piece in self._pieces(text):
            yield title + piece

    def _pieces(self, text: str) -> Iterator[str]:
        if self.kind == "windows":
            words = text.split()
            for start in range(0, len(words), self.words):
                window = words[start : start + self.words]
                if start == 0 or len(window) >= self.min_words:
                    yield " ".join(window)
            return
        lines = [text] if self.kind == "whole" else text.split("\n")
        for line in lines:
            if line.strip() and len(line.split()) >= self.min_words:
                yield line.strip()

    def __str__(self) -> str:
        if self.kind == "whole":
            return "each document is a passage"
        if self.kind == "paragraphs":
            return f"each line of at least {self.min_words} words is a passage"
        return f"each {self.words} words are a passage, of at least {self.min_words} where it is not the first"


WHOLE = PassageRule(kind="whole")
"""Rows that are passages already: abstracts, facts, a set's own evidence."""
PARAGRAPHS = PassageRule(kind="paragraphs", min_words=10)
"""The authors' manner. The bound is ours: it drops headings and list items; what theirs was is not known."""
WINDOWS = PassageRule(kind="windows", words=100, min_words=20)
"""Passages of even length, of which the measured index of Simple Wikipedia is built."""
RULES = {rule.kind: rule for rule in (WHOLE, PARAGRAPHS, WINDOWS)}
