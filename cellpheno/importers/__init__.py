"""Raw folders of microscopes: found, listed as a table of planes, checked, read, and written into a plate."""
