"""From a Keras model to TensorFlow Lite: calibration and conversion."""
