"""Which saliency sources there are, in one line each; needs no torch."""

SALIENCY: dict[str, str] = {
    "gradxinput": "|pixel x gradient of the class score|, summed over channels",
    "smoothgrad": "|mean gradient of 16 noisy copies|, summed over channels",
    "gradcam": "Grad-CAM of the last stage of a convolutional network",
    "rollout": "attention rollout of a ViT of timm",
    "center": "nearness to the centre of the image; asks no model",
    "file": "maps by sample id from an npz, made elsewhere; the only source to compare models by",
}

LABELS: tuple[str, ...] = ("prediction", "label")
"""Which class a source explains: the model's answer, or the true one."""
