"""Instance, judge and vocabulary: numpy, scipy and pydantic only, no modelling layer."""
