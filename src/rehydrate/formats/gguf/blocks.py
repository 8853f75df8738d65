"""Blocks of quantised numbers → float32. Loads numpy; imported only when such a tensor's bytes are asked for.

A block is a few scales and, packed, the numbers that they scale. Bits of one byte belong to numbers that lie a
group apart: in Q4_0 byte i holds the numbers i (low half) and i + 16 (high half). Scales are float16 where nothing
else is said; all is little-endian.

    32 numbers  Q4_0    d, 16 B of 4 bits                   d·(q - 8)
                Q4_1    d, m, 16 B of 4 bits                d·q + m
                Q5_0    d, 4 B of fifth bits, 16 B          d·(q - 16)
                Q5_1    d, m, 4 B of fifth bits, 16 B       d·q + m
                Q8_0    d, 32 i8                            d·q
                IQ4_NL  d, 16 B of 4 bits                   d·table[q]
                MXFP4   exponent u8, 16 B of 4 bits         2^(e - 128)·table[q]
    64          NVFP4   4 scales of 4 bits exponent and 3 fraction, 32 B of 4 bits    s/2·table[q]
    256         Q2_K    16 B of 4-bit scale and minimum, 64 B of 2 bits, d, m      d·s·q - m·t
                Q3_K    32 B of third bits, 64 B of 2 bits, 12 B of 6-bit scales, d    d·(s - 32)·(q - 4 where not h)
                Q4_K    d, m, 12 B of 6-bit scales and minima, 128 B of 4 bits         d·s·q - m·t
                Q5_K    d, m, 12 B of the same, 32 B of fifth bits, 128 B              d·s·q - m·t
                Q6_K    128 B of 4 bits, 64 B of 2 bits above them, 16 i8 scales, d    d·s·(q - 32)
                Q8_K    d float32, 256 i8, 32 B of sums that are not needed            d·q
                IQ4_XS  d, 2 B and 4 B of 6-bit scales, 128 B of 4 bits                d·(s - 32)·table[q]
                TQ1_0   52 B of base-3 digits, five or four to the byte, d             d·(q - 1)
                TQ2_0   64 B of 2 bits, d                                              d·(q - 1)

Source: `ggml/src/ggml-common.h` and `ggml-quants.c`; results are equal to theirs bit for bit.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy

__all__ = ["dequantized"]

Array = numpy.ndarray[Any, Any]

_HALF, _SINGLE = numpy.dtype("<f2"), numpy.dtype("<f4")
_IQ4_VALUES = numpy.array([-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113], _SINGLE)
_E2M1_DOUBLED = numpy.array([0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12], _SINGLE)


def dequantized(kind: str, blocks: Array) -> Array | None:
    """The numbers of some blocks, a row of float32 for each; None for a kind that is not known.

    `blocks` has uint8 rows of one block each.
    """
    function = _KINDS.get(kind)
    if function is None:
        return None
    with numpy.errstate(all="ignore"):  # scales may be NaN or infinite, and then so are the numbers
        return function(blocks)


def _parts(blocks: Array, *widths: int) -> list[Array]:
    """The fields of blocks: columns, so many bytes each."""
    ends = list(numpy.cumsum(widths))
    return [numpy.ascontiguousarray(part) for part in numpy.split(blocks, ends, axis=1)[: len(widths)]]


def _scale(field: Array) -> Array:
    """A float16 for each block, as float32."""
    return field.view(_HALF).astype(_SINGLE)


def _spread(packed: Array, bits: int, group: int) -> Array:
    """Numbers of a few bits each: those of one byte lie `group` apart, the lowest bits first."""
    shifts = numpy.arange(0, 8, bits, dtype=numpy.uint8).reshape(1, 1, -1, 1)
    numbers = (packed.reshape(len(packed), -1, 1, group) >> shifts) & numpy.uint8((1 << bits) - 1)
    return numbers.reshape(len(packed), -1)


def _signed(numbers: Array, zero: int) -> Array:
    """Numbers counted from `zero`, as float32."""
    return (numbers.astype(numpy.int16) - numpy.int16(zero)).astype(_SINGLE)


def _scaled(scales: Array, numbers: Array) -> Array:
    """Each run of a block's numbers times its own scale."""
    runs = numbers.reshape(len(numbers), scales.shape[1], -1)
    return (scales[:, :, None] * runs).reshape(len(numbers), -1)


