"""HDF5, as Keras writes it: `reading` is the format, `index` runs in a process of its own, `apart` holds it there."""
