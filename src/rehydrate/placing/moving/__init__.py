"""Which bytes of which file go to which memory, and the loop that moves them."""
