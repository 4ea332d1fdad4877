from aimonk_bench.api.bundles import export as export
from aimonk_bench.api.bundles import predict as predict
from aimonk_bench.api.bundles import score as score
from aimonk_bench.api.comparing import Comparison as Comparison
from aimonk_bench.api.comparing import compare as compare
from aimonk_bench.api.comparing import show as show
from aimonk_bench.api.label_frames import labels as labels
from aimonk_bench.api.pages import report as report
from aimonk_bench.api.results import Run as Run
from aimonk_bench.api.results import Suite as Suite
from aimonk_bench.api.results import load as load
from aimonk_bench.api.tracking import log as log
from aimonk_bench.api.work import audit as audit
from aimonk_bench.api.work import run as run
from aimonk_bench.api.work import suite as suite
from aimonk_bench.errors import RunFailed as RunFailed
from aimonk_bench.errors import UserError as UserError

__version__: str
__all__ = [
    "Comparison",
    "Run",
    "RunFailed",
    "Suite",
    "UserError",
    "__version__",
    "audit",
    "compare",
    "export",
    "labels",
]
__all__ += ["load", "log", "predict", "report", "run", "score", "show", "suite"]
