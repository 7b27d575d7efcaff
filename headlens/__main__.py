"""`python -m headlens` is the shell command `headlens`."""

from headlens.cli import main

main()
