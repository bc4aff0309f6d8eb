"""``python -m offlinemeta`` is the command ``offlinemeta``."""

from offlinemeta.cli import main

if __name__ == "__main__":
    main()
