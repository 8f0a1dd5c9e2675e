"""The resources: handlers translate between HTTP and the services."""
