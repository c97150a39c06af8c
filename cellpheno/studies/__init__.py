"""Studies that train many models to answer one question."""
