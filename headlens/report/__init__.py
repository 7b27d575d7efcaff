"""The report: one HTML file that holds everything it shows, and opens offline."""

from headlens.report.content import ReportContent, Section
from headlens.report.write import render, write

__all__ = ["ReportContent", "Section", "render", "write"]
