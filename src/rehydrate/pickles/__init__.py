"""Floor 2: pickles read as data.

`machine` executes opcodes into plain values and inert records. `python_names` and `torch_names` say which of the
names that honest files use stand for plain data, as pure functions of ours; nothing here imports what a file names.
"""
