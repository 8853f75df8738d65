"""Floor 5: what people hold in memory → names, tensors and sharing → files. Neighbour of `placing`; they do not meet."""
