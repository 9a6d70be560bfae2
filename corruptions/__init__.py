"""The common corruptions as batched functions on uint8 images."""
