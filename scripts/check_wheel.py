"""Build what is uploaded: the wheel holds the tracked files, nothing missing, nothing extra.

It is built from the source distribution, as whoever installs that would build it. What both say of
themselves is what an index of packages accepts.
"""

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
        command = [sys.executable, "-m", "build", "--outdir", folder, "."]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        made = [str(path) for path in Path(folder).iterdir()]
        subprocess.run([sys.executable, "-m", "twine", "check", "--strict", *made], check=True)
        (wheel,) = Path(folder).glob("*.whl")
        names = zipfile.ZipFile(wheel).namelist()
    have = {name for name in names if ".dist-info/" not in name}
    for what, difference in (("only in git", want - have), ("only in the wheel", have - want)):
        if difference:
            sys.stderr.write(f"{what}: {sorted(difference)}\n")
    return int(want != have)


if __name__ == "__main__":
    sys.exit(main())
