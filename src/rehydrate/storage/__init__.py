"""Floor 0: bytes at any offset, and files that are either old or new and never half.

Nothing here knows what a checkpoint is.
"""
