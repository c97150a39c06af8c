"""The configuration: one file a step, one folder a parameter."""
