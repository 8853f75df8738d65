"""The pickle machine, held against Python's own readers and against itself."""
