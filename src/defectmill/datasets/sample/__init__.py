"""The sample: synthetic images of rolled steel with defects, and their masks."""
