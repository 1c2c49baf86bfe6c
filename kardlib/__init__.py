"""KARD, Knowledge-Augmented Reasoning Distillation: method, baselines and records in one small package."""

__version__ = "0.2.0"
