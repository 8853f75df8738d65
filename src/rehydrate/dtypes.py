"""One table of element types: what each is called in torch, in torch's legacy storages, and in numpy.

Nothing here imports torch or numpy: names only, so that a file can be inspected before either is loaded. Whoever
needs the real object asks `placing.dtypes` (torch) or `checkpoint.arrays` (numpy).
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["BY_NAME", "BY_SCALAR_TYPE", "BY_STORAGE", "BY_TYPESTRING", "DTYPES", "DType", "dtype_of_typestring"]


@dataclass(frozen=True, slots=True)
class DType:
    """One element type.

    >>> BY_NAME["bfloat16"].itemsize, str(BY_NAME["bfloat16"])
    (2, 'bfloat16')
    """

    name: str
    """torch's name: `float32`, `bfloat16`, `float8_e4m3fn`."""
    itemsize: int
    """Bytes of one element as torch stores it."""
    array: str | None
    """The numpy spelling, `ml_dtypes.` in front where numpy has it from there; None where there is no equal type."""
    kind: str
    """`float`, `complex`, `integer`, `bool`, `quantized` or `bits`."""
    storage: str | None = None
    """The stem of torch's typed storage class (`Float` for `FloatStorage`), where there is one."""
    per_byte: int = 1
    """Elements in one byte, for the packed quantised types; their `itemsize` is that of the byte."""

    def __str__(self) -> str:
        return self.name


DTYPES: tuple[DType, ...] = (
    DType("float32", 4, "float32", "float", "Float"),
    DType("float64", 8, "float64", "float", "Double"),
    DType("float16", 2, "float16", "float", "Half"),
    DType("bfloat16", 2, "ml_dtypes.bfloat16", "float", "BFloat16"),
    DType("complex64", 8, "complex64", "complex", "ComplexFloat"),
    DType("complex128", 16, "complex128", "complex", "ComplexDouble"),
    DType("complex32", 4, None, "complex"),
    DType("int8", 1, "int8", "integer", "Char"),
    DType("int16", 2, "int16", "integer", "Short"),
    DType("int32", 4, "int32", "integer", "Int"),
    DType("int64", 8, "int64", "integer", "Long"),
    DType("uint8", 1, "uint8", "integer", "Byte"),
    DType("uint16", 2, "uint16", "integer"),
    DType("uint32", 4, "uint32", "integer"),
    DType("uint64", 8, "uint64", "integer"),
    DType("bool", 1, "bool", "bool", "Bool"),
    DType("float8_e4m3fn", 1, "ml_dtypes.float8_e4m3fn", "float"),
    DType("float8_e4m3fnuz", 1, "ml_dtypes.float8_e4m3fnuz", "float"),
    DType("float8_e5m2", 1, "ml_dtypes.float8_e5m2", "float"),
    DType("float8_e5m2fnuz", 1, "ml_dtypes.float8_e5m2fnuz", "float"),
    DType("float8_e8m0fnu", 1, "ml_dtypes.float8_e8m0fnu", "float"),
    # Two 4-bit floats to the byte: no array type has the same elements, so the bytes themselves are shown.
    DType("float4_e2m1fn_x2", 1, "uint8", "bits"),
    # A quantised tensor's own numbers; what they stand for is in the record around it.
    DType("qint8", 1, "int8", "quantized", "QInt8"),
    DType("quint8", 1, "uint8", "quantized", "QUInt8"),
    DType("qint32", 4, "int32", "quantized", "QInt32"),
    DType("quint4x2", 1, "uint8", "quantized", "QUInt4x2", per_byte=2),
    DType("quint2x4", 1, "uint8", "quantized", "QUInt2x4", per_byte=4),
    DType("bits8", 1, "uint8", "bits"),
    DType("bits16", 2, "uint16", "bits"),
    DType("bits1x8", 1, "uint8", "bits"),
    DType("bits2x4", 1, "uint8", "bits"),
    DType("bits4x2", 1, "uint8", "bits"),
    # torch's shell types: one byte an element, whatever the name says.
    *(DType(f"uint{bits}", 1, "uint8", "bits") for bits in range(1, 8)),
    *(DType(f"int{bits}", 1, "uint8", "bits") for bits in range(1, 8)),
)
"""Every element type that torch 2.13 can name."""

BY_NAME: dict[str, DType] = {dtype.name: dtype for dtype in DTYPES}
"""torch's dtype name → DType."""

BY_STORAGE: dict[str, DType] = {dtype.storage: dtype for dtype in DTYPES if dtype.storage}
"""`Float` of `FloatStorage` and `FloatTensor` → DType."""

BY_SCALAR_TYPE: dict[str, DType] = BY_STORAGE | {
    name: BY_NAME[name.lower()]
    for name in (
        "UInt16", "UInt32", "UInt64", "Float8_e4m3fn", "Float8_e4m3fnuz", "Float8_e5m2", "Float8_e5m2fnuz",
        "Float8_e8m0fnu",
    )
} | {"ComplexHalf": BY_NAME["complex32"]}  # fmt: skip
"""`c10::ScalarType` → DType: C++ makes names of storages even for types that have no such class in Python."""

BY_TYPESTRING: dict[str, DType] = {
    f"{letter}{BY_NAME[name].itemsize}": BY_NAME[name]
    for letter, names in (
        ("f", ("float16", "float32", "float64")),
        ("c", ("complex64", "complex128")),
        ("i", ("int8", "int16", "int32", "int64")),
        ("u", ("uint8", "uint16", "uint32", "uint64")),
        ("b", ("bool",)),
    )
    for name in names
}
"""`f4` of numpy's `<f4` → DType, for every type of numpy's that torch has, too."""


def dtype_of_typestring(text: str) -> tuple[DType, bool] | None:
    """The element type of a numpy typestring, and whether its bytes are big-endian; None for one that torch lacks.

    Without an order in front it is little-endian.

    >>> str(dtype_of_typestring("<f4")[0]), dtype_of_typestring(">f4")[1], dtype_of_typestring("<U3")
    ('float32', True, None)
    """
    order = text[0] if text[:1] in ("<", ">", "|") else "<"
    dtype = BY_TYPESTRING.get(text.removeprefix(order))
    if dtype is None or (order == "|" and dtype.itemsize > 1):
        return None
    return dtype, order == ">"
