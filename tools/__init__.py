"""Programs for developers of this project, apart from the service and its tests."""
