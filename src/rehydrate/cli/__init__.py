"""Floor 10: the command line. One thin file a command; `out` is the only place that prints.

`parts` and `layers` put into words what `inspect` shows, `inputs` what was meant where there is no such file.
"""
