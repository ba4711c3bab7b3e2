"""What a run reports: cycles by unit and cause, bounds, timelines."""