def _q4_0(blocks: Array) -> Array:
    d, packed = _parts(blocks, 2, 16)
    return _scale(d) * _signed(_spread(packed, 4, 16), 8)


def _q4_1(blocks: Array) -> Array:
    d, m, packed = _parts(blocks, 2, 2, 16)
    numbers = _scale(d) * _spread(packed, 4, 16).astype(_SINGLE)
    numbers += _scale(m)
    return numbers


def _q5_0(blocks: Array) -> Array:
    d, high, packed = _parts(blocks, 2, 4, 16)
    return _scale(d) * _signed(_spread(packed, 4, 16) | _spread(high, 1, 1) << 4, 16)


def _q5_1(blocks: Array) -> Array:
    d, m, high, packed = _parts(blocks, 2, 2, 4, 16)
    five: Array = _spread(packed, 4, 16) | _spread(high, 1, 1) << 4
    numbers = _scale(d) * five.astype(_SINGLE)
    numbers += _scale(m)
    return numbers


def _q8_0(blocks: Array) -> Array:
    d, numbers = _parts(blocks, 2, 32)
    return _scale(d) * numbers.view(numpy.int8).astype(_SINGLE)


def _q2_k(blocks: Array) -> Array:
    scales, packed, d, m = _parts(blocks, 16, 64, 2, 2)
    run = _scale(d) * (scales & 15).astype(_SINGLE)
    minimum = _scale(m) * (scales >> 4).astype(_SINGLE)
    numbers = _scaled(run, _spread(packed, 2, 32).astype(_SINGLE))
    numbers -= numpy.repeat(minimum, 16, axis=1)
    return numbers


def _q3_k(blocks: Array) -> Array:
    high, packed, scales, d = _parts(blocks, 32, 64, 12, 2)
    six = _spread(scales[:, :8], 4, 8) | _spread(scales[:, 8:], 2, 4) << 4
    numbers = _spread(packed, 2, 32).astype(numpy.int8) - ((_spread(high, 1, 32) ^ 1) << 2).astype(numpy.int8)
    return _scaled(_scale(d) * _signed(six, 32), numbers.astype(_SINGLE))


def _six_bits(packed: Array) -> tuple[Array, Array]:
    """Eight scales and eight minima of six bits: of the last four, the two highest lie above the first four's."""
    first, second, third = packed[:, :4], packed[:, 4:8], packed[:, 8:]
    scales = numpy.concatenate([first & 63, third & 15 | first >> 2 & 48], axis=1)
    minima = numpy.concatenate([second & 63, third >> 4 | second >> 2 & 48], axis=1)
    return scales.astype(_SINGLE), minima.astype(_SINGLE)


def _with_minima(d: Array, m: Array, packed: Array, numbers: Array) -> Array:
    """Numbers of Q4_K and Q5_K, in runs of 32 with a scale and a minimum each."""
    scales, minima = _six_bits(packed)
    scaled = _scaled(_scale(d) * scales, numbers.astype(_SINGLE))
    scaled -= numpy.repeat(_scale(m) * minima, 32, axis=1)
    return scaled


def _q4_k(blocks: Array) -> Array:
    d, m, scales, packed = _parts(blocks, 2, 2, 12, 128)
    return _with_minima(d, m, scales, _spread(packed, 4, 32))


def _q5_k(blocks: Array) -> Array:
    d, m, scales, high, packed = _parts(blocks, 2, 2, 12, 32, 128)
    return _with_minima(d, m, scales, _spread(packed, 4, 32) | _spread(high, 1, 32) << 4)


