"""What things cost, measured beside the usual way of doing them."""
