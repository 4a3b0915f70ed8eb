"""VGG-19: its convolution (`conv`), its features (`vgg`), their scale (`calibrate`).

Each file imports only those before it.
"""
