"""Models whose memory is still to be filled: just built, or on the meta device."""
