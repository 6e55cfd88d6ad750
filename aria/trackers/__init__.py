"""Trackers: noisy signals to one estimate per region. One file each; exporting the class is all it takes."""

from aria.trackers.bank import Bank
from aria.trackers.certificate_gain import CertificateGain
from aria.trackers.constant import Constant
from aria.trackers.discounted import Discounted
from aria.trackers.ema import EMA
from aria.trackers.kalman import Kalman
from aria.trackers.progress import Progress
from aria.trackers.second_moment import SecondMoment
from aria.trackers.ucb import DiscountedUCB, WindowUCB
from aria.trackers.window import Window

__all__ = [
    "EMA",
    "Bank",
    "CertificateGain",
    "Constant",
    "Discounted",
    "DiscountedUCB",
    "Kalman",
    "Progress",
    "SecondMoment",
    "Window",
    "WindowUCB",
]
