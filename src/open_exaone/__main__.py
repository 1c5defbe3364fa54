"""`python -m open_exaone` is `exaone`."""

from open_exaone.cli.main import main

if __name__ == "__main__":
    main()
