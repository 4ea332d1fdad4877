"""What `aimonk_bench` exports, and what the command line calls: nothing here prints or ends the process."""

import logging

logging.getLogger("aimonk_bench").addHandler(logging.NullHandler())  # else Python prints warnings to stderr
