"""Measurements that are run by hand: ``python -m playground bench NAME``."""
