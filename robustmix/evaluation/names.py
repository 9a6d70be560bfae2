"""Which evaluation suites there are, in one line each; needs no torch."""

SUITES: dict[str, str] = {
    "clean": "accuracy, NLL, Brier and per-class accuracy on the unchanged test images",
    "calibration": "ECE and its relatives, reliability tables, temperature scaling",
    "corruption": "accuracy under common corruptions (CIFAR-C files or generated)",
    "masking": "whether the attacks' numbers can be believed: 16 checks for hidden gradients",
    "fgsm": "error under the fast gradient sign method, with an eps sweep",
    "pgd": "error under projected gradient ascent, best and last step, with a convergence check",
    "autoattack": "robust accuracy under APGD-CE, APGD-T, FAB-T and Square, over survivors",
    "occlusion": "accuracy as patches are masked: random, salient first or last, the object or not",
    "shuffle": "accuracy as pieces of the image change places",
}

PROTOCOLS: dict[str, str] = {
    "standard": "the suites as they are defined here; FGSM and PGD-20 at 8/255 (ImageNet 4/255)",
    "quick": "minutes instead of hours: parts of the test set chosen by the seed, for CI",
    "paper-adautomix": "the arithmetic of AdAutoMix's published scripts, faults included",
    "openmixup-2025": "OpenMixup's scripts of October 2025: pixel FGSM, their other faults kept",
    "hendrycks": "RMS calibration error, and mCE over the main 15 corruptions",
    "robustbench": "the main 15 corruptions, and AutoAttack on 1,000 images",
    "naseer-patchdrop": "PatchDrop as first published: black 14x14 patches, a mask for 256 images",
}
"""Named protocols, for ``--protocol``."""
