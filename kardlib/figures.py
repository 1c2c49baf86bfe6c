"""The kit's figures: one style, colours that the colour-blind can tell apart, saved beside the run's record."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO

import matplotlib.pyplot as plt
import numpy as np
import PIL.Image
from IPython.display import Image
from matplotlib.figure import Figure

from .runs import Run
from .store import atomic_write

# Okabe and Ito's palette.
COLOURS = {
    "blue": "#0072B2", "orange": "#E69F00", "green": "#009E73", "vermilion": "#D55E00", "sky": "#56B4E9",
    "purple": "#CC79A7", "grey": "#7F7F7F",
}  # fmt: skip
MARKERS = "osD^vPX"
plt.rcParams.update(
    {
        "figure.dpi": 80, "savefig.dpi": 160, "font.size": 10, "axes.spines.top": False, "axes.spines.right": False,
        "axes.grid": True, "grid.alpha": 0.3, "axes.axisbelow": True, "legend.frameon": False, "axes.titlesize": 10,
        "axes.prop_cycle": plt.cycler(color=list(COLOURS.values())),
    }
)  # fmt: skip
Whisker = tuple[float, float, float]
"""A value with the lower and the upper end of its interval."""


def save(run: Run, figure: Figure, name: str) -> None:
    """Write a figure to ``<run folder>/figures/<name>.png``; the notebook shows it too."""
    with atomic_write(run.folder / "figures" / f"{name}.png", "wb") as file:
        figure.savefig(file, format="png", bbox_inches="tight")


def compact(figure: Figure) -> Image:
    """The figure as a notebook's output in 64 colours, about a third as large: for notebooks with many panels.

    The figure is closed, or the notebook would show it a second time.
    """
    drawn, small = BytesIO(), BytesIO()
    figure.savefig(drawn, format="png", bbox_inches="tight", dpi=plt.rcParams["figure.dpi"])
    PIL.Image.open(drawn).convert("RGB").quantize(64).save(small, "PNG", optimize=True)
    plt.close(figure)
    return Image(small.getvalue(), format="png")


def bars(values: Mapping[str, float], xlabel: str, ylabel: str) -> Figure:
    """One bar a name, its value written on top."""
    figure, axes = plt.subplots(figsize=(5.5, 2.6))
    drawn = axes.bar(list(values), list(values.values()), color=COLOURS["blue"], width=0.6)
    axes.bar_label(drawn, fmt="%.0f", padding=2)
    axes.set(xlabel=xlabel, ylabel=ylabel)
    return figure


def lines(
    x: Iterable[float], curves: Mapping[str, Sequence[float]], xlabel: str, ylabel: str, log: bool = False
) -> Figure:
    """One line a name, told apart by colour and by marker."""
    figure, axes = plt.subplots(figsize=(5.5, 2.8), layout="constrained")
    places = list(x)
    for marker, (name, values) in zip(MARKERS, curves.items(), strict=False):
        axes.plot(places[: len(values)], values, marker=marker, markersize=4, linewidth=1.4, label=name)
    if log:
        axes.set_xscale("log")
    if log or len(places) <= 6:
        axes.set_xticks(places, [f"{round(place, 2):g}" for place in places])
    axes.set(xlabel=xlabel, ylabel=ylabel)
    figure.legend(fontsize=8, ncols=4, loc="outside upper center")  # where no line can be
    return figure


def grouped_bars(
    groups: Sequence[str], series: Mapping[str, Sequence[Whisker]], ylabel: str, xlabel: str = ""
) -> Figure:
    """Bars side by side in each group, with intervals as whiskers."""
    figure, axes = plt.subplots(figsize=(6, 2.8), layout="constrained")
    width = 0.8 / len(series)
    for number, (name, values) in enumerate(series.items()):
        middle = np.array([value for value, _, _ in values])
        ends = np.array([[value - low, high - value] for value, low, high in values]).T
        places = np.arange(len(groups)) + (number - (len(series) - 1) / 2) * width
        hatch = ("", "//", "..", "xx")[number % 4]
        axes.bar(places, middle, width * 0.92, yerr=np.maximum(ends, 0), capsize=2, label=name, hatch=hatch)
    axes.set_xticks(range(len(groups)), groups)
    axes.set(xlabel=xlabel, ylabel=ylabel)
    figure.legend(fontsize=8, ncols=3, loc="outside upper center")  # above the title, where no bar can be
    return figure


def dots(
    names: Sequence[str], here: Sequence[Whisker], paper: Sequence[float | None], chance: float | None = None
) -> Figure:
    """The paper's numbers and ours in two panels side by side, never on one axis."""
    figure, panels = plt.subplots(1, 2, figsize=(8, 0.38 * len(names) + 1.0), sharey=True)
    rows = np.arange(len(names))[::-1]
    known = [(row, value) for row, value in zip(rows, paper, strict=True) if value is not None]
    panels[0].plot([v for _, v in known], [r for r, _ in known], "D", color=COLOURS["grey"])
    panels[0].set(title="paper", xlabel="accuracy (%)")
    ends = np.array([[value - low, high - value] for value, low, high in here]).T
    values = [value for value, _, _ in here]
    panels[1].errorbar(values, rows, xerr=np.maximum(ends, 0), fmt="o", capsize=3, color=COLOURS["blue"])
    panels[1].set(title="here, 95 % interval", xlabel="accuracy (%)")
    if chance is not None:
        panels[1].axvline(chance, color=COLOURS["vermilion"], linestyle=":", label="chance")
        panels[1].legend(fontsize=8)
    panels[0].set_yticks(rows, names)
    figure.tight_layout()
    return figure


