"""``python -m intarsia``: the `intarsia` command where its script is not on the path."""

from intarsia.cli import main

if __name__ == "__main__":
    main()
