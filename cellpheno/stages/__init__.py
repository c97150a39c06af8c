"""The steps: one plain function each, in a file of its name."""
