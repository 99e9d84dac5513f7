"""Finds defects on surfaces in pictures, the way Kaggle competitions do it."""
