"""From crops to a trained model, and from a model to predictions."""
