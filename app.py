"""The web app: ``python app.py [--host H] [--port P] [--models A,B]``. A Space starts the same file."""

import sys

from playground.ui.app import main

if __name__ == "__main__":
    sys.exit(main())
