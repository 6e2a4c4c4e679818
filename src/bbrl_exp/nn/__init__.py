"""Networks: pure torch modules that know neither workspace nor agents."""
