"""Fuzzing by coverage, of every reader; `run` says how."""
