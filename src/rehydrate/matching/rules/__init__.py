"""Rules: what makes the names and shapes of a file those of a model. Pure; nothing moves."""
