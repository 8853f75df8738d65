"""What a checkpoint holds, and which part of it is the model."""
