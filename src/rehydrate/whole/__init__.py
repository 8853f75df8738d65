"""Floor 6: whole models. The only floor that may run somebody's code: the class that the caller hands over."""
