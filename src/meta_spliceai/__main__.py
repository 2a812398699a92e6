"""`python -m meta_spliceai`: the command line, for a package that is on the path but not installed."""

from meta_spliceai.cli import main

if __name__ == "__main__":
    main()
