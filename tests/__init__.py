"""The tests mirror the package; support/ contains helpers that several of them use."""
