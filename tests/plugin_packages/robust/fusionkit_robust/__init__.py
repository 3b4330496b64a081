"""Training on wrong labels with fusionkit."""
