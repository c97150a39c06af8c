"""From the cell table to the well table: aggregate, normalise, select."""
