"""Field plots for fusionkit."""
