"""Floor 5: what people hold in memory → names, tensors and sharing → files."""
