"""``python -m offlinemeta`` does the same as the command ``offlinemeta``."""

from offlinemeta.cli import main

if __name__ == "__main__":
    main()