def _q6_k(blocks: Array) -> Array:
    packed, high, scales, d = _parts(blocks, 128, 64, 16, 2)
    numbers = _signed(_spread(packed, 4, 64) | _spread(high, 2, 32) << 4, 32)
    return _scaled(_scale(d) * scales.view(numpy.int8).astype(_SINGLE), numbers)


def _q8_k(blocks: Array) -> Array:
    d, numbers = _parts(blocks, 4, 256)
    return d.view(_SINGLE) * numbers.view(numpy.int8).astype(_SINGLE)


def _iq4_nl(blocks: Array) -> Array:
    d, packed = _parts(blocks, 2, 16)
    return _scale(d) * _IQ4_VALUES[_spread(packed, 4, 16)]


def _iq4_xs(blocks: Array) -> Array:
    d, high, low, packed = _parts(blocks, 2, 2, 4, 128)
    scales = _signed(_spread(low, 4, 1) | _spread(high, 2, 1) << 4, 32)
    return _scaled(_scale(d) * scales, _IQ4_VALUES[_spread(packed, 4, 16)])


def _mxfp4(blocks: Array) -> Array:
    exponent, packed = _parts(blocks, 1, 16)
    wide = exponent.astype(numpy.uint32)
    halved = numpy.where(wide < 2, numpy.uint32(1 << 21) << wide, (wide - (wide > 0)) << numpy.uint32(23))
    return halved.astype(numpy.uint32).view(_SINGLE) * _E2M1_DOUBLED[_spread(packed, 4, 16)]


def _nvfp4(blocks: Array) -> Array:
    packed_scales, packed = _parts(blocks, 4, 32)
    exponent, fraction = (packed_scales >> 3 & 15).astype(_SINGLE), (packed_scales & 7).astype(_SINGLE)
    small = fraction * _SINGLE.type(2.0**-9)
    scales = numpy.where(exponent == 0, small, (1 + fraction / 8) * _SINGLE.type(2) ** (exponent - 7))
    halved = numpy.where(packed_scales == 0x7F, _SINGLE.type(0), scales * _SINGLE.type(0.5))
    return _scaled(halved, _E2M1_DOUBLED[_spread(packed, 4, 8)])


def _tq1_0(blocks: Array) -> Array:
    first, second, last, d = _parts(blocks, 32, 16, 4, 2)
    digits = numpy.concatenate([_digits(first, 5), _digits(second, 5), _digits(last, 4)], axis=1)
    return _scale(d) * _signed(digits, 1)


def _digits(packed: Array, count: int) -> Array:
    """Base-3 digits: a byte is 256/243 of their fraction, so that times 3 the digit runs over its top."""
    powers = numpy.array([1, 3, 9, 27, 81][:count], numpy.uint8).reshape(1, -1, 1)
    fractions = packed[:, None, :] * powers
    return (fractions.astype(numpy.uint16) * 3 >> 8).reshape(len(packed), -1)


def _tq2_0(blocks: Array) -> Array:
    packed, d = _parts(blocks, 64, 2)
    return _scale(d) * _signed(_spread(packed, 2, 32), 1)


_KINDS: Mapping[str, Callable[[Array], Array]] = {
    "Q4_0": _q4_0,
    "Q4_1": _q4_1,
    "Q5_0": _q5_0,
    "Q5_1": _q5_1,
    "Q8_0": _q8_0,
    "Q2_K": _q2_k,
    "Q3_K": _q3_k,
    "Q4_K": _q4_k,
    "Q5_K": _q5_k,
    "Q6_K": _q6_k,
    "Q8_K": _q8_k,
    "IQ4_NL": _iq4_nl,
    "IQ4_XS": _iq4_xs,
    "MXFP4": _mxfp4,
    "NVFP4": _nvfp4,
    "TQ1_0": _tq1_0,
    "TQ2_0": _tq2_0,
}
