"""`python -m snapkeep.cli`."""

from snapkeep.cli import main

main()
