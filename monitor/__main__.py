"""``python -m monitor`` is the command ``recallwatch``."""

from monitor.app.cli import main

if __name__ == "__main__":
    main()
