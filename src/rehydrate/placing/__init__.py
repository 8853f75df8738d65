"""Floor 5: names meet modules, bytes meet memory. The first floor that may import torch.

Everything that could be wrong with a file has been found by the floors below before anything here allocates.
"""
