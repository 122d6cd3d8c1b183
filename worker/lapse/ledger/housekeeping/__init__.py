"""What workers put in order between sweeps."""
