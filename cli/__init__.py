"""The command line: parse, plan, one library call, print, exit code."""


def main() -> None:
    """Run ``robustmix`` and exit with its documented code."""
    from robustmix.cli.app import run

    raise SystemExit(run())
