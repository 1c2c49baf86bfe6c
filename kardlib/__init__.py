"""KARD, Knowledge-Augmented Reasoning Distillation: method, baselines and records in one small package."""

from . import sources as sources  # first: it reads the modules as they are when the package is imported

__version__ = "0.2.0"
