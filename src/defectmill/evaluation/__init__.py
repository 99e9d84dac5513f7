"""From masks to numbers, and from numbers to the report."""
