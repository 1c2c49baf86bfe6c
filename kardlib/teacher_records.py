"""What passes between the kit and a teacher behind an endpoint: what is asked, and each sampled completion.

A sample is paid for once. Its identity is the teacher's alias, the model, the messages, the sampling parameters and
the sample index, and nothing else: not the URL, not the question's id, not the code.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any, Literal

from pydantic import Field

from .records import Record


class Message(Record):
    """One turn of a conversation."""

    role: Literal["system", "user", "assistant"]
    content: str


class Sampling(Record):
    """How the teacher's model draws a completion. The default temperature is the API's own, as in the authors' code."""

    temperature: float = Field(default=1.0, ge=0, le=2)
    top_p: float = Field(default=1.0, gt=0, le=1)
    max_tokens: int = Field(default=512, ge=1)
    stop: tuple[str, ...] = ()


class Ask(Record):
    """One question as it is put to a teacher.

    Attributes:
        teacher: an alias that the user gives to the endpoint; a new port or host re-bills nothing.
        model: the name that the server knows.
        question_id: a label for reports; not part of the identity.
        purpose: ``rationale`` (gold answer shown), ``oracle`` (withheld) or ``reader`` (question and rationale shown);
            a label for reports; not part of the identity.
    """

    teacher: str = Field(min_length=1)
    model: str = Field(min_length=1)
    messages: tuple[Message, ...] = Field(min_length=1)
    sampling: Sampling = Sampling()
    question_id: str = Field(min_length=1)
    purpose: Literal["rationale", "oracle", "reader"] = "rationale"

    @property
    def identity(self) -> str:
        """Hex digest of what decides the completion, the sample index aside."""
        parts: dict[str, Any] = self.model_dump(mode="json", include={"teacher", "model", "messages", "sampling"})
        text = json.dumps(parts, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()


class Sample(Record):
    """One completion: the ``index``-th sample of an :class:`Ask`.

    Attributes:
        finish_reason: as the server said it; anything but ``stop`` is kept but not counted as good.
        text: the raw completion, unchanged; it may be empty.
        prompt_tokens: as the server billed it, shared evenly where one request brought several samples; 0 unknown.
        source: ``online``, ``batch`` or ``import``.
        arrived: seconds since the epoch.
    """

    index: int = Field(ge=0)
    text: str
    finish_reason: str
    prompt_tokens: int = 0
    completion_tokens: int = 0
    source: Literal["online", "batch", "import"] = "online"
    arrived: float = 0.0

    @property
    def good(self) -> bool:
        """Whether the completion came to its own end and says something."""
        return self.finish_reason == "stop" and bool(self.text.strip())
