"""Split fine-tuning that runs: codec, split model, loop, calibration. Needs the ``train`` extra."""
