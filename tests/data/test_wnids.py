import pytest
from timm.data import ImageNetInfo

from robustmix.data.wnids import classes_of_wnids, imagenet_wnids, wnid_index
from robustmix.errors import IntakeError


def test_the_list_is_the_one_that_timms_weights_go_by() -> None:
    assert list(imagenet_wnids()) == ImageNetInfo("imagenet-1k").label_names()


def test_the_classes_are_ranks_in_sorted_order() -> None:
    assert list(imagenet_wnids()) == sorted(set(imagenet_wnids()))
    assert wnid_index() == {wnid: rank for rank, wnid in enumerate(sorted(imagenet_wnids()))}


def test_classes_known_from_elsewhere() -> None:
    # Both cranes and both maillots, which words do not tell apart.
    wnids = ["n02012849", "n03126707", "n03710637", "n03710721"]
    assert classes_of_wnids(wnids) == (134, 517, 638, 639)


def test_an_id_of_another_set_is_refused() -> None:
    with pytest.raises(IntakeError, match=r"'n00000001' is none of the 1,000 .*1 of 2 are not"):
        classes_of_wnids(["n01440764", "n00000001"])
