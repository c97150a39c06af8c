"""Pixels to pixels, labels and crops."""
