"""Floor 4: names and shapes of a checkpoint held against names and shapes of a model. Pure; nothing moves."""
