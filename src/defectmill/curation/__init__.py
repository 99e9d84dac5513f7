"""Look after the data: find duplicates, assign folds, measure leakage, audit labels (notebook 02)."""
