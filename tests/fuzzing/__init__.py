"""Damaged files and strings for every reader, and what each did not refuse in one line: `make fuzz`."""
