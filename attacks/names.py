"""Which attacks there are, in one line each; needs no torch."""

DESCRIPTIONS: dict[str, str] = {
    "fgsm": "one signed gradient step of length eps (Goodfellow et al. 2015)",
    "pgd": "projected gradient steps, linf or l2, restarts, targets (Madry et al. 2018)",
    "apgd": "PGD that sets its own step size, CE or DLR (Croce & Hein 2020)",
    "square": "random search without gradients (Andriushchenko et al. 2020)",
    "autoattack": "APGD-CE, APGD-T, FAB-T and Square over survivors (Croce & Hein 2020)",
    "torchattacks:NAME": "any attack of torchattacks, e.g. torchattacks:CW (optional extra)",
}
