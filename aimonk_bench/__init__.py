"""aimonk_bench: benchmark recipes for partly labelled, skewed, multi-label images.

`run` and `suite` execute a config, `load` reads what they wrote, `audit` looks at labels and images, `labels` takes
labels from a DataFrame, `compare` and `show` look at runs, `export`, `predict` and `score` take a model home, `log`
writes to a tracker, `report` a page. Each is imported when it is first used.
"""

import importlib
import sys
import types

from aimonk_bench import offline

__version__ = "0.2.0"

_MODULES = {  # name -> the module that has it; ``__init__.pyi`` says the same to type checkers
    **dict.fromkeys(("Run", "Suite", "load"), "api.results"),
    **dict.fromkeys(("audit", "run", "suite"), "api.work"),
    **dict.fromkeys(("Comparison", "compare", "show"), "api.comparing"),
    "labels": "api.label_frames",
    **dict.fromkeys(("export", "predict", "score"), "api.bundles"),
    "log": "api.tracking",
    "report": "api.pages",
    **dict.fromkeys(("RunFailed", "UserError"), "errors"),
}
__all__ = ["__version__", *_MODULES]


class _Package(types.ModuleType):
    """The package, whose function `suite` stays what it is when the subpackage of that name is imported."""

    def __setattr__(self, name: str, value: object) -> None:
        if not (name in _MODULES and isinstance(value, types.ModuleType)):
            super().__setattr__(name, value)


def __getattr__(name: str) -> object:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
    setattr(sys.modules[__name__], name, value)  # so that this function is not called again
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


sys.modules[__name__].__class__ = _Package
offline.obey()
