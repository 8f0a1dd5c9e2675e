"""The change feed: changes of members, as events for clients that follow them."""
