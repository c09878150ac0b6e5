"""What dtfc costs, measured beside what others cost, in the same run."""
