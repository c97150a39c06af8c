"""A run's tables as pictures and one HTML file."""
