"""What `aimonk_bench` exports, and what the command line calls: nothing here prints or ends the process."""

import logging
import warnings

logging.getLogger("aimonk_bench").addHandler(logging.NullHandler())  # else Python prints warnings to stderr
warnings.filterwarnings("ignore", message="IProgress not found")  # of tqdm, which timm imports, in a notebook
