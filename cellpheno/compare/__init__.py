"""From tables to a verdict: splits, baselines on engineered features, statistics, assay quality."""
