"""Fetching, converting, checking and drawing datasets: ``gatedcrf data``."""
