"""The cost of a conversion: the same pictures through the reference and through every artifact.

Needs no TensorFlow unless the reference is a Keras model: a device can measure its own drop.
"""
