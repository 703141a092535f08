"""`python -m tl_keras`: the command line."""

import sys

from tl_keras.run import main

if __name__ == "__main__":
    sys.exit(main())