def stacked(
    names: Sequence[str], parts: Mapping[str, Sequence[float]], xlabel: str, title: str, beside: bool = False
) -> Figure:
    """One lying bar a name, made of parts; ``beside`` puts the legend to the right of the bars."""
    figure, axes = plt.subplots(figsize=(6, 0.5 * len(names) + 1.2))
    left = np.zeros(len(names))
    for (part, values), colour in zip(parts.items(), COLOURS.values(), strict=False):
        axes.barh(range(len(names)), values, left=left, color=colour, label=part)
        left += np.asarray(values)
    axes.set_yticks(range(len(names)), names)
    axes.set(xlabel=xlabel, title=title)
    axes.legend(**{"loc": "upper left", "bbox_to_anchor": (1, 1)} if beside else {})
    return figure


def word_bars(words: Sequence[tuple[str, float]]) -> Figure:
    """For each token of a question, in their order from left to right, how much it adds to a difference of scores."""
    figure, axes = plt.subplots(figsize=(0.2 * len(words) + 1, 2.6))
    colours = [COLOURS["blue"] if value >= 0 else COLOURS["vermilion"] for _, value in words]
    axes.bar(range(len(words)), [value for _, value in words], color=colours)
    axes.axhline(0, color="black", linewidth=0.8)
    axes.set_xticks(range(len(words)), [word for word, _ in words], rotation=90, fontsize=7)
    axes.set(ylabel="difference of cosines")
    return figure


def intervals(
    names: Sequence[str], values: Sequence[Whisker], xlabel: str, marks: Mapping[str, float] | None = None
) -> Figure:
    """One dot with its interval a name, one below the other; ``marks`` are upright lines."""
    figure, axes = plt.subplots(figsize=(6.5, 0.36 * len(names) + 1.0))
    rows = np.arange(len(names))[::-1]
    ends = np.array([[value - low, high - value] for value, low, high in values]).T
    axes.errorbar([v for v, _, _ in values], rows, xerr=np.maximum(ends, 0), fmt="o", capsize=3, color=COLOURS["blue"])
    colours = (COLOURS["vermilion"], COLOURS["green"], COLOURS["grey"])
    for (label, value), colour, style in zip((marks or {}).items(), colours, (":", "--", "-."), strict=False):
        axes.axvline(value, color=colour, linestyle=style, label=label)
    axes.set_yticks(rows, names)
    axes.set(xlabel=xlabel)
    if marks:
        axes.legend(fontsize=8)
    return figure


@dataclass(frozen=True)
class Curve:
    """Points of one curve.

    Attributes:
        style: ``-`` or ``--`` for a line, ``o`` for dots.
        ends: lower and upper end of the interval of each value, drawn as whiskers; none where it is empty.
        colour: one of ``COLOURS``.
    """

    x: Sequence[float] | np.ndarray
    y: Sequence[float] | np.ndarray
    style: str = "-"
    ends: Sequence[tuple[float, float]] = ()
    colour: str = "blue"


def panels(
    parts: Mapping[str, Mapping[str, Curve]],
    xlabels: Sequence[str],
    ylabel: str,
    xlog: bool = False,
    ylog: bool = False,
) -> Figure:
    """Curves in panels side by side that share the upright axis and the legend.

    Args:
        parts: the curves of each panel by their names, the panels by their titles. Curves of one name have one legend
            line; a name that begins with ``_`` has none.
        xlabels: one for each panel.
    """
    figure, row = plt.subplots(1, len(parts), figsize=(0.6 + 3.1 * len(parts), 2.9), sharey=True, squeeze=False)
    handles = {}
    for axes, (title, curves), xlabel in zip(row[0], parts.items(), xlabels, strict=True):
        for name, one in curves.items():
            ends = np.abs(np.array(one.ends).T - np.asarray(one.y)) if len(one.ends) else None
            drawn = axes.errorbar(
                one.x, one.y, ends, fmt=one.style, markersize=4, linewidth=1.4, capsize=2, color=COLOURS[one.colour]
            )
            if not name.startswith("_"):
                handles.setdefault(name, drawn)
        axes.set(title=title, xlabel=xlabel, xscale="log" if xlog else "linear", yscale="log" if ylog else "linear")
    row[0][0].set_ylabel(ylabel)
    figure.legend(handles.values(), handles.keys(), fontsize=8, loc="upper left", bbox_to_anchor=(1.0, 0.95))
    figure.tight_layout()
    return figure
