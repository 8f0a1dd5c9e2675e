"""The parts of scripts/bench serve: what is started, what is asked, and what is made of it."""
