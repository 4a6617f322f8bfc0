#!/usr/bin/env python3
"""The same door as the console script `jobsite`."""

import sys

from jobsite.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
