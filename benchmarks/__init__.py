"""What things cost, beside what they could or would usually cost: scripts/bench NAME."""
