"""Floor 8: known models with their weights, and what they are for."""
