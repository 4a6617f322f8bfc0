"""`python -m jobsite.cli` is `jobsite`."""

import sys

from jobsite.cli.main import main

sys.exit(main())
