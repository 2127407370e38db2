"""The Edge TPU: what its compiler maps, compiling, and the artifact that comes out."""
