"""Cross-stitch units for fusionkit."""
