"""The curves of a reranker's training as a figure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from .figures import COLOURS, MARKERS


def curves_figure(curve: Sequence[Mapping[str, float]], held: Sequence[Mapping[str, float]]) -> Figure:
    """Left, the training loss and Eq. 3 on the held-out questions (nats); right, hits@k on these (%).

    Args:
        curve: rows with ``step`` and ``loss``, as the trainer logs them: means over ten steps.
        held: rows of :func:`kardlib.reranker_curves.held_out_curve`.
    """
    figure, (left, right) = plt.subplots(1, 2, figsize=(8, 2.9), layout="constrained")
    steps = [row["step"] for row in held]
    left.plot([r["step"] for r in curve], [r["loss"] for r in curve], color=COLOURS["grey"], label="loss in training")
    left.plot(steps, [r["kl"] for r in held], "o-", color=COLOURS["blue"], markersize=4, label="KL, held out")
    left.set(xlabel="step", ylabel="nats", title="Eq. 3")
    hits = [name for name in held[0] if name.startswith("hits@")] if held else []
    for name, marker, colour in zip(hits, MARKERS, COLOURS.values(), strict=False):
        values = [row[name] for row in held]
        right.plot(steps, values, marker=marker, color=colour, markersize=4, linewidth=1.4, label=name)
    right.set(xlabel="step", ylabel="questions with a hit (%)", title="held-out training questions")
    left.legend(fontsize=8)
    if hits:
        right.legend(fontsize=8, ncols=2)
    return figure
