"""Trained models in your own script.

::

    import gated_crf

    model = gated_crf.load("runs/photos/checkpoints/best.ckpt")
    classes = model.predict("photo.jpg")  # uint8 (H, W)
"""

from lightning_modules.predictor import Predictor, load

__all__ = ["Predictor", "load"]
