"""What is looked at: the site of all runs and the picture of one leaderboard."""

from meta_spliceai.experiments.report.figure import write_figure
from meta_spliceai.experiments.report.site import build_report

__all__ = ["build_report", "write_figure"]
