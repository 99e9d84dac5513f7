"""Networks for other runtimes: a folder that finds defects without TensorFlow, Keras and this package."""
