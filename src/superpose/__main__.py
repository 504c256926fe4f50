"""`python -m superpose`."""

from superpose.cli import main

raise SystemExit(main())
