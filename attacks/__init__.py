"""Attacks: pure functions from images and labels to adversarial images."""
