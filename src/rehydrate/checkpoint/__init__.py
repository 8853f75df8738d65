"""Floor 1: the nouns. What a checkpoint is once it has been read: a tree of plain data, records and tensor references.

Nothing here knows how any file is laid out, and nothing here loads torch, except `TensorRef.torch` when it is called.
"""
