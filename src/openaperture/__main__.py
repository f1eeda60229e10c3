"""`python -m openaperture` is `openaperture`."""

from openaperture.cli import main

if __name__ == "__main__":
    main()
