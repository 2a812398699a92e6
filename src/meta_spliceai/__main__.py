"""`python -m meta_spliceai`: the command line, where the package is on the path and not installed."""

from meta_spliceai.cli import main

if __name__ == "__main__":
    main()
