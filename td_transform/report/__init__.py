"""Report: one page on a model and its top-down network.

What other packages use is listed below; the modules are internal.
"""

from __future__ import annotations

from td_transform.report.page import write_report

__all__ = ["write_report"]
