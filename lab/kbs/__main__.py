"""``python -m lab.kbs --config-file FILE``: what the pods of trustee-deployment run."""

import sys

from lab.kbs import main

sys.exit(main(sys.argv[1:]))
