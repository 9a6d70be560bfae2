import subprocess
import sys

import robustmix.models


def test_public_names_are_there() -> None:
    names = robustmix.models.__all__
    assert (
        {"ARCHS", "ModelInfo", "build_model", "load_model"} < set(names) <= {*dir(robustmix.models)}
    )
    for name in names:
        assert getattr(robustmix.models, name) is not None
    assert not hasattr(robustmix.models, "no_such_name")


def test_listing_needs_no_torch() -> None:
    code = (
        "import sys; from robustmix.models import ARCHS, NORM_PRESETS; "
        "assert 'resnet18' in ARCHS; assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
