"""Perturbation sets: short films of a test image that changes little by little."""
