"""Floor 3: one container, one file. Each opens with its specification and knows how to recognise and read itself.

A format that takes several files has a folder, and its row is in `reading`. `opening.FORMATS` is the list; adding a
format is one file and one line there.
"""
