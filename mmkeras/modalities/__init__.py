"""One package per type of column: reading, decoding, statistics and encoders."""
