"""What runs an experiment inside Kaggle, and brings its score back."""
