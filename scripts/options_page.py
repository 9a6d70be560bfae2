"""Write docs/options.md from the suites' own options."""

from pathlib import Path

from robustmix.cli.suite_options import options_page

PAGE = Path(__file__).parents[1] / "docs" / "options.md"

if __name__ == "__main__":
    PAGE.write_text(options_page(), encoding="utf-8")
