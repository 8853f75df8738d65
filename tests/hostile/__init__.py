"""Files from strangers: built here byte by byte, opened under a guard, and nothing may happen."""
