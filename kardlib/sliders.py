"""Sliders for whoever has the notebook open, a fixed picture for a run that nobody watches."""

from __future__ import annotations

from collections.abc import Callable

from IPython import get_ipython
from IPython.display import display
from matplotlib.figure import Figure

from .errors import KardError
from .figures import compact

Range = tuple[int, int, int]
"""Least, most and first value of a slider."""


def watched() -> bool:
    """Whether a front end with widgets asked for the running cell: those name the cell, headless clients do not."""
    kernel = getattr(get_ipython(), "kernel", None)
    return kernel is not None and "cellId" in kernel.get_parent("shell").get("metadata", {})


def show(draw: Callable[..., Figure], **ranges: Range) -> None:
    """Draw a figure of some whole numbers, with a slider for each where somebody can move it.

    Args:
        draw: takes the numbers by name; a KardError of it is told in one line in the picture's place.
        ranges: by the name of the number; a first value beyond the range widens it.
    """

    def drawn(**values: int) -> None:
        try:
            figure = draw(**values)
        except KardError as error:
            print(error)
        else:
            display(compact(figure))

    if not watched():
        drawn(**{name: first for name, (_, _, first) in ranges.items()})
        return
    from ipywidgets import IntSlider, interact

    sliders = {
        name: IntSlider(first, min(low, first), max(high, first), description=name, continuous_update=False)
        for name, (low, high, first) in ranges.items()
    }
    interact(drawn, **sliders)
