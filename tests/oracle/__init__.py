"""Held against torch, numpy and Python as they are installed."""
