"""`python -m td_transform` is the command `td-transform`."""

from td_transform.cli import main

if __name__ == "__main__":
    main()
