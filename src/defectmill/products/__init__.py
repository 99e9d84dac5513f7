"""What products were made from: hashes of settings, data and code, the state of the input, finished runs."""
