"""Finds defects on surfaces in pictures, the way Kaggle competitions do it."""

import os

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # its version check asks the network
