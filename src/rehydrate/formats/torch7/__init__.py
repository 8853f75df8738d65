"""Files of Torch7 for Lua: `reading` is the format, the files beside it are its object stream, layer by layer."""
