"""Studies: questions about the methods themselves, asked where the truth is known."""
