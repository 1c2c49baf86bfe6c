"""Lucene's lossy lengths against their definition, bit by bit."""

from __future__ import annotations

import numpy as np
import pytest

from kardlib.errors import KardError
from kardlib.lucene_lengths import lossy


def _to_byte(length: int) -> int:
    """The definition: 24 free values, then three bits of mantissa and five of exponent, the leading one left out."""
    if length < 24:
        return length
    above = length - 24
    if above < 8:
        return 24 + above
    shift = above.bit_length() - 4
    return 24 + ((above >> shift) & 7 | (shift + 1) << 3)


def _from_byte(byte: int) -> int:
    if byte < 24:
        return byte
    mantissa, shift = (byte - 24) & 7, ((byte - 24) >> 3) - 1
    return 24 + (mantissa if shift < 0 else (mantissa | 8) << shift)


def test_lossy_is_to_the_byte_and_back() -> None:
    lengths = np.concatenate([np.arange(5000), np.random.default_rng(0).integers(0, 2**31, 2000), [2**31 - 1]])
    there = [_to_byte(int(n)) for n in lengths]
    assert max(there) == 255
    assert lossy(lengths).tolist() == [_from_byte(byte) for byte in there]


def test_every_byte_stands_for_a_length_that_it_keeps() -> None:
    kept = np.array([_from_byte(byte) for byte in range(256)])
    assert (np.diff(kept) > 0).all()
    assert (lossy(kept) == kept).all()


def test_short_lengths_are_exact_and_no_length_grows() -> None:
    lengths = np.arange(100_000, dtype=np.int32)
    out = lossy(lengths)
    assert (out[:41] == lengths[:41]).all() and out[41] == 40
    assert (out <= lengths).all() and (np.diff(out) >= 0).all()
    assert (lengths - out <= lengths / 8).all()


@pytest.mark.parametrize("lengths", [np.array([3, -1]), np.array([1.5])])
def test_what_is_no_length_is_refused(lengths: np.ndarray) -> None:
    with pytest.raises(KardError, match="lengths of passages"):
        lossy(lengths)


def test_no_lengths_give_no_lengths() -> None:
    assert lossy(np.zeros((0,), dtype=np.int64)).shape == (0,)
