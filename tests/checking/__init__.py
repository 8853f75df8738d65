"""What is asked of a file: what it would have run, and whether it is whole."""
