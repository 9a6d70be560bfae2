"""Which evaluation suites there are, in one line each; needs no torch."""

SUITES: dict[str, str] = {
    "clean": "accuracy, NLL, Brier and per-class accuracy on the unchanged test images",
    "calibration": "ECE and its relatives, reliability tables, temperature scaling",
    "corruption": "accuracy under common corruptions (CIFAR-C files or generated)",
    "fgsm": "error under the fast gradient sign method, with an eps sweep",
    "occlusion": "accuracy as random patches are masked (PatchDrop curve)",
}
