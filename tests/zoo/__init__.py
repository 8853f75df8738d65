"""The zoo: its networks, and the pictures that they read."""
