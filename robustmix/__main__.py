"""``python -m robustmix``."""

from robustmix.cli import main

if __name__ == "__main__":
    main()
