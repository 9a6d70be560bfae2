"""Data sets, their manifests, transforms and training batches."""

from typing import TYPE_CHECKING

from robustmix._lazy import lazy_exports

if TYPE_CHECKING:
    from robustmix.data.augment import Augment
    from robustmix.data.datasets import DATASETS, data_folder, load_dataset
    from robustmix.data.images import FileRecord, ImageSet
    from robustmix.data.loader import (
        Batch,
        batches_per_epoch,
        default_augment,
        split_holdout,
        train_batches,
    )
    from robustmix.data.manifests import Manifest, list_manifests, load_manifest
    from robustmix.data.verify import verify_dataset

__all__ = [
    "DATASETS",
    "Augment",
    "Batch",
    "FileRecord",
    "ImageSet",
    "Manifest",
    "batches_per_epoch",
    "data_folder",
    "default_augment",
    "list_manifests",
    "load_dataset",
    "load_manifest",
    "split_holdout",
    "train_batches",
    "verify_dataset",
]
__getattr__ = lazy_exports(
    __name__,
    {
        "DATASETS": "robustmix.data.datasets",
        "Augment": "robustmix.data.augment",
        "Batch": "robustmix.data.loader",
        "FileRecord": "robustmix.data.images",
        "ImageSet": "robustmix.data.images",
        "Manifest": "robustmix.data.manifests",
        "batches_per_epoch": "robustmix.data.loader",
        "data_folder": "robustmix.data.datasets",
        "default_augment": "robustmix.data.loader",
        "list_manifests": "robustmix.data.manifests",
        "load_dataset": "robustmix.data.datasets",
        "load_manifest": "robustmix.data.manifests",
        "split_holdout": "robustmix.data.loader",
        "train_batches": "robustmix.data.loader",
        "verify_dataset": "robustmix.data.verify",
    },
)
