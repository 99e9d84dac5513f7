"""What make runs: notebooks, the networks of an experiment, ablations."""
