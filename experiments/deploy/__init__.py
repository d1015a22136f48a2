"""``gatedcrf predict CHECKPOINT IMAGES`` and ``export``: a trained model without its run."""
