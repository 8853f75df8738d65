"""Floor 3: one container, one file. Each opens with its specification and knows how to recognise and read itself.

`opening.FORMATS` is the list; adding a format is one file and one line there.
"""
