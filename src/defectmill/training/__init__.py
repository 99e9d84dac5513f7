"""Training: batches in, a trained model out."""
