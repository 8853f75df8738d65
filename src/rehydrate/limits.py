"""Limits: how much a file may ask for before it is refused. Plain numbers, each with its reason."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Limits"]


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds on what one file may make us do; each is far above what any honest file needs.

    >>> Limits().dimensions
    64
    """

    operations: int = 50_000_000
    """Pickle opcodes: a state dict takes thirty a tensor, so this is more than a million tensors."""
    pickle_bytes: int = 512 << 20
    """Bytes of one pickle inside a container; torch's hold names and shapes only. Plain pickles hold their data and
    are bounded by the file itself."""
    work: int = 1 << 20
    work_per_byte: int = 16
    """Values that a pickle may have hashed without new bytes for them, and a quarter as many copied: a few bytes can
    recall a large list and have a set made of it, again and again. An honest file names most values once."""
    room: int = 32 << 20
    room_per_operation: int = 60
    room_per_byte: int = 3
    """Bytes of memory that values of a pickle may take beside the bytes that spell them: what is copied, and what is
    large when it is empty: a deque has 640 bytes for three of the file, a set 230 for one. Honest sets have members."""
    integer_bytes: int = 1 << 20
    """Bytes of one binary integer: arithmetic on a longer one takes seconds."""
    integer_digits: int = 4300
    """Digits of one decimal integer: converting is quadratic; Python's own bound."""
    name_length: int = 1024
    """Characters of a module's or a class's name."""
    globals: int = 100_000
    """Distinct names of classes and functions."""
    key_nodes: int = 4096
    """Values inside one dictionary key: hashing a tuple of tuples doubles with each level."""
    key_depth: int = 16
    """Levels inside one dictionary key: Python's hash recurses in C and would end the process."""
    deque_depth: int = 64
    """Deques and defaultdicts directly in each other: Python frees them by recursion in C."""
    key_collisions: int = 64
    """Keys of one dictionary with the same hash: each costs a comparison with all before it."""
    key_seconds: float = 2e-6
    byte_seconds: float = 0.5e-6
    """Processor time for each key that is no string, and for each byte before it, a second aside: four times what they
    take. A dictionary of a hundred thousand numbers that were chosen for it takes a hundred times as long."""
    inflation: int = 200
    """Bytes that one byte of a compressed pickle may become; torch's own shrink to a tenth."""
    members: int = 1_000_000
    """Entries of an archive."""
    containers: int = 4
    """Containers in each other: a gzipped tar of a zip of checkpoints has three."""
    unpacked_bytes: int = 8 << 30
    """Bytes that compressed parts of one file may have when unpacked, as long as `inflation` allows them, too."""
    index_room: int = 64 << 20
    index_room_per_byte: int = 3
    """Bytes of memory that an index may take, and for each of its file's: a tensor of no elements takes sixty bytes of
    a header and a thousand of memory. Fifty thousand tensors fit, and many more where they have numbers."""
    header_bytes: int = 100_000_000
    """Bytes of an index in JSON; safetensors' own bound."""
    dimensions: int = 64
    """Dimensions of a tensor; numpy's own bound."""
