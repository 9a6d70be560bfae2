"""Official files are read without staying in memory; what corruptions free is used again."""

import platform
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from robustmix.corruptions import SEVERITIES, CifarC

STATUS = Path("/proc/self/status")


def resident() -> int:
    """Bytes of this process that are in memory, mapped files among them."""
    (line,) = (row for row in STATUS.read_text().splitlines() if row.startswith("VmRSS"))
    return 1024 * int(line.split()[1])


@pytest.mark.skipif(not STATUS.exists(), reason="needs /proc")
def test_a_pass_over_a_file_of_the_released_size_leaves_nothing_behind(tmp_path: Path) -> None:
    labels = np.zeros(50_000, np.uint8)
    np.save(tmp_path / "labels.npy", labels)
    np.lib.format.open_memmap(  # a hole of 154 MB on disk, which fills memory all the same
        tmp_path / "fog.npy", mode="w+", dtype=np.uint8, shape=(50_000, 32, 32, 3)
    )
    files = CifarC.open(tmp_path, dataset="cifar100")
    files.take("fog", 1, [0])
    before = resident()
    for severity in SEVERITIES:
        for batch in torch.split(torch.arange(10_000), 1000):
            files.take("fog", severity, batch)
    assert resident() - before < 40e6


NEW_PAGES = """
import resource
import torch
from robustmix.corruptions import corrupt

torch.set_num_threads(1)
taken = []
for repeat in range(6):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    corrupt(torch.zeros(1, 3, 224, 224, dtype=torch.uint8), "zoom_blur", 5)
    taken.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
print(min(taken))
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="of glibc's allocator")
def test_large_intermediate_results_take_no_new_pages() -> None:
    """In a process of its own, for others have freed large blocks here; else hundreds an image."""
    done = subprocess.run([sys.executable, "-c", NEW_PAGES], capture_output=True, check=True)
    assert int(done.stdout) < 100
