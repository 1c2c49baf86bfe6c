"""The length of a passage as Lucene remembers it: one byte, so three quarters of the lengths share one with others.

Lucene (``SmallFloat.intToByte4``) keeps lengths below 24 as they are. Of what is above 24 it keeps the four highest
bits, so lengths are exact up to 40 and then fall to the next of 42, 44, ..., 56, 60, 64, ... The score uses this
length; the mean length that it is divided by is exact.
"""

from __future__ import annotations

import numpy as np

from .errors import KardError

_FREE, _BITS = 24, 4


def lossy(lengths: np.ndarray) -> np.ndarray:
    """Lengths through Lucene's byte and back.

    Args:
        lengths: terms of each passage, any shape, integers from 0 to 2**31 - 1.

    Returns:
        int64 of the same shape, never above ``lengths``.

    Raises:
        KardError: a length is negative, or they are no integers.
    """
    lengths = np.asarray(lengths)
    if not np.issubdtype(lengths.dtype, np.integer) or (lengths.size and lengths.min() < 0):
        raise KardError("lengths of passages: integers from 0 were expected")
    above = np.maximum(lengths.astype(np.int64) - _FREE, 0)
    # frexp's exponent is the number of bits; a float64 holds 31 of them exactly.
    dropped = np.maximum(np.frexp(above.astype(np.float64))[1] - _BITS, 0)
    return np.minimum(lengths, _FREE) + (above >> dropped << dropped)
