"""A virtual microscope: cells, stains, optics and a plate, with the truth of every cell."""
