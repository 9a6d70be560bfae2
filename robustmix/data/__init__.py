"""Data sets, their manifests, transforms and training batches."""

from typing import TYPE_CHECKING

from robustmix._lazy import lazy_exports_of

if TYPE_CHECKING:
    from robustmix.data.augment import Augment as Augment
    from robustmix.data.datasets import load_dataset as load_dataset
    from robustmix.data.images import FileRecord as FileRecord
    from robustmix.data.images import ImageSet as ImageSet
    from robustmix.data.loader import Batch as Batch
    from robustmix.data.loader import batches_per_epoch as batches_per_epoch
    from robustmix.data.loader import default_augment as default_augment
    from robustmix.data.loader import split_holdout as split_holdout
    from robustmix.data.loader import train_batches as train_batches
    from robustmix.data.location import data_folder as data_folder
    from robustmix.data.manifests import DATASETS as DATASETS
    from robustmix.data.manifests import DatasetRow as DatasetRow
    from robustmix.data.manifests import Manifest as Manifest
    from robustmix.data.manifests import list_manifests as list_manifests
    from robustmix.data.manifests import load_manifest as load_manifest
    from robustmix.data.preparation import TestTransform as TestTransform
    from robustmix.data.verify import verify_dataset as verify_dataset

__getattr__, __dir__, __all__ = lazy_exports_of(__name__)
