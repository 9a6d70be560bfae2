"""Which attacks there are, in one line each; needs no torch."""

DESCRIPTIONS: dict[str, str] = {
    "fgsm": "one signed gradient step of length eps (Goodfellow et al. 2015)",
}
