"""Train image classifiers with mixup methods and measure how robust the result is."""

__version__ = "0.1.0"
