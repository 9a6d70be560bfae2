"""Build the wheel and compare it with the tracked files: nothing missing, nothing extra."""

import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

LINKED = ("attacks", "corruptions", "cli", "data_manifests")


def main() -> int:
    """Return 0 if the wheel holds exactly the tracked files of the package."""
    listing = subprocess.check_output(["git", "ls-files", "robustmix", *LINKED], text=True)
    tracked = listing.splitlines()
    want = {path if path.startswith("robustmix/") else f"robustmix/{path}" for path in tracked}
    want -= {f"robustmix/{folder}" for folder in LINKED}  # the links themselves
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "build", "--wheel", "--outdir", folder, "."]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        (wheel,) = Path(folder).glob("*.whl")
        names = zipfile.ZipFile(wheel).namelist()
    have = {name for name in names if ".dist-info/" not in name}
    for what, difference in (("only in git", want - have), ("only in the wheel", have - want)):
        if difference:
            sys.stderr.write(f"{what}: {sorted(difference)}\n")
    return int(want != have)


if __name__ == "__main__":
    sys.exit(main())
