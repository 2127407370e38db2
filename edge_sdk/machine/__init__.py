"""Facts about the machine: board, clocks, temperature, power, load; for reports and findings."""
