"""Models for use elsewhere: one file each, with preprocessing, calibration and the decision inside."""
