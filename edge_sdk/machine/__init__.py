"""What a machine says about itself: board, clocks, temperature, power; for reports and findings."""
