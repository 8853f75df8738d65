"""Floor 10: the command line. One thin file a command; `out` is the only place that prints."""
