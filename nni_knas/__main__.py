"""``python -m nni_knas`` is ``nni-knas``."""

import sys

from nni_knas.cli import main

sys.exit(main())
