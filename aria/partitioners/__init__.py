"""Partitioners: conditions to regions. One file each; ``fitted.py`` holds what they share."""

from aria.partitioners.bins import Bins, log_snr_edges
from aria.partitioners.conformance import check_partitioner
from aria.partitioners.describe import RegionSummary, describe, describe_table
from aria.partitioners.fitted import Fitted
from aria.partitioners.io import digest, load, save
from aria.partitioners.kmeans import KMeans
from aria.partitioners.labels import Labels
from aria.partitioners.one_region import OneRegion
from aria.partitioners.product import Product
from aria.partitioners.refine import refine
from aria.partitioners.tables import Members

__all__ = [
    "Bins",
    "Fitted",
    "KMeans",
    "Labels",
    "Members",
    "OneRegion",
    "Product",
    "RegionSummary",
    "check_partitioner",
    "describe",
    "describe_table",
    "digest",
    "load",
    "log_snr_edges",
    "refine",
    "save",
]
